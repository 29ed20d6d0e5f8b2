"""What people expect of training beside methods: each does what its library does, or is refused."""

import copy
import math
from typing import ClassVar

import numpy as np
import pytest
import timm
import torch
import torch._dynamo
import torch.nn.functional as F
from helpers import RECIPE, comparable, interrupt_after
from safetensors.torch import load_file
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.utils import ModelEmaV3
from torch import nn
from torchvision.transforms import v2

import clbench
from clbench.data import batches as batches_file
from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import TensorImages
from clbench.data.mixing import Mixer, Partners, box_of, mix_inputs
from clbench.data.randaugment import OPERATIONS, randaugment
from clbench.data.transforms import DRAWS, Augment, Transform, erase
from clbench.errors import ClbenchError
from clbench.estimate.estimating import estimate
from clbench.learner import learner as learner_file
from clbench.learner.learner import Learner
from clbench.method import Method
from clbench.methods import METHODS
from clbench.models.average import MovingAverage
from clbench.models.loss import ClassLoss, smoothed
from clbench.models.modes import checkpoint_gradients
from clbench.recipe.foreseen import stopped_by_scored
from clbench.recipe.recipe import merge, parse
from clbench.seeding import generator, more_draws

SMALL = {
    "stream": {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20},
    "model": {"weights": "none"},
}
VIT = {"model": {"backbone": "tiny_vit", "options": {}, "weights": "none"}, "images": {"size": 16}}


@pytest.fixture
def go(recipe, tmp_path, no_pictures):
    """Run a small recipe: its record and its weights."""
    count = iter(range(99))

    def run(*changes, resume=None, **fields):
        values = merge(copy.deepcopy(recipe), SMALL)
        for change in (*changes, fields):
            values = merge(values, change)
        folder = resume or tmp_path / str(next(count))
        record = clbench.run(values, folder, resume=bool(resume))
        return record, load_file(folder / "model.safetensors")

    return run


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_label_smoothing_is_torchs_among_the_admitted_classes():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4, requires_grad=True), torch.tensor([2, 3, 2, 2, 3, 3])
    owner = torch.tensor([0, 0, 1, 1])
    losses = ClassLoss("task", labels.unique(), owner, torch.ones(4) > 0, 0.2)(logits, labels)
    peer = F.cross_entropy(logits[:, 2:], labels - 2, reduction="none", label_smoothing=0.2)
    assert torch.allclose(losses, peer)
    losses.sum().backward()
    assert not logits.grad[:, :2].any()
    every = smoothed(logits.detach(), labels, 0.3)
    peer = F.cross_entropy(logits.detach(), labels, reduction="none", label_smoothing=0.3)
    assert torch.allclose(every, peer)


def test_more_draws_are_uniform_and_of_their_own():
    draws = torch.rand(4000, DRAWS, generator=generator(1))
    more = more_draws(draws, 6)
    assert ((more >= 0) & (more < 1)).all()
    assert torch.equal(more[7:9], more_draws(draws[7:9], 6))
    assert torch.equal(more[:, 2:], more_draws(draws, 4, first=2))
    found = np.corrcoef(np.concatenate([more, draws], 1).T) - np.eye(6 + DRAWS)
    assert np.abs(found).max() < 0.07
    for column in more.T:
        counts = torch.histc(column, 10, 0, 1)
        assert (counts - 400).abs().max() < 100  # five standard deviations


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_operations_are_torchvisions(magnitude):
    torch.manual_seed(0)
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    peer = v2.RandAugment(1, magnitude)
    for name, (make, signed) in peer._AUGMENTATION_SPACE.items():
        values = make(31, 32, 32)
        value = 0.0 if values is None else float(values[magnitude])
        assert OPERATIONS[name][0] == signed
        for sign in (1, -1) if signed else (1,):
            theirs = peer._apply_image_or_video_transform(
                images, name, sign * value, interpolation=peer.interpolation, fill=peer._fill
            )
            ours = OPERATIONS[name][1](images, sign * magnitude / 30)
            assert (ours.int() - theirs.int()).abs().max() <= 1, name  # roundings of a float


def test_images_have_operations_of_their_own():
    torch.manual_seed(0)
    images = torch.randint(256, (1, 3, 16, 16), dtype=torch.uint8).expand(300, -1, -1, -1)
    draws = torch.rand(300, 4)
    done = randaugment(images, 15, draws)
    assert len({image.numpy().tobytes() for image in done}) > 60
    for one in (0, 17, 203):  # whatever else is in the batch
        assert torch.equal(done[one], randaugment(images[:1], 15, draws[one : one + 1])[0])


