"""The folds of hooks that most methods leave alone: what they see, what they change, what it costs.

The network of each test has no surprises: a head of four rows on 48 pixels.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers import comparable, interrupt_after
from safetensors.torch import load_file
from test_learner import OWNER, PLAIN, Smooth, fit, make  # noqa: F401  (make is a fixture)
from torch import nn
from torch.nn.utils import parametrize

import clbench
from clbench.data.batches import Batches
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.base import Method
from clbench.methods.lora import LoRA
from clbench.models.anchors import named_weights
from clbench.models.loss import ClassLoss
from clbench.models.tiny import TinyCNN
from clbench.recipe.recipe import parse
from clbench.runner.network import operated
from clbench.runner.setup import Setup
from clbench.sweep import sweep


class Looking(Method):
    """Keeps what it saw, from each of the hooks that see a forward pass."""

    summary = "test"
    every_batch = True
    log: list

    def weights(self, forward):
        self.log.append(("weights", forward))
        return

    def penalty(self, forward):
        self.log.append(("penalty", forward))
        return forward.mean(forward.features_BF.square().sum(1)) * 0.01

    def observe(self, forward):
        assert not torch.is_grad_enabled()
        self.log.append(("observe", forward))


def test_one_look_at_the_forward_pass_for_all_hooks(make):  # noqa: F811
    method = Looking(log=[])
    learner, batches = make([method], model=Smooth(), steps=2)
    logits = learner.model(PLAIN.test(next(iter(batches)).images)).detach()
    fit(learner, Batches(batches.examples, 4, (0,)))
    assert [hook for hook, _ in method.log] == ["weights", "penalty", "observe"] * 2
    assert [forward.step for _, forward in method.log] == [1, 1, 1, 2, 2, 2]
    first = method.log[0][1]
    assert first is method.log[2][1]
    inputs = PLAIN.train(first.batch.images, first.batch.draws)
    assert torch.equal(first.inputs, inputs)
    assert torch.equal(first.features_BF, inputs.flatten(1).tanh())
    torch.testing.assert_close(first.logits_BC, logits)
    torch.testing.assert_close(
        first.losses_B.detach(), learner.losses(logits, first.batch.labels), check_dtype=False
    )
    assert not learner.model.fc._forward_pre_hooks  # nothing is left in the network


def test_nothing_is_looked_at_where_nobody_looks(make):  # noqa: F811
    learner, batches = make(model=Smooth())
    seen = []
    learner.on_step = lambda step: seen.append(len(learner.model.fc._forward_pre_hooks))
    fit(learner, batches)
    assert seen == [0, 0, 0]


class Silent(nn.Module):
    """A network that never calls its head."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(48, 4)

    def forward(self, images):
        return F.linear(images.flatten(1), self.fc.weight, self.fc.bias)


def test_features_that_cannot_be_seen_are_no_zeros(make):  # noqa: F811
    learner, batches = make([Looking(log=[])], model=Silent())
    with pytest.raises(ClbenchError, match="Silent does not call its head as a module"):
        fit(learner, batches)


def test_a_penalty_on_samples_counts_by_its_part_of_a_step(make):  # noqa: F811
    """12 images in one step: at once, or in batches of 5, 5 and 2."""
    ends = []
    for size, accumulate in ((12, 1), (5, 3)):
        trainer = {"accelerator": "cpu", "accumulate_grad_batches": accumulate}
        methods = [Looking(log=[])]
        learner, batches = make(methods, model=Smooth(), steps=1, trainer=trainer)
        fit(learner, Batches(batches.examples, size, (0,), accumulate=accumulate))
        ends.append(learner.model.fc.weight.detach())
        assert len(methods[0].log) == 3 * (3 if accumulate > 1 else 1)
    torch.testing.assert_close(*ends)


class Admits(Method):
    summary = "test"

    def admit(self, labels_B, excluded_BC):
        return torch.ones_like(excluded_BC)


def test_a_sample_s_own_class_is_admitted_whatever_a_method_says(make):  # noqa: F811
    learner, batches = make([Admits()], model=Smooth(), optimizer={"lr": 0.1, "momentum": 0.0})
    before = learner.model.fc.weight.detach().clone()
    fit(learner, batches)
    assert float(learner.last_loss) == 0  # among one class
    assert torch.equal(learner.model.fc.weight, before)


class OfTheBatch(Method):
    """New samples among the classes of their batch only."""

    summary = "test"

    def admit(self, labels_B, excluded_BC):
        present = torch.zeros(excluded_BC.shape[1], dtype=torch.bool)
        present[labels_B] = True
        return excluded_BC | ~present


def test_masks_of_single_samples_are_those_of_the_loss(make):  # noqa: F811
    learner, batches = make([OfTheBatch()], logits="all", model=Smooth())
    batch = next(iter(batches))
    logits = learner.model(PLAIN.train(batch.images, batch.draws))
    present = batch.labels.unique()
    wanted = F.cross_entropy(
        logits[:, present], torch.searchsorted(present, batch.labels), reduction="none"
    )
    torch.testing.assert_close(learner._losses_of(logits, batch.labels), wanted)


