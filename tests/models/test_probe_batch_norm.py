"""A head that is trained while BatchNorm's statistics move, as in the authors' program of FLOW."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import comparable, interrupt_after
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.errors import ClbenchError
from clbench.methods import flow
from clbench.methods.base import Context
from clbench.methods.flow import FLOW
from clbench.methods.head_refit import HeadRefit
from clbench.models import head_names
from clbench.models.anchors import Anchor, Anchors
from clbench.models.batch_norm import statistics
from clbench.models.settings import Probe
from clbench.models.training import train_head
from clbench.seeding import generator, seed_everything
from clbench.streams import Task
from clbench.sweep.sweeping import sweep
from clbench.weights import snapshot

CLASSES = range(2, 5)
RULES = Probe(epochs=3, lr=0.2, momentum=0.8, weight_decay=0.01, batch_size=8, batch_norm="train")


class SlowImages(TensorImages):
    slow = True


@pytest.fixture
def network():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=6).train()


def make_task(count=20, size=32):
    torch.manual_seed(1)
    images = SlowImages(torch.randint(0, 256, (2 * count, 3, size, size), dtype=torch.uint8))
    split = Split(images, torch.arange(0, 2 * count, 2), torch.arange(count) % 3 + 2)
    return Task(0, "task", CLASSES, split, split, split)


def transform(size=32):
    changes = Augment(flip=True, crop="pad", jitter=0.3)
    return Transform(size, (0.5,) * 3, (0.5,) * 3, changes)


def obvious(model, task, rules, start, keys):
    """The whole network in training mode, of which only the head is trained."""
    network, split = copy.deepcopy(model).train(), task.train
    network.fc = copy.deepcopy(start).requires_grad_(True)
    optimizer = torch.optim.SGD(
        network.fc.parameters(), rules.lr, rules.momentum, weight_decay=rules.weight_decay
    )
    random = generator(*keys)
    for parameter in start.parameters():  # the head that is drawn where none is given
        torch.rand(parameter.shape, generator=random)
    pixels, labels = split.images.take(split.index), split.labels - CLASSES.start
    for epoch in range(rules.epochs):
        draws = torch.rand(len(split), DRAWS, generator=generator(*keys, 1 + epoch))
        for chosen in torch.randperm(len(split), generator=random).split(rules.batch_size):
            images = pixels[chosen]
            inputs = (
                transform().train(images, draws[chosen])
                if rules.augment
                else transform().test(images)
            )
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), labels[chosen]).backward()
            optimizer.step()
    with torch.no_grad():
        logits = network.eval()(transform().test(pixels))
    return network, F.cross_entropy(logits, labels, reduction="none")


@pytest.mark.parametrize("augment", [False, True])
def test_head_statistics_and_losses_are_those_of_a_plain_loop(network, augment):
    rules, task = RULES.model_copy(update={"augment": augment}), make_task()
    torch.manual_seed(2)
    start, before = nn.Linear(network.fc.in_features, 3), snapshot(network)
    wanted, losses = obvious(network, task, rules, start, (3, 1))
    head, found = train_head(
        network, task, Reader(transform(), workers=2), rules, 3, 1, start=start
    )
    for name in ("weight", "bias"):
        assert not torch.equal(getattr(head, name), getattr(start, name))
        torch.testing.assert_close(
            getattr(head, name), getattr(wanted.fc, name).detach(), rtol=1e-4, atol=1e-5
        )
    torch.testing.assert_close(found, losses, rtol=1e-4, atol=1e-5)
    moved = set(statistics(network))
    after = wanted.state_dict()
    for name, x in network.state_dict().items():
        if name in moved:
            torch.testing.assert_close(x, after[name])
            assert not torch.equal(x, before[name])
        else:
            assert torch.equal(x, before[name])
    assert all(module.training for module in network.modules())


def test_a_network_without_batch_normalisation_is_probed_as_ever():
    torch.manual_seed(0)
    model = timm.create_model("tiny_vit", num_classes=6, img_size=32)
    results = [
        train_head(model, make_task(), Reader(transform()), rules, 3)
        for rules in (RULES, RULES.model_copy(update={"batch_norm": "eval"}))
    ]
    torch.testing.assert_close(results[0][0].weight, results[1][0].weight)
    torch.testing.assert_close(results[0][1], results[1][1])


def test_no_image_is_alone_in_a_batch():
    """Of 17 images in batches of 8, one is left, which deep layers would see as a single value."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=6)
    train_head(model, make_task(17, 16), Reader(transform(16)), RULES, 0)
    assert all(n == 2 * 3 for name, n in model.state_dict().items() if "num_batches" in name)
    alone = RULES.model_copy(update={"batch_size": 1})
    with pytest.raises(ClbenchError, match=r"batch_size = 1 and 17 .* at least 2") as caught:
        train_head(model, make_task(17, 16), Reader(transform(16)), alone, 0)
    assert "\n" not in str(caught.value)


