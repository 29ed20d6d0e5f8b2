import copy
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import look
from torch import nn
from torch.nn.utils import parametrize

import clbench.models  # noqa: F401  (registers the tiny backbones)
from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.methods.base import Context
from clbench.methods.ewc import (
    EWC,
    add_quadratic,
    fisher_diagonal,
    fisher_merge,
    fisher_of_task,
)
from clbench.models import persample
from clbench.models.anchors import Anchor, Anchors
from clbench.models.layer_rules import MAGNITUDE
from clbench.models.loss import ClassLoss
from clbench.models.persample import PerSample
from clbench.streams import Task
from clbench.weights import snapshot


def by_loop(model, images, labels, losses=None, size=torch.square):
    """One backward pass for each sample."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for image, label in zip(images, labels, strict=True):
        logits = model(image[None])
        loss = losses(logits, label[None]) if losses else F.cross_entropy(logits, label[None])
        gradients = torch.autograd.grad(loss.sum(), list(model.parameters()), allow_unused=True)
        for name, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                total[name] += size(gradient) / len(images)
    return total


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        scale = float(value.max())
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9 * scale, msg=name)


def resnet():
    """BatchNorm with statistics of its own, in-place activations and additions."""
    model = timm.create_model("resnet18", num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


class Odd(nn.Module):
    """What the fast route cannot do: shared, reused, functional and bare weights."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.twice = nn.Linear(12, 12)
        self.tied = nn.Linear(12, 12, bias=False)
        self.tied.weight = self.first.weight
        self.passed_by = nn.Linear(12, 5)
        self.scale = nn.Parameter(torch.rand(12))
        self.offset = nn.Parameter(torch.rand(1, 12))
        self.mixing = nn.Parameter(torch.rand(1, 12))
        self.activation = nn.PReLU()

    def forward(self, x):
        x = self.activation(self.first(x.flatten(1))) * self.scale + self.offset
        x = self.twice(self.twice(x)) + self.tied(x)
        x = x * self.mixing.mean(0)
        return F.linear(x, self.passed_by.weight, self.passed_by.bias)


