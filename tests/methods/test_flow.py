import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import look

import clbench
from clbench.data.batches import Batch, Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.errors import ClbenchError
from clbench.methods.base import Context
from clbench.methods.flow import FLOW, sample_weights
from clbench.methods.lora import LoRA
from clbench.models import features, head_names, tiny  # noqa: F401  (registers the tiny backbones)
from clbench.models.anchors import Anchor, Anchors
from clbench.models.folds import folds_of
from clbench.models.settings import Probe
from clbench.models.training import linear_probe
from clbench.recipe.recipe import parse
from clbench.report.compare import compare
from clbench.streams import Task
from clbench.weights import snapshot

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "flow.npz")
LOSSES, WEIGHTS = (torch.from_numpy(REFERENCE[name]) for name in ("losses", "weights"))
CLASSES = range(2, 5)


@pytest.mark.parametrize("temperature", [None, "median", float(REFERENCE["tau"])])
def test_weights_of_the_reference(temperature):
    torch.testing.assert_close(sample_weights(LOSSES, temperature), WEIGHTS, rtol=1e-15, atol=0)


def test_dro_is_the_opposite():
    product = sample_weights(LOSSES, 2.0) * sample_weights(LOSSES, 2.0, sign=-1)
    torch.testing.assert_close(product, torch.ones_like(LOSSES))


def test_infinite_temperature_is_neutral():
    assert torch.equal(sample_weights(LOSSES, math.inf), torch.ones_like(LOSSES))
    assert torch.equal(sample_weights(LOSSES, math.inf, sign=-1), torch.ones_like(LOSSES))


def test_median_of_an_even_number_is_the_mean_of_the_middle_two():
    losses = torch.tensor([4.0, 1.0, 2.0, 8.0])
    torch.testing.assert_close(sample_weights(losses), torch.exp(-losses / 3))


def test_negative_zeros_are_zeros():
    losses = torch.tensor([-0.0, -0.0, -0.0, 0.03])
    assert torch.equal(sample_weights(losses), torch.tensor([1.0, 1.0, 1.0, 0.0]))


def test_median_of_zero_is_the_limit():
    assert sample_weights(torch.tensor([0.0, 0.0, 0.0, 1.0])).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_out_of_range(temperature):
    with pytest.raises(ValueError, match="temperature must be positive, got"):
        sample_weights(LOSSES, temperature)


def test_sign_out_of_range():
    with pytest.raises(ValueError, match="sign must be"):
        sample_weights(LOSSES, 1.0, sign=0)


def make_context(probed, moved=False, width=8):
    """A task of classes 2…4 out of 6, whose samples are every second of 60 images."""
    torch.manual_seed(0)
    images = TensorImages(torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8))
    index = torch.arange(0, 60, 2)
    split = Split(images, index, torch.arange(30) % 3 + 2)
    model = timm.create_model("tiny_cnn", num_classes=6, width=width)
    pretrained = snapshot(model)
    if moved:
        with torch.no_grad():
            model.conv1.weight.mul_(-1)
    rows = torch.zeros(6, dtype=torch.bool)
    transform = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment(flip=True))
    losses = None
    if probed:
        with torch.no_grad():
            logits = model(transform.test(images.take(index)))[:, 2:5]
        losses = F.cross_entropy(logits, split.labels - 2, reduction="none")
    return Context(
        task=Task(1, "task", CLASSES, split, split, split),
        model=model,
        head=head_names(model),
        anchors=Anchors(Anchor(pretrained, rows), Anchor(snapshot(model), rows)),
        total_steps=1,
        reader=Reader(transform),
        losses=None,
        seed=0,
        batch_size=10,
        probe_losses=losses,
    )


def make_batch(context, index, labels):
    index, labels = torch.tensor(index), torch.tensor(labels)
    images = context.task.train.images.take(index)
    return Batch(images, labels, index, torch.rand(len(index), DRAWS), 1.0)