def test_erasing_is_as_timm_erases():
    torch.manual_seed(0)
    inputs, draws = torch.ones(4000, 1, 20, 20), torch.rand(4000, 5)
    ours = erase(inputs, 0.4, draws)
    theirs = RandomErasing(0.4, device="cpu")(inputs.clone())
    for image in ours[(ours == 0).flatten(1).any(1)][:50, 0]:
        rows, columns = (image == 0).any(1).sum(), (image == 0).any(0).sum()
        assert (image == 0).sum() == rows * columns  # one box
    found = [
        [float(part.float().mean()) for part in (gone.flatten(1).any(1), gone, gone[:, :, 10])]
        for gone in (ours == 0, theirs == 0)
    ]
    assert found[0] == pytest.approx(found[1], abs=0.03)
    assert torch.equal(erase(inputs, 0.0, draws), inputs)


def test_augmentation_is_the_same_whatever_the_batch():
    rules = Augment(randaugment=2, erasing=0.5, crop="resized", jitter=0.3, flip=True)
    transform = Transform(12, (0.5,) * 3, (0.5,) * 3, rules)
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8)
    draws = torch.rand(8, DRAWS)
    whole = transform.train(images, draws)
    assert torch.allclose(whole[1::3], transform.train(images[1::3], draws[1::3]), atol=1e-5)


def partners_of(images, kept, centre):
    return Partners(images, None, None, kept, centre)


def test_mixtures_are_timms():
    torch.manual_seed(0)
    inputs = torch.randn(4, 3, 8, 8)
    others = inputs.flip(0)
    mixed, kept = mix_inputs(inputs, others, partners_of(None, 0.3, None))
    peer = Mixup(mixup_alpha=1.0, num_classes=4, label_smoothing=0.0)
    peer._params_per_batch = lambda: (0.3, False)
    theirs, targets = peer(inputs.clone(), torch.arange(4))
    assert torch.allclose(mixed, theirs, atol=1e-6)
    own = F.one_hot(torch.arange(4), 4)
    smooth = kept * own + (1 - kept) * own.flip(0)
    assert torch.allclose(smooth, targets)
    mixed, kept = mix_inputs(inputs, others, partners_of(None, 0.75, (0.5, 0.5)))
    assert kept == 0.75
    assert torch.equal(mixed[..., 2:6, 2:6], others[..., 2:6, 2:6])
    mixed[..., 2:6, 2:6] = inputs[..., 2:6, 2:6]
    assert torch.equal(mixed, inputs)
    rows, columns = box_of(0.75, (0.0, 0.99), 8)
    assert (rows, columns) == (slice(0, 2), slice(6, 8))  # cut off at the border
    assert mix_inputs(inputs, others, partners_of(None, 0.75, (0.0, 0.99)))[1] == 1 - 4 / 64


def test_what_a_mixer_draws():
    mixer = Mixer(0.8, 1.0, 1, 2)
    drawn = [mixer.next(5) for _ in range(400)]
    assert all(sorted(order.tolist()) == list(range(5)) for order, _, _ in drawn)
    boxes = [centre is not None for _, _, centre in drawn]
    assert 150 < sum(boxes) < 250
    assert all(centre is None for _, _, centre in (Mixer(0.5, 0, 3).next(2) for _ in range(9)))
    assert all(centre for _, _, centre in (Mixer(0, 0.5, 3).next(2) for _ in range(9)))
    assert np.mean([kept for _, kept, _ in drawn]) == pytest.approx(0.5, abs=0.05)