class Listed(nn.Module):
    """A row for each block that is walked through, and what a pass leaves out."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.rand(1, 12))
        self.unused = nn.Parameter(torch.rand(3, 2))
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        for row, _ in zip(self.rows, range(1), strict=True):
            x = x.flatten(1) * row
        return self.head(x)


def grouped():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3, padding=(2, 1), stride=(1, 2), dilation=(2, 1)),
        nn.Conv2d(6, 6, 3, groups=6, padding="same", bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 1),
        nn.Flatten(),
        nn.LazyLinear(5),
    )


NETWORKS = {
    "tiny_cnn": (lambda: timm.create_model("tiny_cnn", num_classes=5), 12),
    "tiny_vit": (lambda: timm.create_model("tiny_vit", num_classes=5, img_size=12), 12),
    "batch_norm": (resnet, 32),
    "odd": (Odd, 2),
    "listed": (Listed, 2),
    "grouped": (grouped, 9),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_equals_the_slow_loop(name):
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    model = make().double().train()
    images = torch.randn(7, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        copy.deepcopy(model).eval()(images) if name != "grouped" else model.eval()(images)
    model.train()
    labels = torch.randint(0, 5, (7,))
    before = snapshot(model)
    found = fisher_diagonal(model, [(images[:4], labels[:4]), (images[4:], labels[4:])], chunk=3)
    assert_same(found, by_loop(model, images, labels))
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_magnitudes_equal_the_slow_loop(name):
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    model = make().double()
    images = torch.randn(4, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        model.eval()(images)
    loss = lambda logits, labels: logits.square().sum(1)  # noqa: E731
    labels = torch.zeros(4, dtype=torch.int64)
    found = PerSample(model, loss, MAGNITUDE).sizes(images, labels)
    wanted = by_loop(model, images, labels, loss, torch.abs)
    assert_same({name: x / 4 for name, x in found.items()}, wanted)


class Pooled(nn.Module):
    """No layer that a rule would do for."""

    def __init__(self):
        super().__init__()
        self.flat, self.weight = nn.Flatten(), nn.Parameter(torch.randn(12, 5))

    def forward(self, x):
        return self.flat(x) @ self.weight


def test_networks_without_layers_take_the_other_route():
    torch.manual_seed(0)
    model, images, labels = Pooled(), torch.randn(4, 3, 2, 2), torch.arange(4)
    found = fisher_diagonal(model, [(images, labels)])
    assert_same(found, by_loop(model, images, labels))


@pytest.mark.parametrize("name", ["odd", "listed"])
def test_vmap_makes_no_more_gradients_at_once_than_there_is_room_for(monkeypatch, name):
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    model, images = make().double(), torch.randn(5, 3, side, side, dtype=torch.float64)
    route = PerSample(model, lambda z, y: F.cross_entropy(z, y, reduction="none"))
    labels, counts, whole = torch.arange(5), [], persample.sample_gradients
    once = route.sizes(images, labels)
    assert route.functional

    def counted(of, parameters, *samples):
        counts.append(len(samples[0]))
        return whole(of, parameters, *samples)

    monkeypatch.setattr(persample, "sample_gradients", counted)
    entries = sum(route.parameters[key].numel() for key in route.functional)
    monkeypatch.setattr(persample, "ROOM", 2 * entries)
    assert_same(route.sizes(images, labels), once)
    assert counts == [2, 2, 1]
    monkeypatch.setattr(persample, "ROOM", 1)
    assert_same(route.sizes(images, labels), once)
    assert counts[3:] == [1] * 5


def test_nothing_of_a_pass_is_held_when_its_gradients_are_used(monkeypatch):
    torch.manual_seed(0)
    route = PerSample(resnet(), lambda z, y: z.square().sum(1))
    calls, held, whole = [], [], persample._Call.when_differentiated

    def watched(call, use):
        calls.append(weakref.ref(call))
        inputs = weakref.ref(call.input)

        def used(call, gradient):
            use(call, gradient)
            held.append(inputs() is not None)

        return whole(call, used)

    monkeypatch.setattr(persample._Call, "when_differentiated", watched)
    for _ in range(2):
        route.sizes(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))
    assert len(calls) == len(held) > 20
    assert not any(held)
    assert not any(one() is not None for one in calls)


def test_small_networks_take_the_fast_route():
    for name in ("tiny_cnn", "tiny_vit", "batch_norm"):
        make, size = NETWORKS[name]
        torch.manual_seed(0)
        route = PerSample(make(), lambda z, y: F.cross_entropy(z, y, reduction="none"))
        route.sizes(torch.randn(2, 3, size, size), torch.tensor([0, 1]))
        assert route.functional == set(), name


def test_it_is_not_the_squared_batch_mean():
    torch.manual_seed(0)
    model = timm.create_model("tiny_cnn", num_classes=5)
    images, labels = torch.randn(16, 3, 8, 8), torch.randint(0, 5, (16,))
    fisher = fisher_diagonal(model, [(images, labels)])["conv1.weight"]
    F.cross_entropy(model(images), labels).backward()
    assert fisher.sum() > 2 * model.conv1.weight.grad.square().sum()


def test_labels_drawn_from_the_model_give_the_fisher_information():
    """For a softmax over x·W its diagonal is x_i²·p_c·(1 − p_c), by [3]."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 4, bias=False)).double()
    x = torch.randn(1, 3, 1, 1).double()
    copies = x.expand(20_000, -1, -1, -1)
    p = model(x).softmax(1).flatten()
    found = fisher_diagonal(
        model,
        [(copies, torch.zeros(20_000, dtype=torch.int64))],
        labels="model",
        random=torch.Generator().manual_seed(0),
        chunk=20_000,
    )
    expected = (p * (1 - p))[:, None] * x.flatten().square()
    torch.testing.assert_close(found["1.weight"], expected, rtol=0.05, atol=0)


def test_drawn_labels_keep_to_the_classes_the_loss_admits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 4)).double()
    owner = torch.tensor([0, 0, 1, 1])
    loss = ClassLoss("task", torch.tensor([0, 1]), owner, torch.ones(4, dtype=torch.bool))
    images, labels = torch.randn(64, 3, 1, 1).double(), torch.zeros(64, dtype=torch.int64)
    fisher = fisher_diagonal(model, [(images, labels)], loss, labels="model")
    assert fisher["1.bias"][:2].gt(0).all()
    assert fisher["1.bias"][2:].eq(0).all()
    seen: list[int] = []
    route = PerSample(model, loss)
    route.sizes(images, labels, lambda p: seen.append(p) or torch.ones_like(labels))
    masked = model(images)[:, :2].softmax(1)
    torch.testing.assert_close(seen[0][:, :2].double(), masked, rtol=1e-6, atol=1e-6)
    assert seen[0][:, 2:].eq(0).all()


def test_effective_weights_count_under_a_parametrization():
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    torch.manual_seed(0)
    model = timm.create_model("tiny_cnn", num_classes=5).double()
    images, labels = torch.randn(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 3])
    plain = copy.deepcopy(model)
    with torch.no_grad():
        plain.conv2.weight.mul_(2)
    parametrize.register_parametrization(model.conv2, "weight", Doubled())
    found = fisher_diagonal(model, [(images, labels)])
    expected = by_loop(plain, images, labels)
    assert_same({name: found[name] for name in expected}, expected)
    torch.testing.assert_close(model(images), plain(images))  # the original still works