def passed(context, batch):
    return look(context.model, batch, context.transform.train(batch.images, batch.draws))


def test_probed_losses_are_used_and_others_weigh_1():
    context, method = make_context(probed=True), FLOW()
    method.start(context)
    batch = make_batch(context, [4, 5, 0], [4, 0, 2])  # image 5 is replayed
    expected = sample_weights(context.probe_losses)[[2, 0]]
    weights = method.weights(passed(context, batch))
    torch.testing.assert_close(weights, torch.stack([expected[0], torch.tensor(1.0), expected[1]]))
    activity = method.activity()
    all_weights = sample_weights(context.probe_losses)
    effective = all_weights.sum() ** 2 / (all_weights**2).sum() / 30
    assert activity["effective_sample_size"] == pytest.approx(float(effective), rel=1e-5)
    assert activity["mean_weight"] == pytest.approx(float(all_weights.mean()), rel=1e-5)
    assert activity["temperature"] == pytest.approx(np.median(context.probe_losses))
    assert activity["active"] == 1
    torch.testing.assert_close(method.histograms()["weights"], all_weights)


@pytest.mark.parametrize("reference", ["pretrained", "previous"])
@pytest.mark.parametrize("probed", [True, False])
@pytest.mark.parametrize("lora", [True, False])
def test_per_batch_weights_are_those_of_the_frozen_reference(reference, probed, lora):
    """Without augmentation, weights per batch are weights per sample."""
    context = make_context(probed, moved=True)
    context.transform.augment = Augment()
    if lora:
        plain = {**context.__dict__, "model": LoRA().surgery(context.model)}
        context = Context(**plain)
    once = FLOW(per="sample", reference=reference, temperature=1.0)
    always = FLOW(per="batch", reference=reference, temperature=1.0)
    once.start(context)
    always.start(context)
    with torch.no_grad():  # training goes on, the reference does not
        for parameter in context.model.parameters():
            parameter.add_(1.0)
    batch = make_batch(context, [0, 2, 7, 58], [2, 3, 5, 4])
    expected = once.weights(passed(context, batch))
    torch.testing.assert_close(always.weights(passed(context, batch)), expected)
    assert expected[2] == 1


def test_per_batch_follows_the_augmentation():
    context = make_context(probed=True)
    method = FLOW(per="batch", temperature=1.0)
    method.start(context)
    batch = make_batch(context, [0, 2, 4], [2, 3, 4])
    with torch.no_grad():
        logits = context.model(context.transform.train(batch.images, batch.draws))[:, 2:5]
    losses = F.cross_entropy(logits, batch.labels - 2, reduction="none")
    torch.testing.assert_close(method.weights(passed(context, batch)), torch.exp(-losses))
    method.finish(context)
    assert method.activity()["active"] == 1


def test_references_differ_once_the_trunk_has_moved():
    context = make_context(probed=True, moved=True)
    weights = []
    for reference in ("pretrained", "previous"):
        method = FLOW(reference=reference, temperature=1.0)
        method.start(context)
        weights.append(method.histograms()["weights"])
    torch.testing.assert_close(weights[1], torch.exp(-context.probe_losses))
    assert not torch.allclose(weights[0], weights[1])


def test_without_a_probed_head_flow_probes_one_and_leaves_the_model_alone():
    context = make_context(probed=False)
    before = snapshot(context.model)
    method = FLOW(probe={"epochs": 200, "lr": 0.1})
    method.start(context)
    assert method.activity()["temperature"] < math.log(3)  # better than chance
    assert all(torch.equal(x, before[n]) for n, x in context.model.state_dict().items())
    assert context.model.training