@pytest.mark.parametrize("released", [None, [0], [0, 1]])
def test_rows_that_may_move_are_not_put_back(make, released):  # noqa: F811
    learner, batches = make([], model=Smooth(), optimizer={"lr": 0.1, "weight_decay": 0.5})
    if released is not None:
        learner.losses.release(torch.isin(torch.arange(4), torch.tensor(released)))
    before = learner.model.fc.weight.detach().clone()
    fit(learner, batches)
    moved = (learner.model.fc.weight != before).any(1).nonzero().flatten().tolist()
    assert moved == [*(released or []), 2, 3]


def test_idle_rows_are_released_by_any_method():
    losses = ClassLoss("task", torch.tensor([2, 3]), OWNER, torch.ones(4) > 0)
    losses.release(None)
    assert losses.idle.tolist() == [True, True, False, False]
    losses.release(torch.tensor([True, False, False, False]))
    losses.release(torch.tensor([False, False, True, False]))
    assert losses.idle.tolist() == [False, True, False, False]


class Own(Method):
    """Squares in place of the cross-entropy, for a while."""

    summary = "test"
    on: bool = True

    def sample_losses(self, forward):
        return forward.logits_BC.square().sum(1) if self.on else None


def test_losses_of_a_method_s_own_are_what_others_see(make):  # noqa: F811
    looking = Looking(log=[])
    learner, batches = make([looking, Own()], model=Smooth(), steps=1)
    fit(learner, batches)
    (_, forward), *_ = looking.log
    squares = forward.logits_BC.square().sum(1)
    assert torch.equal(forward.losses_B, squares)
    penalty = 0.01 * forward.features_BF.square().sum(1).mean()
    torch.testing.assert_close(learner.last_loss, (squares.mean() + penalty).detach())


def test_without_losses_of_its_own_the_cross_entropy_stays(make):  # noqa: F811
    ends = []
    for methods in ([], [Own(on=False)]):
        learner, batches = make(methods, model=Smooth())
        fit(learner, batches)
        ends.append(learner.model.fc.weight.detach())
    assert torch.equal(*ends)


def test_one_method_alone_brings_losses(recipe, monkeypatch):
    monkeypatch.setitem(METHODS, "own", Own)
    monkeypatch.setitem(METHODS, "other", type("Other", (Own,), {}))
    with pytest.raises(ClbenchError, match="own and other each bring a loss in place of the"):
        parse(recipe | {"methods": {"own": {}, "other": {}}})


class Slow(Method):
    summary = "test"
    factor: float = 0.1

    def rate(self, name):
        return self.factor if name == "fc.weight" else 1.0


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_rates_multiply(make, name):  # noqa: F811
    def end(methods):
        learner, batches = make(methods, model=Smooth(), steps=1, optimizer={"name": name})
        before = {k: x.clone() for k, x in learner.model.state_dict().items()}
        fit(learner, batches)
        return {k: x - before[k] for k, x in learner.model.state_dict().items()}

    plain, slow = end([]), end([Slow(), Slow(factor=0.5)])
    torch.testing.assert_close(slow["fc.bias"], plain["fc.bias"])
    torch.testing.assert_close(slow["fc.weight"], 0.05 * plain["fc.weight"], rtol=1e-3, atol=1e-7)


def test_a_rate_is_no_less_than_nothing(make):  # noqa: F811
    learner, batches = make([Slow(factor=-1.0)], model=Smooth())
    with pytest.raises(ClbenchError, match="rate is -1"):
        fit(learner, batches)


class Scale(nn.Module):
    """Multiplies features; what it starts with is drawn."""

    def __init__(self, width):
        super().__init__()
        self.factor = nn.Parameter(1 + 0.1 * torch.randn(width))

    def forward(self, module, inputs):
        return (inputs[0] * self.factor,)


class Adapts(Method):
    """Puts a layer of its own before the head, for good."""

    summary = "test"

    def adapt(self, model, task):
        if not hasattr(model, "own"):
            model.own = Scale(model.num_features)
            model.get_classifier().register_forward_pre_hook(lambda m, x: model.own(m, x))
        return model


class Rests(Method):
    """Trains in the first tasks only."""

    summary = "test"
    until: int = 0
    _on: bool = False

    @property
    def last_trained(self):
        return self.until

    def start(self, context):
        self._on = context.task.index < self.until

    def trainable(self, name):
        return self._on


class Turned(Method):
    """Classifies by the features' own numbers, turned round, from the first task's end on."""

    summary = "test"
    _turned: bool = False

    def absorb(self, theta, context):
        self._turned = True

    def classifier(self):
        return (lambda features_BF: -features_BF[:, :4]) if self._turned else None

    def state_dict(self):
        return {"turned": self._turned}

    def load_state_dict(self, state):
        self._turned = bool(state["turned"])


@pytest.fixture
def small(recipe, no_pictures, monkeypatch):
    for kind in (Adapts, Rests, Turned, Slow):
        monkeypatch.setitem(METHODS, kind.__name__.lower(), kind)
    stream = {"classes": [[4, 5], [6, 7]], "train_per_class": 20, "test_per_class": 10}
    recipe["stream"] |= stream
    return recipe | {"steps": 2, "batch_size": 8}


