import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F

import clbench
from clbench.anchors import Anchor, Anchors
from clbench.data.batches import Batch, Split
from clbench.data.images import TensorImages
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.errors import ClbenchError
from clbench.method import Context
from clbench.methods.flow import FLOW, sample_weights
from clbench.methods.lora import LoRA
from clbench.models import head_names, tiny  # noqa: F401  (registers the tiny backbones)
from clbench.recipe import parse
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


def make_context(probed, moved=False):
    """A task of classes 2…4 out of 6, whose samples are every second of 60 images."""
    torch.manual_seed(0)
    images = TensorImages(torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8))
    index = torch.arange(0, 60, 2)
    split = Split(images, index, torch.arange(30) % 3 + 2)
    model = timm.create_model("tiny_cnn", num_classes=6, width=8)
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
        transform=transform,
        losses=None,
        seed=0,
        batch_size=10,
        probe_losses=losses,
    )


def make_batch(context, index, labels):
    index, labels = torch.tensor(index), torch.tensor(labels)
    images = context.task.train.images.take(index)
    return Batch(images, labels, index, torch.rand(len(index), DRAWS), 1.0)


def test_probed_losses_are_used_and_others_weigh_1():
    context, method = make_context(probed=True), FLOW()
    method.start(context)
    batch = make_batch(context, [4, 5, 0], [4, 0, 2])  # image 5 is replayed
    expected = sample_weights(context.probe_losses)[[2, 0]]
    weights = method.weights(batch, torch.zeros(3))
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
    expected = once.weights(batch, torch.zeros(4))
    torch.testing.assert_close(always.weights(batch, torch.zeros(4)), expected)
    assert expected[2] == 1


def test_per_batch_follows_the_augmentation():
    context = make_context(probed=True)
    method = FLOW(per="batch", temperature=1.0)
    method.start(context)
    batch = make_batch(context, [0, 2, 4], [2, 3, 4])
    with torch.no_grad():
        logits = context.model(context.transform.train(batch.images, batch.draws))[:, 2:5]
    losses = F.cross_entropy(logits, batch.labels - 2, reduction="none")
    torch.testing.assert_close(method.weights(batch, torch.zeros(3)), torch.exp(-losses))
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
    assert method.weights(batch, torch.zeros(1)) is None
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
    for event in record.events:
        if event["event"] == "task":
            assert 0.1 < event["methods"]["flow"]["effective_sample_size"] < 1