def make_context(model, probe=RULES):
    rows = torch.zeros(6, dtype=torch.bool)
    anchor = Anchor(snapshot(model), rows)
    return Context(
        task=make_task(),
        model=model,
        head=head_names(model),
        anchors=Anchors(anchor, anchor),
        total_steps=1,
        reader=Reader(transform()),
        losses=None,
        seed=3,
        batch_size=10,
        probe=probe,
    )


def test_the_second_round_has_the_statistics_that_its_head_was_trained_on(network):
    context = make_context(network)
    theta = snapshot(network)
    before = {name: x.clone() for name, x in theta.items()}
    refit = HeadRefit().deploy(theta, context)
    start = nn.Linear(network.fc.in_features, 3)
    start.load_state_dict({k: theta[f"fc.{k}"][2:5] for k in ("weight", "bias")})
    wanted, _ = obvious(network, context.task, RULES, start, (3, 1))
    after, moved = wanted.state_dict(), set(statistics(network))
    for name, x in refit.items():
        if name in moved:
            torch.testing.assert_close(x, after[name])
        elif name in context.head:
            torch.testing.assert_close(x[2:5], after[name], rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(x, before[name])
    assert all(torch.equal(theta[name], x) for name, x in before.items())
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_a_probe_of_flow_alone_moves_nothing_of_the_run(network, per):
    context, before = make_context(network), snapshot(network)
    method = FLOW(per=per, probe=RULES, temperature=1.0)
    method.start(context)
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    other = copy.deepcopy(network)
    _, losses = train_head(other, context.task, Reader(transform()), RULES, 3)
    torch.testing.assert_close(method.histograms()["weights"], torch.exp(-losses))


@pytest.fixture
def probed(recipe, no_pictures):
    """Two tasks whose heads are probed while BatchNorm moves; the trunk stands still."""
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 20, "test_per_class": 5}
    recipe["model"] = {
        "backbone": "resnet10t",
        "weights": "none",
        "head": "linear_probe",
        "probe": {"epochs": 2, "batch_size": 8, "batch_norm": "train"},
    }
    recipe["optimizer"] = {"lr": 0.01}
    return recipe | {"images": {"size": 16}, "batch_size": 8, "steps": 3}


def test_a_task_starts_where_its_probe_ended(probed, tmp_path, monkeypatch):
    """FLOW takes the probe's losses; of a frozen trunk only the statistics move, in the probe."""

    def forbidden(*_, **__):
        raise AssertionError("FLOW probes a head of its own")

    monkeypatch.setattr(flow, "train_head", forbidden)
    methods = {"flow": {"reference": "previous"}, "linear_probe": {}}
    record = clbench.run(probed | {"methods": methods}, tmp_path / "run")
    assert record.tasks[0].methods["flow"]["active"] == 1
    # FLOW from θ_* too, in the first task: its trunk is θ_*, but for the statistics.
    probed["stream"] |= {"classes": [[4, 5]]}
    clbench.run(probed | {"methods": {"flow": {}, "linear_probe": {}}}, tmp_path / "first")
    seed_everything(0)
    fresh = timm.create_model("resnet10t", num_classes=4)
    before, moved = fresh.state_dict(), set(statistics(fresh))
    after = load_file(tmp_path / "run" / "model.safetensors")
    for name in after.keys() - {"fc.weight", "fc.bias"}:
        assert torch.equal(after[name], before[name]) is (name not in moved)
    # 2 tasks · 2 epochs · 32 or 36 of 40 images in batches of 8 (some are held out)
    counts = {int(x) for name, x in after.items() if name.endswith("num_batches_tracked")}
    assert len(counts) == 1
    assert counts.pop() >= 2 * 2 * 4


def test_resumes_bit_for_bit_and_sweeps(probed, tmp_path, monkeypatch):
    methods = {"flow": {}, "wise_ft": {"anchor": "previous", "new_rows": "average"}}
    probed |= {"methods": methods | {"head_refit": {}}, "checkpoints": "all"}
    whole = clbench.run(probed, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(probed, tmp_path / "cut")
    cut = clbench.run(probed, tmp_path / "cut", resume=True)
    assert comparable(cut) == comparable(whole)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(x, two[name]) for name, x in one.items())
    for anchor in ("previous", "pretrained"):
        probed["methods"]["wise_ft"]["anchor"] = anchor
        record = clbench.run(probed, tmp_path / anchor)
        assert sweep(record.folder, "alpha", [0.5], by="task_incremental").reproduced