def test_nothing_to_compute_on_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        fisher_diagonal(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        fisher_diagonal(nn.Linear(2, 2), [], chunk=0)


def test_sum_of_quadratics_is_one_quadratic():
    random = torch.Generator().manual_seed(0)
    parts = [
        (
            {"w": torch.rand(6, generator=random).double() * (torch.arange(6) > k)},
            {"w": torch.randn(6, generator=random).double()},
        )
        for k in range(4)
    ]
    fisher, centre = ({"w": x["w"].clone()} for x in parts[0])
    constant = sum(add_quadratic(fisher, centre, f, theta) for f, theta in parts[1:])
    x = torch.randn(6, generator=random).double()
    expected = sum((f["w"] * (x - theta["w"]).square()).sum() for f, theta in parts)
    found = (fisher["w"] * (x - centre["w"]).square()).sum() + constant
    torch.testing.assert_close(found, expected)
    assert torch.equal(centre["w"][:1], parts[-1][1]["w"][:1])  # where no Fisher says anything


def test_fisher_merging_closed_form():
    theta_o, theta_t = ({"w": torch.tensor(x)} for x in ([1.0, 2.0, 5.0], [3.0, 4.0, 7.0]))
    fisher_o, fisher_t = ({"w": torch.tensor(x)} for x in ([1.0, 0.0, 0.0], [3.0, 2.0, 0.0]))
    merged = fisher_merge(theta_o, fisher_o, theta_t | {"new": torch.ones(1)}, fisher_t, 0.6, 0.4)
    first = (0.6 * 1 * 1 + 0.4 * 3 * 3) / (0.6 * 1 + 0.4 * 3)
    torch.testing.assert_close(merged["w"], torch.tensor([first, 4.0, 7.0]))
    assert torch.equal(merged["new"], torch.ones(1))
    with pytest.raises(ValueError, match="at least 0"):
        fisher_merge(theta_o, fisher_o, theta_t, fisher_t, -1.0)


HEAD = ("1.weight", "1.bias")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6))


def context_of(model, task, logits="task"):
    random = torch.Generator().manual_seed(task)
    images = TensorImages(torch.randint(0, 256, (30, 3, 2, 2), generator=random).byte())
    labels = torch.arange(30) % 2 + 2 * task
    split = Split(images, torch.arange(30), labels)
    learned = torch.arange(6) < 2 * task
    owner = torch.tensor([0, 0, 1, 1, 2, 2])
    anchor = Anchor(snapshot(model), learned)
    return Context(
        task=Task(task, "t", range(2 * task, 2 * task + 2), split, split, split),
        model=model,
        head=HEAD,
        anchors=Anchors(anchor, anchor),
        total_steps=10,
        reader=Reader(Transform(2, (0.5,) * 3, (0.5,) * 3, Augment())),
        losses=ClassLoss(logits, labels.unique(), owner, torch.ones(6, dtype=torch.bool)),
        seed=3,
        batch_size=8,
    )


def drift(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)


def expected_fisher(context):
    inputs = context.reader.transform.test(context.task.train.images.take(torch.arange(30)))
    return by_loop(context.model, inputs, context.task.train.labels, context.losses)


def test_separate_tasks_add_up():
    model, method = network(), EWC(strength=3.0)
    past = []
    for task in range(3):
        context = context_of(model, task)
        method.start(context)
        penalty = method.penalty(look(model))
        expected = sum(
            1.5 * (f[name] * (p.detach() - theta[name]).square()).sum()
            for f, theta in past
            for name, p in model.named_parameters()
        )
        assert penalty is None if task == 0 else torch.isclose(penalty, expected, rtol=1e-4)
        drift(model)
        method.finish(context)
        past.append((expected_fisher(context), snapshot(model)))
        assert method.activity()["active"] == float(task > 1)  # no step was made in task 1
    loss = method.penalty(look(model))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
        wanted = sum(3.0 * f[name] * (p.detach() - theta[name]) for f, theta in past)
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


def test_online_decays_and_moves_on():
    model, method = network(), EWC(strength=1.0, mode="online", decay=0.5)
    fishers = []
    for task in range(2):
        context = context_of(model, task)
        method.start(context)
        drift(model)
        method.finish(context)
        fishers.append(expected_fisher(context))
    for name, parameter in model.named_parameters():
        wanted = 0.5 * fishers[0][name] + fishers[1][name]
        torch.testing.assert_close(method._fisher[name], wanted, rtol=1e-4, atol=1e-7)
        assert torch.equal(method._centre[name], parameter)
    assert method.penalty(look(model)) == 0