def test_neutral_does_nothing_at_all():
    context, method = make_context(probed=False), FLOW(temperature=math.inf, per="batch")
    batch, state = make_batch(context, [0], [2]), torch.random.get_rng_state()
    method.start(context)
    assert method.weights(passed(context, batch)) is None
    assert torch.equal(torch.random.get_rng_state(), state)
    assert method.activity() == {"active": 0.0}
    assert method.needs.copies == method.needs.passes == 0


def test_needs_follow_the_fields():
    assert (FLOW(per="batch").needs.copies, FLOW(per="batch").needs.passes) == (1, 1)
    assert (FLOW().needs.copies, FLOW().needs.passes) == (0, 0)


def test_dro_that_overflows_is_refused():
    method = FLOW(sign=-1, temperature=1e-3)
    with pytest.raises(ClbenchError, match=r"not finite .* τ = 0\.001: give a higher temperature"):
        method.start(make_context(probed=True))


def test_recipe_takes_an_infinite_temperature(recipe):
    values = recipe | {"methods": {"flow": {"temperature": math.inf}}}
    values["per_task"] = {"1": {"steps": 3}}
    parsed = parse(values)
    assert parsed.for_task("1").methods["flow"].temperature == math.inf


@pytest.mark.parametrize("wrong", [0, -1, "mean", math.nan])
def test_recipe_refuses_other_temperatures(recipe, wrong):
    with pytest.raises(ClbenchError, match=r"methods\.flow\.temperature"):
        parse(recipe | {"methods": {"flow": {"temperature": wrong}}})


def test_a_run_with_flow_per_batch_and_replay(recipe, tmp_path):
    methods = {"flow": {"per": "batch", "reference": "pretrained"}, "replay": {"fraction": 0.25}}
    recipe["model"]["head"] = "linear_probe"
    record = clbench.run(recipe | {"methods": methods}, tmp_path / "run")
    for event in record.tasks:
        assert 0.1 < event.methods["flow"]["effective_sample_size"] < 1


def heads_of(context, folds, seed=0):
    """A slow k-fold probe: a loop over folds, with a head trained on the others."""
    train, model = context.task.train, context.model.eval()
    with torch.no_grad():
        found = features(model, context.transform.test(train.images.take(train.index)))
    fold = folds_of(train.labels, folds, seed, 2)
    losses = torch.empty(len(train))
    for number in range(folds):
        kept = torch.tensor([int(k) != number for k in fold])
        head, _ = linear_probe(
            found[kept], train.labels[kept] - 2, 3, context.probe, seed, 2, number
        )
        for row in (~kept).nonzero().flatten().tolist():
            logits = head(found[row : row + 1])
            losses[row] = F.cross_entropy(logits, train.labels[row : row + 1] - 2)
    return fold, losses.detach()


@pytest.mark.parametrize("folds", [2, 5, 30])
def test_losses_out_of_fold_are_those_of_a_slow_loop(folds):
    context = make_context(probed=True)
    context = Context(**{**context.__dict__, "probe": Probe(epochs=30, lr=0.1)})
    method = FLOW(losses="out_of_fold", folds=folds, temperature=1.0)
    method.start(context)
    _, losses = heads_of(context, folds)
    torch.testing.assert_close(method.histograms()["weights"], torch.exp(-losses))
    assert not torch.allclose(losses, context.probe_losses)  # in the sample


