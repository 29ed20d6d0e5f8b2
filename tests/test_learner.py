import copy
import math
import random
from dataclasses import replace

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from helpers import look
from torch import nn

from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import TensorImages
from clbench.data.mixing import Partners
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.learner.early import Patience
from clbench.learner.learner import Learner
from clbench.learner.trainer import count_steps, make_trainer, quiet
from clbench.methods.base import Context, Method
from clbench.models.anchors import Anchor, Anchors
from clbench.models.loss import ClassLoss
from clbench.optim.settings import Schedule, learning_rate, make_optimizer
from clbench.recipe.recipe import parse
from clbench.streams import Task
from clbench.weights import snapshot

OWNER = torch.tensor([0, 0, 1, 1])
PLAIN = Transform(4, (0.5,) * 3, (0.5,) * 3, Augment())


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(48, 4)

    def forward(self, images):
        return self.fc(self.norm(images).flatten(1))


class Scaled(Method):
    """Weights each sample by a power of its label."""

    summary = "test"
    base: float = 2.0
    scale: float = 0.5

    def weights(self, forward):
        return self.base ** forward.batch.labels.float()

    def penalty(self, forward):
        return self.scale * forward.model.fc.weight.square().sum()


class Shifted(Method):
    summary = "test"
    strength: float = 0.3

    def weights(self, forward):
        return 1 + self.strength * forward.batch.indices.float()

    def penalty(self, forward):
        return self.strength * forward.model.fc.bias.abs().sum()


class Silent(Method):
    summary = "test"

    def weights(self, forward):
        return None

    def penalty(self, forward):
        return None


class Witness(Method):
    """Writes down which hook was called, and the weights it saw."""

    summary = "test"
    name: str
    log: list

    def project(self, model):
        self.log.append((f"{self.name} project", model.fc.weight.detach().clone()))

    def after_step(self, model, step):
        self.log.append((f"{self.name} after {step}", model.fc.weight.detach().clone()))


class HeadOnly(Method):
    summary = "test"

    def trainable(self, name):
        return name.startswith("fc")


@pytest.fixture
def make(tmp_path):
    """A learner on task 1 (classes 2 and 3), and its batches."""

    def build(methods=(), optimizer=None, logits="task", steps=3, model=None, **fields):
        torch.manual_seed(0)
        pixels = torch.randint(256, (12, 3, 4, 4), dtype=torch.uint8)
        split = Split(TensorImages(pixels), torch.arange(12), torch.arange(12) % 2 + 2)
        model = model or Network()
        rows = torch.zeros(4, dtype=torch.bool)
        anchor = Anchor(snapshot(model), rows)
        context = Context(
            task=Task(1, "2, 3", range(2, 4), split, split, split),
            model=model,
            head=("fc.weight", "fc.bias"),
            anchors=Anchors(anchor, anchor),
            total_steps=steps,
            reader=Reader(PLAIN),
            losses=ClassLoss(logits, split.labels.unique(), OWNER, torch.ones(4) > 0),
            seed=0,
            batch_size=4,
        )
        recipe = parse(
            {
                "stream": {"name": "split_digits"},
                "model": {"backbone": "tiny_cnn", "weights": "none"},
                "optimizer": optimizer or {"lr": 0.1, "momentum": 0.0},
                "steps": steps,
                "trainer": {"accelerator": "cpu"},
            }
            | fields
        )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(all(method.trainable(name) for method in methods))
        learner = Learner(context, methods, recipe)
        return learner, Batches(Examples(split), 4, (0,))

    return build


def fit(learner, batches):
    quiet()
    learner.model.train()
    make_trainer(learner.recipe, learner.total_steps).fit(learner, train_dataloaders=batches)


def test_a_mixture_has_the_losses_of_both_labels(make):
    """λ·CE(y) + (1 − λ)·CE(y′) on the mixed images."""
    learner, batches = make(augment={"mixup": 1.0})
    batch = next(iter(batches))
    order, kept = torch.tensor([1, 2, 3, 0]), 0.3
    others = batch.images[order], 5 - batch.labels, batch.draws[order]
    learner.model.eval()
    loss = learner.training_step(batch._replace(partners=Partners(*others, kept, None)), 0)
    inputs = (PLAIN.train(images, batch.draws) for images in (batch.images, others[0]))
    own, theirs = inputs
    logits = learner.model(kept * own + (1 - kept) * theirs)[:, 2:]
    first, second = (F.cross_entropy(logits, y - 2) for y in (batch.labels, 5 - batch.labels))
    assert float(first.detach()) != pytest.approx(float(second.detach()), abs=1e-3)
    torch.testing.assert_close(loss, kept * first + (1 - kept) * second)