def test_all_processes_mix_the_same(monkeypatch):
    """What one process does with a batch, three do together, with the same images and order."""
    pixels = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(-1, 3, 2, 2)
    split = Split(TensorImages(pixels.contiguous()), torch.arange(20), torch.arange(20) % 4)
    rules = Augment(mixup=1.0, cutmix=1.0)

    def drawn(rank, world, augment=rules):
        monkeypatch.setattr(batches_file, "rank_and_world", lambda: (rank, world))
        made = Batches(Examples(split), 8, (0,), augment=augment)
        return [batch for _ in range(2) for batch in made]

    whole = drawn(0, 1)
    parts = [drawn(rank, 3) for rank in range(3)]
    for number, batch in enumerate(whole):
        theirs = batch.partners
        for rank in range(3):
            part = parts[rank][number]
            other = part.partners
            if not part.share:
                continue
            assert torch.equal(part.indices, batch.indices[rank::3])
            assert torch.equal(other.images, theirs.images[rank::3])
            assert torch.equal(other.labels, theirs.labels[rank::3])
            assert torch.equal(other.draws, theirs.draws[rank::3])
            assert other[3:] == theirs[3:]
        order = {int(i): n for n, i in enumerate(batch.indices)}
        where = [order[int(image[0, 0, 0])] for image in theirs.images]
        assert torch.equal(batch.draws[where], theirs.draws)
        assert torch.equal(batch.labels[where], theirs.labels)
    for plain, batch in zip(drawn(0, 1, None), whole, strict=True):
        assert plain.partners is None
        assert torch.equal(plain.indices, batch.indices)
        assert torch.equal(plain.draws, batch.draws)


def unmixed(self, count):
    return torch.arange(count).flip(0), 1.0, None