def test_folds_are_even_and_of_every_class():
    labels = torch.tensor([0] * 7 + [1] * 8 + [2] * 5)
    fold = folds_of(labels, 4, 3)
    assert torch.bincount(fold).tolist() == [5, 5, 5, 5]
    for label in range(3):
        counts = torch.bincount(fold[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert torch.equal(fold, folds_of(labels, 4, 3))
    assert not torch.equal(fold, folds_of(labels, 4, 4))


def test_a_head_does_not_see_its_own_fold():
    """Labels that say nothing: in the sample they are learned by heart, out of it they are not."""
    context = make_context(probed=False, width=64)
    context = Context(**{**context.__dict__, "probe": Probe(epochs=1_000, lr=3.0, weight_decay=0)})
    inside, outside = FLOW(), FLOW(losses="out_of_fold")
    inside.start(context)
    outside.start(context)
    assert inside.activity()["fitted_share"] == 1
    assert outside.activity()["fitted_share"] < 0.7
    assert [remark.what for remark in inside.remarks()] == [
        "its temperature is at rounding level",
        "its probe fits all that it was trained on",
    ]
    assert "say losses: out_of_fold" in inside.remarks()[0].detail
    assert inside.activity()["scope"] == 0
    assert all("fits" not in remark.what for remark in outside.remarks())


def test_more_folds_than_images_are_refused():
    with pytest.raises(ClbenchError, match=r"flow\.folds = 31: task task has 30 training images"):
        FLOW(losses="out_of_fold", folds=31).start(make_context(probed=True))


def test_per_batch_out_of_fold_takes_each_sample_s_own_head():
    """Without augmentation it is the same as once per sample."""
    context = make_context(probed=True, moved=True)
    context.transform.augment = Augment()
    for reference in ("pretrained", "previous"):
        fields = {"losses": "out_of_fold", "temperature": 1.0, "reference": reference}
        once, always = FLOW(**fields), FLOW(per="batch", **fields)
        once.start(context)
        always.start(context)
        batch = make_batch(context, [0, 2, 7, 58], [2, 3, 5, 4])
        expected = once.weights(passed(context, batch))
        torch.testing.assert_close(always.weights(passed(context, batch)), expected)
        assert expected[2] == 1


def test_the_probe_is_the_run_s_unless_it_is_given():
    weights = []
    for probe in (Probe(), Probe(epochs=50, lr=0.5)):
        context = make_context(probed=False)
        context = Context(**{**context.__dict__, "probe": probe})
        for method in (FLOW(temperature=1.0), FLOW(temperature=1.0, probe=Probe())):
            method.start(context)
            weights.append(method.histograms()["weights"])
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[3])
    assert not torch.allclose(weights[2], weights[3])


def test_the_probe_passes_images_as_the_run_does(monkeypatch):
    sizes, context = [], make_context(probed=False)
    context = replace(context, reader=Reader(context.transform, 7, 0))
    real = context.model.forward_features
    monkeypatch.setattr(
        context.model, "forward_features", lambda x: sizes.append(len(x)) or real(x)
    )
    FLOW(reference="previous").start(context)
    assert sizes == [7, 7, 7, 7, 2]
    sizes.clear()
    FLOW(reference="previous", losses="out_of_fold").start(context)
    assert sizes == [7, 7, 7, 7, 2]


def run_batches(method, context, many):
    """The weights of batches, and what a slow implementation makes of the same losses."""
    losses = dict(
        zip(context.task.train.index.tolist(), context.probe_losses.tolist(), strict=True)
    )
    seen, found, expected = {}, [], []
    for index, labels in many:
        batch = make_batch(context, index, labels)
        found.append(method.weights(passed(context, batch)))
        own = {i: losses[i] for i in index if i in losses}
        seen |= own
        pool = list((own if method.temperature == "batch_median" else seen).values())
        tau = float(np.median(pool)) if pool else math.nan
        expected.append(torch.tensor([math.exp(-own[i] / tau) if i in own else 1 for i in index]))
    return found, expected


MANY = [
    ([0, 2, 4, 5], [2, 3, 4, 0]),  # image 5 is replayed
    ([6, 8], [2, 3]),
    ([7], [0]),  # replayed ones alone have no median, and need none
    ([0, 2, 10, 12, 14], [2, 3, 4, 2, 3]),
]


@pytest.mark.parametrize("temperature", ["batch_median", "running_median"])
def test_moving_medians_are_those_of_a_slow_loop(temperature):
    context, method = make_context(probed=True), FLOW(temperature=temperature)
    for _ in range(2):  # nothing outlives a task
        method.start(context)
        found, expected = run_batches(method, context, MANY)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, check_dtype=False)
        method.finish(context)
        assert method.activity()["temperature"] > 0