def test_early_stopping_looks_at_validation_images(make):
    """Here they have the other labels: what training gets better at gets worse."""
    learner, batches = make(early_stopping={"every": 1, "patience": 2}, steps=9)
    context = learner.context
    turned = replace(context.task.train, labels=5 - context.task.train.labels)
    task = replace(context.task, validation=turned)
    learner._patience = Patience(learner.recipe.early_stopping, replace(context, task=task))
    fit(learner, batches)
    assert learner.step_count < 9


@pytest.mark.parametrize("total", [1, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_schedule_closed_form(total, warmup):
    rising = round(warmup * total)
    constant, cosine = (
        learning_rate(Schedule(name=n, warmup=warmup), total) for n in ("constant", "cosine")
    )
    for step in range(rising):
        assert constant(step) == cosine(step) == pytest.approx((step + 1) / rising)
    for step in range(rising, total):
        assert constant(step) == 1
        angle = math.pi * (step - rising) / (total - rising)
        assert cosine(step) == pytest.approx((1 + math.cos(angle)) / 2)
    assert cosine(rising) == 1
    assert cosine(total) == pytest.approx(0, abs=1e-12)


def test_schedule_is_followed_step_by_step(make):
    rates = []

    class Rates(Method):
        summary = "test"

        def project(self, model):
            rates.append(learner.trainer.optimizers[0].param_groups[0]["lr"])

    learner, batches = make([Rates()], steps=8, schedule={"name": "cosine", "warmup": 0.25})
    fit(learner, batches)
    factor = learning_rate(learner.recipe.schedule, 8)
    assert rates == pytest.approx([0.1 * factor(step) for step in range(8)])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.3, "momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
        (torch.optim.AdamW, {"lr": 0.3, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ],
)
def test_optimiser_is_the_one_of_the_recipe(make, kind, settings):
    learner, _ = make(optimizer={"name": kind.__name__.lower()} | settings)
    optimizer = make_optimizer(learner.recipe.optimizer, list(learner.model.parameters()))
    assert type(optimizer) is kind
    assert {name: optimizer.param_groups[0][name] for name in settings} == settings


def test_only_what_is_trained_goes_to_the_optimiser(make):
    learner, _ = make([HeadOnly()])
    optimizer = learner.configure_optimizers()["optimizer"]
    assert optimizer.param_groups[0]["params"] == list(learner.model.fc.parameters())


def test_training_equals_a_plain_loop(make):
    learner, batches = make(optimizer={"lr": 0.1, "momentum": 0.9}, logits="all", steps=7)
    torch.manual_seed(0)
    model = Network().train()
    model.load_state_dict(learner.model.state_dict())
    fit(learner, batches)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    again = Batches(batches.examples, 4, (0,))
    for batch in [*again, *again, *again][:7]:
        optimizer.zero_grad()
        F.cross_entropy(model(PLAIN.test(batch.images)), batch.labels).backward()
        optimizer.step()
    for name, x in model.state_dict().items():
        torch.testing.assert_close(learner.model.state_dict()[name], x, rtol=1e-6, atol=1e-7)
    assert (learner.step_count, learner.sample_count) == (7, 28)


class Smooth(nn.Module):
    """A network without batch statistics."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(48, 4)

    def forward(self, images):
        return self.fc(images.flatten(1).tanh())


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 4}], ids=str)
@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 16])
def test_accumulated_steps_are_those_of_one_batch_of_all_the_samples(
    make, accumulate, length, precision
):
    """12 images in batches of 5, 5 and 2: windows are cut short, and batches uneven."""
    methods = [Scaled(base=1.5, scale=0.05), Shifted(strength=0.01)]
    fields = {"optimizer": {"lr": 0.1, "momentum": 0.9}, "batch_size": 5, "steps": None} | length
    trainer = {"accelerator": "cpu", "accumulate_grad_batches": accumulate, "precision": precision}
    learner, batches = make(methods, logits="all", model=Smooth(), trainer=trainer, **fields)
    batches = Batches(batches.examples, 5, (0,), accumulate=accumulate)
    learner.total_steps = count_steps(learner.recipe, len(batches))
    model = copy.deepcopy(learner.model)
    fit(learner, batches)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    again, steps = Batches(batches.examples, 5, (0,)), 0
    while steps < learner.total_steps:
        epoch = list(again)
        for start in range(0, 3, accumulate):
            if steps == learner.total_steps:
                break
            window = epoch[start : start + accumulate]
            labels = torch.cat([batch.labels for batch in window])
            indices = torch.cat([batch.indices for batch in window])
            images = PLAIN.test(torch.cat([batch.images for batch in window]))
            with torch.autocast("cpu", torch.bfloat16, enabled=precision != "32"):
                logits = model(images).float()
            losses = F.cross_entropy(logits, labels, reduction="none")
            losses = losses * 1.5 ** labels.float() * (1 + 0.01 * indices)
            loss = losses.mean() + sum(method.penalty(look(model)) for method in methods)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
    assert learner.step_count == steps
    room = {"rtol": 1e-5, "atol": 1e-6} if precision == "32" else {"rtol": 0.05, "atol": 0.01}
    torch.testing.assert_close(learner.model.fc.weight, model.fc.weight, **room)
    torch.testing.assert_close(learner.last_loss, loss.detach(), **room)


def test_a_penalty_is_asked_for_once_a_step(make):
    asked = []

    class Asked(Method):
        summary = "test"

        def penalty(self, forward):
            asked.append(learner.step_count)

    trainer = {"accelerator": "cpu", "accumulate_grad_batches": 2}
    learner, batches = make([Asked()], steps=4, trainer=trainer)
    fit(learner, Batches(batches.examples, 4, (0,), accumulate=2))
    assert asked == [0, 1, 2, 3]


def test_gradients_and_the_optimizers_state_leave_their_room_to_what_follows(make):
    learner, batches = make(optimizer={"name": "adamw", "lr": 0.1}, steps=2)
    sizes = []
    learner.on_step = lambda step: sizes.append(len(learner.trainer.optimizers[0].state))
    fit(learner, batches)
    assert sizes == [4, 4]  # of all parameters
    assert not learner.trainer.optimizers[0].state
    assert all(p.grad is None for p in learner.model.parameters())


def test_callbacks_find_the_optimizers_state_until_training_ends(make):
    class Looks(L.Callback):
        def on_train_end(self, trainer, pl_module):
            found.append(len(trainer.optimizers[0].state))
            weights.append(pl_module.model.fc.weight.detach().clone())

        def on_fit_end(self, trainer, pl_module):
            found.append(len(trainer.optimizers[0].state))
            weights.append(pl_module.model.fc.weight.detach().clone())

    found, weights = [], []
    learner, batches = make(optimizer={"name": "adamw", "lr": 0.1}, steps=2, ema=0.5)
    quiet()
    trainer = make_trainer(learner.recipe, 2)
    trainer.callbacks.append(Looks())
    trainer.fit(learner, train_dataloaders=batches)
    assert found == [4, 0]
    assert not torch.equal(*weights)  # the average comes after the last step's


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_gradients_are_clipped_under_fused_kernels(make, precision, algorithm, name):
    optimizer = {"name": name, "lr": 0.1} | ({"momentum": 0.0} if name == "sgd" else {})
    trainer = {
        "accelerator": "cpu",
        "precision": precision,
        "gradient_clip_val": 1e-3,
        "gradient_clip_algorithm": algorithm,
    }
    learner, batches = make(optimizer=optimizer, steps=1, trainer=trainer)
    before, gradients = learner.model.fc.weight.detach().clone(), []
    learner.on_step = lambda step: gradients.extend(p.grad for p in learner.model.parameters())
    fit(learner, batches)
    assert learner.trainer.optimizers[0].param_groups[0]["fused"]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    largest = max(g.abs().max() for g in gradients)
    assert float(norm if algorithm == "norm" else largest) == pytest.approx(1e-3, rel=1e-3)
    assert not torch.equal(learner.model.fc.weight, before)


def loss_and_gradient(make, methods, share=1.0):
    learner, batches = make(methods)
    learner.model.eval()
    batch = next(iter(batches))._replace(share=share)
    loss = learner.training_step(batch, 0)
    loss.backward()
    return loss.detach(), learner.model.fc.weight.grad, batch, learner.model


def test_weights_multiply_and_penalties_add(make):
    loss, gradient, batch, model = loss_and_gradient(make, [Scaled(), Silent(), Shifted()])
    inputs = PLAIN.test(batch.images)
    own = model(inputs)[:, 2:]
    per_sample = F.cross_entropy(own, batch.labels - 2, reduction="none")
    factors = 2 ** batch.labels.float() * (1 + 0.3 * batch.indices)
    weight, bias = model.fc.weight, model.fc.bias
    wanted = (factors * per_sample).mean() + 0.5 * (weight**2).sum() + 0.3 * bias.abs().sum()
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, weight)[0])


def test_order_of_the_methods_does_not_matter_to_the_loss(make):
    methods = [Scaled(), Shifted(), Silent()]
    wanted = loss_and_gradient(make, methods)
    for seed in range(3):
        random.Random(seed).shuffle(methods)
        found = loss_and_gradient(make, methods)
        torch.testing.assert_close(found[0], wanted[0])
        torch.testing.assert_close(found[1], wanted[1])


def test_methods_without_a_contribution_change_no_bit(make):
    found, wanted = loss_and_gradient(make, [Silent(), Method()]), loss_and_gradient(make, [])
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_share_scales_the_data_loss_but_not_the_penalty(make):
    whole = loss_and_gradient(make, [])[0]
    with_penalty = loss_and_gradient(make, [Scaled(base=1.0)])[0]
    found = loss_and_gradient(make, [Scaled(base=1.0)], share=0.25)[0]
    torch.testing.assert_close(found, 0.25 * whole + (with_penalty - whole))


def test_a_sample_at_share_zero_is_not_counted(make):
    learner, batches = make()
    learner.training_step(next(iter(batches))._replace(share=0.0), 0)
    assert learner.sample_count == 0


def test_hooks_come_in_order_around_the_step(make):
    log = []
    methods = [Witness(name="a", log=log), Witness(name="b", log=log)]
    for method in methods:
        method.log = log
    learner, batches = make(methods, steps=2)
    fit(learner, batches)
    wanted = [f"{m} {what}" for n in (1, 2) for what in ("project", f"after {n}") for m in "ab"]
    assert [name for name, _ in log] == wanted
    weights = dict(log[:4])
    assert not torch.equal(weights["b project"], weights["a after 1"])  # the step lies between
    assert torch.equal(weights["a after 1"], log[4][1])  # and nothing afterwards


def test_on_step_counts_over_the_whole_stream(make):
    learner, batches = make(steps=3)
    steps = []
    learner.first_step, learner.on_step = 10, steps.append
    fit(learner, batches)
    assert steps == [11, 12, 13]


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5},
        {"name": "adamw", "lr": 0.1, "weight_decay": 0.5},
    ],
)
def test_rows_of_idle_classes_do_not_move(make, optimizer):
    learner, batches = make(optimizer=optimizer, steps=4)
    before = snapshot(learner.model)
    fit(learner, batches)
    for name in ("fc.weight", "fc.bias"):
        now = learner.model.state_dict()[name]
        assert torch.equal(now[:2], before[name][:2])
        assert (now[2:] != before[name][2:]).all()


def test_rows_in_the_loss_do_move(make):
    learner, batches = make(logits="seen")
    before = snapshot(learner.model)
    fit(learner, batches)
    assert (learner.model.fc.weight[:2] != before["fc.weight"][:2]).all()


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_normalisation_keeps_its_statistics(make, frozen):
    learner, batches = make([HeadOnly()] if frozen else [], steps=4)  # more than one epoch
    before = snapshot(learner.model)
    fit(learner, batches)
    assert learner.model.norm.training is not frozen
    for name in ("running_mean", "running_var"):
        now = learner.model.state_dict()[f"norm.{name}"]
        assert torch.equal(now, before[f"norm.{name}"]) is frozen


def test_batch_normalisation_frozen_by_the_recipe_equals_a_plain_loop(make):
    learner, batches = make(logits="all", steps=7)
    frozen = learner.recipe.model.model_copy(update={"batch_norm_training": "frozen"})
    learner.recipe = learner.recipe.model_copy(update={"model": frozen})
    before = snapshot(learner.model)
    torch.manual_seed(0)
    model = Network().eval()
    model.load_state_dict(before)
    fit(learner, batches)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    again = Batches(batches.examples, 4, (0,))
    for batch in [*again, *again, *again][:7]:
        optimizer.zero_grad()
        F.cross_entropy(model(PLAIN.test(batch.images)), batch.labels).backward()
        optimizer.step()
    for name, x in learner.model.state_dict().items():
        torch.testing.assert_close(x, model.state_dict()[name], rtol=1e-6, atol=1e-7)
        kept = any(part in name for part in ("running", "num_batches"))
        assert torch.equal(x, before[name]) is kept or name == "fc.bias"


def test_a_loss_that_is_no_number_is_one_clear_error(make):
    learner, batches = make(optimizer={"lr": 1e30, "momentum": 0.0}, steps=400)
    with pytest.raises(
        ClbenchError, match=r"loss is (nan|inf) at step [23] of.*lower optimizer.lr"
    ):
        fit(learner, batches)
    assert learner.step_count <= 2