def ran(recipe, folder, methods, **more):
    record = clbench.run(recipe | {"methods": methods}, folder, **more)
    return record, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "methods",
    [
        {"adapts": {}},
        {"adapts": {}, "sfa": {"start_at": 1, "p": 0.5}, "l2": {"strength": 0.1}, "wise_ft": {}},
        {"ties": {}, "adapts": {}},
        {"turned": {}},
        {"rests": {"until": 1}},
        {"rests": {}},
    ],
    ids="+".join,
)
def test_what_lasts_is_carried_saved_and_there_again_on_resume(
    small, tmp_path, monkeypatch, methods
):
    whole, weights = ran(small, tmp_path / "whole", methods)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            ran(small, tmp_path / "cut", methods)
    cut, again = ran(small, tmp_path / "cut", methods, resume=True)
    assert comparable(cut) == comparable(whole)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert ("own.factor" in weights) == ("adapts" in methods)
    if methods == {"adapts": {}}:
        assert whole.tasks[0].distance["pretrained"] > 0  # θ_* knows the new part


def test_nobody_trainable_is_no_step_and_said(small, tmp_path, capsys):
    record, _ = ran(small, tmp_path / "run", {"rests": {"until": 1}})
    assert [event.steps for event in record.tasks] == [2, 0]
    assert [event.last_step for event in record.tasks] == [2, 2]
    assert record.tasks[1].samples == 0
    assert record.tasks[1].loss is None
    assert "Task 6, 7: the methods leave nothing to train, 0 steps." in capsys.readouterr().out
    assert record.summary()["cost"]["train_steps"] == 2


def test_a_dry_run_counts_the_steps_that_there_are(small):
    from clbench.estimate import estimate

    counted = [
        [task.steps for task in estimate(small | {"methods": {"rests": {"until": n}}}).tasks]
        for n in (0, 1)
    ]
    assert counted == [[0, 0], [2, 0]]


def test_what_classifies_stands_in_for_the_head(small, tmp_path, capsys):
    plain, weights = ran(small, tmp_path / "plain", {})
    turned, same = ran(small, tmp_path / "turned", {"turned": {}})
    assert "turned classifies in place of the head" in capsys.readouterr().out
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert turned.tasks[-1].task_incremental != plain.tasks[-1].task_incremental
    assert turned.tasks[-1].retention == plain.tasks[-1].retention  # by the original head
    with pytest.raises(ClbenchError, match="turned classifies by what it collected"):
        sweep(tmp_path / "turned", "alpha", [0.5])


@pytest.mark.parametrize(
    ("methods", "wanted"),
    [
        ({"rests": {}, "l2": {}}, "rests leaves nothing to train, and l2 acts in training"),
        ({"replay": {}, "rests": {}}, "rests leaves nothing to train, and replay acts"),
    ],
)
def test_what_acts_in_training_needs_some(small, methods, wanted):
    with pytest.raises(ClbenchError, match=wanted):
        parse(small | {"methods": methods})
    parse(small | {"methods": {"rests": {"until": 1}, "l2": {}}})


class Shrinks(Method):
    summary = "test"

    def adapt(self, model, task):
        model.reset_classifier(2)
        return model


def test_what_is_there_keeps_its_name_and_shape(small, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "shrinks", Shrinks)
    with pytest.raises(ClbenchError, match=r"methods\.shrinks: fc\.weight is gone or has another"):
        ran(small, tmp_path / "run", {"shrinks": {}})


class Adapter(Method):
    """Adds a module for a task, which surgery cannot."""

    summary = "test"

    def surgery(self, model):
        changed = copy.deepcopy(model)
        changed.extra = nn.Linear(2, 2)
        return changed


class Scaled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Doubles(Method):
    """A parametrization of one's own, undone after the task."""

    summary = "test"

    def surgery(self, model):
        changed = copy.deepcopy(model)
        parametrize.register_parametrization(changed.conv1, "weight", Scaled())
        return changed


def test_surgery_that_adds_modules_is_refused_before_anything_is_trained():
    model = TinyCNN()
    with pytest.raises(ClbenchError, match=r"adapter.*extra\.bias, extra\.weight: put a") as e:
        operated([Adapter()], model)
    assert "\n" not in str(e.value)
    changed = operated([Doubles(), LoRA()], model)
    plain = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in named_weights(changed)} == plain


def test_a_moving_average_of_no_steps_leaves_running_statistics(small, tmp_path, monkeypatch):
    model = {"backbone": "test_resnet", "weights": "none", "batch_norm": "recompute"}
    small |= {"model": model, "ema": 0.9}
    seen = []
    monkeypatch.setattr(Setup, "_refreshed", lambda self, at, theta: seen.append(at) or theta)
    ran(small, tmp_path / "none", {"ncm": {}})
    assert not seen
    ran(small, tmp_path / "one", {"ncm": {"tuned": "first"}})
    assert [context.first for context in seen] == [True]