def test_a_running_median_over_all_samples_is_the_task_s():
    context = make_context(probed=True)
    whole, running = FLOW(), FLOW(temperature="running_median")
    whole.start(context)
    running.start(context)
    index, labels = context.task.train.index.tolist(), context.task.train.labels.tolist()
    for part in (slice(0, 20), slice(20, 30)):
        running.weights(passed(context, make_batch(context, index[part], labels[part])))
    batch = make_batch(context, [0, 2, 4], [2, 3, 4])
    expected = whole.weights(passed(context, batch))
    torch.testing.assert_close(running.weights(passed(context, batch)), expected)


@pytest.mark.parametrize("temperature", ["batch_median", "running_median"])
def test_moving_medians_of_augmented_batches_take_the_latest_loss(temperature):
    context = make_context(probed=True)
    method = FLOW(per="batch", temperature=temperature)
    method.start(context)
    latest = {}
    for _ in range(3):
        batch = make_batch(context, [0, 2, 4], [2, 3, 4])
        with torch.no_grad():
            logits = context.model(context.transform.train(batch.images, batch.draws))[:, 2:5]
        losses = F.cross_entropy(logits, batch.labels - 2, reduction="none")
        latest |= dict(zip([0, 2, 4], losses.tolist(), strict=True))
        expected = torch.exp(-losses / float(np.median(list(latest.values()))))
        torch.testing.assert_close(method.weights(passed(context, batch)), expected)


def test_shuffled_weights_are_the_same_ones_dealt_at_random():
    context = make_context(probed=True)
    plain, dealt, again = FLOW(), FLOW(shuffled=True), FLOW(shuffled=True)
    for method in (plain, dealt, again):
        method.start(context)
    ours, theirs = plain.histograms()["weights"], dealt.histograms()["weights"]
    assert not torch.equal(ours, theirs)
    assert torch.equal(ours.sort().values, theirs.sort().values)
    assert torch.equal(theirs, again.histograms()["weights"])
    dealt.start(Context(**{**context.__dict__, "seed": context.seed + 1}))
    assert not torch.equal(theirs, dealt.histograms()["weights"])
    assert plain.activity()["mean_weight"] == pytest.approx(dealt.activity()["mean_weight"])


@pytest.mark.parametrize("fields", [{"per": "batch"}, {"temperature": "running_median"}])
def test_weights_that_move_are_not_shuffled(recipe, fields):
    with pytest.raises(ClbenchError, match="shuffled deals weights out once"):
        parse(recipe | {"methods": {"flow": {"shuffled": True} | fields}})


def test_a_process_without_samples_of_its_own_does_not_count():
    context, method = make_context(probed=True), FLOW(temperature="running_median")
    method.start(context)
    batch = make_batch(context, [0, 2], [2, 3])._replace(share=0.0)
    method.weights(passed(context, batch))
    assert method.activity()["temperature"] == pytest.approx(np.median(context.probe_losses))