def test_no_more_samples_at_once_than_in_training(monkeypatch):
    sizes, squares = [], PerSample.sizes
    monkeypatch.setattr(
        PerSample, "sizes", lambda self, x, *rest: sizes.append(len(x)) or squares(self, x, *rest)
    )
    fisher_of_task(context_of(network(), 0), "data", None)
    assert sizes == [8, 8, 8, 6]


def test_a_context_has_the_classes_known_when_its_task_ends():
    context = context_of(network(), 1)
    assert context.seen_C.tolist() == [True] * 4 + [False] * 2
    assert context.anchors.previous.learned.tolist() == [True] * 2 + [False] * 4


def test_a_context_draws_some_images_in_order():
    context, random = context_of(network(), 0), torch.Generator().manual_seed(0)
    before, whole = random.get_state(), context.task.train
    assert context.drawn(None, random) is context.drawn(30, random) is whole
    assert torch.equal(random.get_state(), before)
    few = context.drawn(8, random)
    assert len(few) == 8
    assert (few.index.diff() > 0).all()
    assert torch.equal(few.labels, whole.labels[few.index])
    assert not torch.equal(few.index, context.drawn(8, random).index)


def test_rows_of_the_head_that_no_task_learned_are_free():
    model, method = network(), EWC(strength=1.0)
    context = context_of(model, 1, logits="all")  # classes 4 and 5 take part in the loss
    method.start(context)
    method.finish(context)
    assert method._fisher["1.bias"].ne(0).tolist() == [True] * 4 + [False] * 2
    drift(model)
    (gradient,) = torch.autograd.grad(method.penalty(look(model)), model[1].bias)
    assert gradient.ne(0).tolist() == [True] * 4 + [False] * 2


def test_frozen_weights_do_not_count():
    model, method = network(), EWC(strength=1.0)
    context = context_of(model, 0)
    method.start(context)
    model[1].weight.requires_grad_(False)
    method.finish(context)
    assert method._fisher["1.weight"][:2].gt(0).all()  # they may be trained in a later task
    drift(model)
    some = method.penalty(look(model))
    model[1].weight.requires_grad_(True)
    assert 0 < some < method.penalty(look(model))
    model.requires_grad_(False)
    assert method.penalty(look(model)) is None


def test_one_step_is_merging_by_the_fisher():
    """A task step, then θ ← (I − η·F)·θ* + η·F·θ_o (SFA's appendix, eqs. 13-14)."""
    model, eta = network().double(), 0.05
    method = EWC(strength=1.0)
    first = context_of(model, 0)
    double = Reader(SimpleNamespace(test=lambda images: images.double() / 255))
    first = replace(first, reader=double)
    method.start(first)
    method.finish(first)
    theta_o = snapshot(model)
    drift(model)
    stepped = copy.deepcopy(model)
    optimizer = torch.optim.SGD(stepped.parameters(), lr=eta)
    # The paper splits the update in two; the penalty's half starts from θ*.
    inputs, labels = torch.rand(8, 3, 2, 2).double(), torch.randint(0, 2, (8,))
    F.cross_entropy(stepped(inputs), labels).backward()
    optimizer.step()
    theta_star = snapshot(stepped)
    optimizer.zero_grad()
    method.penalty(look(stepped)).backward()
    optimizer.step()
    for name, value in stepped.state_dict().items():
        fisher = method._fisher[name]
        wanted = (1 - eta * fisher) * theta_star[name] + eta * fisher * theta_o[name]
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-14)
        assert not torch.equal(value, theta_star[name])


def test_strength_0_is_nothing_at_all():
    model, method = network(), EWC(strength=0)
    for task in range(2):
        context = context_of(model, task)
        method.start(context)
        assert method.penalty(look(model)) is None
        random = torch.get_rng_state()
        method.finish(context)
        assert torch.equal(random, torch.get_rng_state())
    assert method.activity()["active"] == 0


@pytest.mark.parametrize("labels", ["data", "model"])
def test_drawing_does_not_touch_the_global_generator(labels):
    model, method = network(), EWC(labels=labels, samples=10)
    context = context_of(model, 0)
    method.start(context)
    random = torch.get_rng_state()
    method.finish(context)
    assert torch.equal(random, torch.get_rng_state())


def test_state_survives_a_checkpoint(tmp_path):
    model, method = network(), EWC()
    for task in range(2):
        context = context_of(model, task)
        method.start(context)
        drift(model)
        method.finish(context)
    torch.save(method.state_dict(), tmp_path / "state")
    other = EWC()
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    other.start(context_of(model, 2))
    drift(model)
    assert torch.equal(other.penalty(look(model)), method.penalty(look(model)))