def test_a_mixed_step_has_the_loss_of_both_labels(go, monkeypatch):
    """And of one label where λ is 1: then a run is that without mixtures."""
    record, one = go(augment={"mixup": 1.0})
    assert record.tasks[0].loss > 0
    _, again = go(augment={"mixup": 1.0})
    _, plain = go()
    assert equal(one, again)
    assert not equal(one, plain)
    _, boxes = go(augment={"cutmix": 1.0}, methods={"replay": {"fraction": 0.25}})
    assert not equal(one, boxes)
    monkeypatch.setattr(Mixer, "next", unmixed)
    _, alone = go(augment={"mixup": 1.0})
    assert all(torch.allclose(alone[name], plain[name], atol=1e-5) for name in plain)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"augment": {"mixup": 0.8}, "methods": {"flow": {}}}, "flow looks at single samples"),
        ({"augment": {"cutmix": 1}, "methods": {"flow": {}}}, "set both to 0"),
        (
            {"early_stopping": {"every": 2}, "methods": {"sfa": {}}},
            "sfa acts at steps that it counts",
        ),
        (
            {"early_stopping": {"every": 2}, "schedule": {"over": "stream"}},
            "early_stopping.every needs schedule.over: task",
        ),
        (
            {"early_stopping": {"every": 2}, "stream": {"name": "split_digits", "validation": 0}},
            "stream.validation above 0",
        ),
        ({"ema": 1.0}, "ema"),
        ({"label_smoothing": 1}, "label_smoothing"),
        (
            {"methods": {"flow": {}}, "per_task": {"4, 5": {"augment": {"mixup": 1}}}},
            "flow looks at single samples",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(fields, words):
    with pytest.raises(ClbenchError) as error:
        parse(RECIPE | fields)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_moving_average_is_timms():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours, theirs = MovingAverage(model, 0.9), ModelEmaV3(model, 0.9)
    for _ in range(5):
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        model(torch.randn(8, 3))
        ours.update(model)
        theirs.update(model)
    ours.give(model)
    for name, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(model.state_dict()[name], value, atol=1e-6)


def test_a_task_ends_with_the_average_and_the_next_starts_from_it(go, tmp_path, monkeypatch):
    _, plain = go(steps=1)
    _, mean = go(steps=1, ema=0.75, stream={"classes": [[4, 5]]})
    _, one = go(steps=1, stream={"classes": [[4, 5]]})
    start = go(steps=1, stream={"classes": [[4, 5]]}, optimizer={"lr": 1e-30})[1]
    for name in ("fc.weight", "fc.bias"):
        expected = start[name] + 0.25 * (one[name] - start[name])
        assert torch.allclose(mean[name], expected, atol=1e-6)
    whole, weights = go(ema=0.9)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            go(ema=0.9)
    record, again = go(ema=0.9, resume=tmp_path / "5")
    assert equal(weights, again)
    assert comparable(record) == comparable(whole)
    assert not equal(weights, plain)


def test_checkpointed_gradients_are_the_same_ones(go):
    _, plain = go(VIT)
    record, less = go(VIT, model={"checkpointing": True})
    assert all(torch.allclose(plain[name], less[name], atol=1e-5) for name in plain)
    assert record.finished
    with pytest.raises(ClbenchError, match="not for this one"):
        go(model={"checkpointing": True})
    model = timm.create_model("resnet10t", num_classes=2)
    with pytest.raises(ClbenchError, match="BatchNorm"):
        checkpoint_gradients(model, True)


def test_compiled_steps_are_the_same_ones(go):
    _, plain = go(steps=2)
    _, compiled = go(steps=2, model={"compile": "eager"}, methods={"l2": {"strength": 0}})
    assert all(torch.allclose(plain[name], compiled[name], atol=1e-5) for name in plain)
    with pytest.raises(ClbenchError, match="no_such_backend"):
        go(steps=2, model={"compile": "no_such_backend"})


def test_every_step_runs_a_compiled_graph(go, monkeypatch):
    """Nothing within the forward pass has it compiled anew."""
    compiled, calls = [], []

    def counting(graph, inputs):
        compiled.append(graph)
        return lambda *given: calls.append(graph) or graph.forward(*given)

    monkeypatch.setattr(torch._dynamo.config, "cache_size_limit", 4)
    fields = {"steps": 6, "methods": {"l2": {"strength": 0.1}}}  # looks at features, too
    plain, _ = go(fields)
    torch._dynamo.reset()
    torch._dynamo.register_backend(counting, "counting")
    record, _ = go(fields, model={"compile": "counting"})
    assert len(compiled) <= 3
    assert len(calls) == 1 + 2 * 6  # one before the run
    for ours, theirs in zip(record.tasks, plain.tasks, strict=True):
        counts = [(part.trained, part.passed) for part in ours.parts.values()]
        assert counts == [(part.trained, part.passed) for part in theirs.parts.values()]


@pytest.mark.parametrize("methods", [{"lwf": {}}, {"der_pp": {"size": 30}}, {"flow": {}}])
def test_what_methods_see_of_a_compiled_pass(go, methods):
    """Features, logits and the network itself, which DER++ asks once more."""
    fields = {"steps": 3, "methods": methods, "train_logits": "all"}
    plain, weights = go(fields)
    compiled, ours = go(fields, model={"compile": "aot_eager"})
    assert all(torch.allclose(weights[name], ours[name], atol=1e-5) for name in weights)
    for one, two in zip(plain.tasks, compiled.tasks, strict=True):
        assert one.methods == {
            name: pytest.approx(did, abs=1e-4) for name, did in two.methods.items()
        }
    assert plain.tasks[-1].methods[next(iter(methods))]["active"]


class Among(Method):
    """Compares every sample with its own class and the next one alone."""

    summary: ClassVar[str] = "with one other class"
    others: bool = True

    def admit(self, labels_B, excluded_BC):
        classes = torch.arange(excluded_BC.shape[1])
        following_B = (labels_B + 1) % len(classes)
        return excluded_BC | (classes != following_B[:, None]) if self.others else excluded_BC


def test_both_labels_of_a_mixture_are_compared_as_a_method_admits(go, monkeypatch):
    monkeypatch.setitem(METHODS, "among", Among)
    fields = {"augment": {"mixup": 1.0}, "train_logits": "all", "steps": 1}
    looked, kept = [], []

    def mix(*given):
        kept.append(mix_inputs(*given))
        return kept[-1]

    forward = Learner._losses_of

    def losses_of(self, logits, labels):
        found = forward(self, logits, labels)
        looked.append((logits.detach(), labels, found.detach()))
        return found

    monkeypatch.setattr(learner_file, "mix_inputs", mix)
    monkeypatch.setattr(Learner, "_losses_of", losses_of)
    record, one = go(fields, methods={"among": {}})
    looked = looked[-4:]  # of two tasks, own labels and those of partners; one before the run
    assert not torch.equal(looked[0][1], looked[1][1])
    for logits, labels, losses in looked:
        two = torch.stack([labels, (labels + 1) % 4], 1)
        peer = F.cross_entropy(logits.gather(1, two), torch.zeros_like(labels), reduction="none")
        assert torch.allclose(losses, peer, atol=1e-5)
    share = kept[-1][1]
    mean = share * looked[2][2].mean() + (1 - share) * looked[3][2].mean()
    assert record.tasks[1].loss == pytest.approx(float(mean), rel=1e-5)
    _, neutral = go(fields, methods={"among": {"others": False}})
    _, plain = go(fields)
    assert equal(neutral, plain)
    assert not equal(one, plain)


class Rates(Method):
    """Half the rate for the head, twice for the first layer, none for biases."""

    summary: ClassVar[str] = "rates of its own"

    def rate(self, name):
        return 0.0 if name.endswith("bias") else 0.5 if name.startswith("fc") else 2.0


def test_rates_of_a_method_times_those_of_the_optimizer(go, monkeypatch):
    monkeypatch.setitem(METHODS, "rates", Rates)
    fields = {"steps": 1, "stream": {"classes": [[4, 5]]}}
    start = go(fields, optimizer={"lr": 1e-30})[1]
    _, plain = go(fields)
    _, scaled = go(fields, optimizer={"head_rate": 3.0}, methods={"rates": {}})
    for name, before in start.items():
        if "running" in name or "num_batches" in name:
            continue
        factor = 0.0 if name.endswith("bias") else 1.5 if name.startswith("fc") else 2.0
        moved = factor * (plain[name] - before)
        assert torch.allclose(scaled[name] - before, moved, atol=1e-6), name


def test_what_is_scored_is_also_what_stops_is_said(go, recipe, capsys):
    fields = {"stream": {"validation": 0.3}, "steps": 2, "early_stopping": {"every": 2}}
    go(fields)
    assert "what is scored is also what stops" not in capsys.readouterr().out
    go(fields, stream={"test_on": "validation"})
    told = [line for line in capsys.readouterr().out.splitlines() if "also what stops" in line]
    assert len(told) == 1
    own = {
        "early_stopping": {"every": None},
        "per_task": {"4, 5": {"early_stopping": {"every": 1}}},
    }
    of_task = merge(merge(recipe, fields), own | {"stream": {"test_on": "validation"}})
    assert stopped_by_scored(parse(of_task))
    assert not stopped_by_scored(parse(merge(of_task, {"stream": {"test_on": "test"}})))


def test_a_task_ends_early_and_the_stream_goes_on(go):
    hopeless = {"optimizer": {"lr": 1e-30, "momentum": 0.0}, "stream": {"validation": 0.3}}
    record, _ = go(hopeless, steps=50, early_stopping={"every": 2, "patience": 3})
    assert [task.steps for task in record.tasks] == [8, 8]  # the least is the first look's
    assert [task.last_step for task in record.tasks] == [8, 16]
    assert all(math.isfinite(task.loss) for task in record.tasks)
    learning = {"optimizer": {"lr": 1e-3}, "stream": {"validation": 0.3}}
    record, _ = go(learning, steps=12, early_stopping={"every": 2, "patience": 3})
    assert [task.steps for task in record.tasks] == [12, 12]
    record, _ = go(learning, steps=50, early_stopping={"every": 1, "patience": 2, "least": 10.0})
    assert [task.steps for task in record.tasks] == [3, 3]
    epochs = {"steps": None, "epochs": 4}
    record, _ = go(hopeless, epochs, early_stopping={"every": 1, "patience": 1})
    assert [task.steps for task in record.tasks] == [2, 2]


def test_validation_that_rounds_to_no_image_is_refused_before_training(go, tmp_path):
    fields = {"stream": {"train_per_class": 4}, "early_stopping": {"every": 2}}
    with pytest.raises(
        ClbenchError, match=r"task 4, 5 has no validation images.*stream\.validation"
    ):
        go(fields)
    assert not (tmp_path / "0" / "record.jsonl").exists()


def test_all_of_it_together(go, tmp_path, monkeypatch):
    fields = {
        "optimizer": {"name": "adan", "lr": 0.01, "head_rate": 2, "layer_decay": 0.8},
        "schedule": {"name": "poly", "options": {"decay_rate": 1.0}},
        "augment": {"randaugment": 2, "erasing": 0.3, "mixup": 0.5, "cutmix": 0.5},
        "label_smoothing": 0.1,
        "ema": 0.5,
        "methods": {"replay": {"fraction": 0.25}, "ewc": {"strength": 1.0}},
        "stream": {"validation": 0.2},
        "early_stopping": {"every": 3},
        "steps": 4,
    }
    checkpointed = {"model": {"checkpointing": True}}
    whole, weights = go(VIT, fields, checkpointed)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            go(VIT, fields, checkpointed)
    record, again = go(VIT, fields, checkpointed, resume=tmp_path / "1")
    assert equal(weights, again)
    assert comparable(record) == comparable(whole)


def test_dry_runs_know_of_it(recipe):
    values = merge(merge(recipe, SMALL), VIT)
    plain = estimate(values)
    spared = estimate(merge(values, {"model": {"checkpointing": True}}))
    assert spared.memory["activations"] < 0.8 * plain.memory["activations"]
    early = estimate(merge(values, {"stream": {"validation": 0.2}, "early_stopping": {"every": 2}}))
    assert any("early_stopping" in note for note in early.notes)