@pytest.mark.parametrize(
    ("losses", "fields", "what", "scope"),
    [
        ([1e-7, 2e-7, 3e-7, 5.0], {}, "its temperature is at rounding level", 0),
        ([0, 0, 1e-5, 4e-5], {"temperature": 1e-4}, "its temperature is at rounding level", 0),
        ([0.0, *[5.0] * 39], {"temperature": 0.1}, "its weights leave few samples", 0),
        ([0.0, *[5.0] * 39], {"temperature": 0.1, "sign": -1}, None, None),
        ([*[0.1] * 29, 5.0], {"temperature": 0.1, "sign": -1}, "its weights leave few samples", 0),
        ([0.3, 0.3, 0.3, 0.9], {}, None, None),
        ([0.7, 0.7, 0.7, 0.7], {}, None, 0),  # all weigh alike: plain fine-tuning at a lower rate
    ],
)
def test_what_it_says_of_its_weights(losses, fields, what, scope):
    context = make_context(probed=True)
    losses = torch.tensor(losses).repeat(8)[:30] if len(losses) < 30 else torch.tensor(losses)[:30]
    method = FLOW(**fields)
    method.start(Context(**{**context.__dict__, "probe_losses": losses}))
    told = [remark.what for remark in method.remarks() if "fits" not in remark.what]
    assert told == ([what] if what else [])
    w = torch.exp(-method.sign * losses.double() / method.activity()["temperature"])
    left = 1 - float(w.sum() ** 2 / (w**2).sum() / 30)
    assert method.activity()["scope"] == pytest.approx(left if scope is None else scope, abs=1e-6)


def test_a_run_says_that_its_temperature_is_rounding(recipe, tmp_path, no_pictures, capsys):
    """As many features as images: on the screen, in the record and in the report."""
    recipe["stream"] = {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 10}
    recipe["model"] |= {"head": "linear_probe", "probe": {"epochs": 1_000, "lr": 3.0}}
    folder = tmp_path / "run"
    record = clbench.run(recipe | {"methods": {"flow": {}}}, folder)
    told = capsys.readouterr().out
    assert "Warning: flow, task 4, 5: its probe fits all that it was trained on" in told
    for event in record.tasks:
        assert {remark.method for remark in event.remarks} == {"flow"}
    comparison = compare([folder])
    lines = [line for section in comparison.sections for line in section.warnings]
    assert any(line.startswith("Method flow: its probe fits all") for line in lines)
    if record.summary()["ineffective"]:
        assert any("Method flow could do next to nothing" in line for line in lines)


@pytest.mark.parametrize("head", ["random", "linear_probe"])
def test_out_of_fold_on_statistics_that_a_probe_has_moved(recipe, tmp_path, no_pictures, head):
    """As BatchNorm's statistics move once for all folds, folds after a probe of the run's own."""
    probe = {"epochs": 2, "batch_size": 16, "batch_norm": "train"}
    recipe["model"] = {"backbone": "resnet10t", "weights": "none", "head": head, "probe": probe}
    recipe["images"] = {"size": 16}
    recipe["stream"] = {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20}
    found = {}
    for per in ("sample", "batch"):
        methods = {"flow": {"losses": "out_of_fold", "folds": 3, "per": per}}
        record = clbench.run(recipe | {"methods": methods}, tmp_path / per)
        found[per] = record.tasks[0].methods["flow"]
        # Trunk and head start as without FLOW.
        assert record.tasks[0].methods["flow"]["active"] == 1
    assert found["sample"]["temperature"] == pytest.approx(found["batch"]["temperature"], rel=1e-5)


def test_out_of_fold_with_statistics_that_only_flow_moves(recipe, tmp_path, no_pictures):
    """A run's probe that leaves statistics alone is none that has moved them for FLOW's."""
    recipe["images"] = {"size": 16}
    recipe["stream"] = {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20}
    taus = {}
    for head, rule in (("linear_probe", "train"), ("random", "train"), ("linear_probe", "eval")):
        probe = {"epochs": 2, "batch_size": 16}
        recipe["model"] = {"backbone": "resnet10t", "weights": "none", "head": head, "probe": probe}
        flow = {"losses": "out_of_fold", "folds": 3, "probe": probe | {"batch_norm": rule}}
        record = clbench.run(recipe | {"methods": {"flow": flow}}, tmp_path / f"{head}-{rule}")
        taus[head, rule] = record.tasks[0].methods["flow"]["temperature"]
    assert taus["linear_probe", "train"] == pytest.approx(taus["random", "train"], rel=1e-5)
    assert taus["linear_probe", "train"] != pytest.approx(taus["linear_probe", "eval"], rel=1e-3)
