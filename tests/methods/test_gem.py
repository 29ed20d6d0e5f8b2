import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import clbench
from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.methods.gem import AGEM, GEM, flat_gradient, project, project_average
from clbench.models.loss import ClassLoss
from clbench.models.modes import undisturbed
from clbench.record import checkpoints
from clbench.streams import Task

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "gem.npz")


@pytest.mark.parametrize("case", range(4))
def test_projection_is_the_authors(case):
    def read(name):
        return torch.from_numpy(REFERENCE[f"case{case}/{name}"])

    found = project(read("gradient"), read("memory_gradients"), float(read("margin")))
    torch.testing.assert_close(found, read("projected"), rtol=1e-9, atol=1e-10)


def test_a_gradient_that_agrees_is_left_alone():
    memory = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    gradient = torch.tensor([1.0, 0.5])
    assert project(gradient, memory) is gradient
    assert project_average(gradient, memory[0]) is gradient


def test_projection_meets_all_constraints():
    random = torch.Generator().manual_seed(0)
    for _ in range(20):
        memory = torch.randn(4, 30, generator=random, dtype=torch.float64) * 10
        gradient = torch.randn(30, generator=random, dtype=torch.float64)
        products = memory @ project(gradient, memory, 0.0)
        assert products.min() > -1e-2  # the damping lets a little through


def test_averaged_projection_is_orthogonal():
    gradient, memory = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.3, 1.0, 0.0])
    projected = project_average(gradient, memory)
    assert abs(float(projected @ memory)) < 1e-6
    expected = gradient - (gradient @ memory) / (memory @ memory) * memory
    torch.testing.assert_close(projected, expected)


def test_wrong_shapes_and_margins_are_refused():
    with pytest.raises(ValueError, match=r"\(P,\) and memory_gradients \(T, P\)"):
        project(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ValueError, match="margin must be at least 0"):
        project(torch.zeros(3), torch.zeros(1, 3), margin=-1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(16, 4),
    )


def context_of(model, task=1, logits="task"):
    images = TensorImages(
        torch.randint(0, 256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(1)).byte()
    )
    split = Split(images, torch.arange(20) + 20 * task, torch.arange(20) % 2 + 2 * task)
    owner = torch.tensor([0, 0, 1, 1])
    return SimpleNamespace(
        task=Task(task, "t", range(2 * task, 2 * task + 2), split, split, split),
        model=model,
        head=("5.weight", "5.bias"),
        reader=Reader(Transform(4, (0.5,) * 3, (0.5,) * 3, Augment())),
        losses=ClassLoss(logits, split.labels.unique(), owner, torch.ones(4, dtype=torch.bool)),
        seed=7,
        batch_size=8,
        device=torch.device("cpu"),
    )


def after_one_task(method, model, logits="all"):
    first = context_of(model, 0, logits)
    method.start(first)
    method.finish(first)
    second = context_of(model, 1, logits)
    method.start(second)
    return second


def memory_gradients(model, context, method):
    index, labels = torch.cat(method._index), torch.cat(method._labels)
    inputs = context.reader.transform.test(context.task.train.images.take(index))
    with undisturbed(model):
        loss = context.losses(model(inputs), labels).mean()
        return torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("method", [GEM(margin=0.0, samples=8), AGEM(samples=8)])
def test_step_along_the_projected_gradient_does_not_raise_the_memory_loss(method):
    model = network()
    context = after_one_task(method, model)
    memory = memory_gradients(model, context, method)
    for parameter, gradient in zip(model.parameters(), memory, strict=True):
        parameter.grad = -gradient  # the worst there is
    method.project(model)
    flat = torch.cat([gradient.flatten() for gradient in memory])
    assert abs(float(flat @ flat_gradient(model))) < 1e-2 * float(flat @ flat)
    counts = {"projections": 1, "steps": 1, "memory": 8, "active": 1}
    assert method.activity() == counts | {"scope": 1}  # of one step, all were projected


def test_memory_passes_leave_no_trace():
    model, method = network().train(), GEM(samples=8)
    after_one_task(method, model)
    F.cross_entropy(model(torch.randn(6, 3, 4, 4)), torch.tensor([2, 3] * 3)).backward()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    method.project(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(module.training for module in model.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_a_large_memory_is_read_in_batches():
    model, method = network().eval(), GEM(samples=20)
    context = after_one_task(method, model)
    memory = memory_gradients(model, context, method)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    sizes = []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    found = torch.full((sum(p.numel() for p in model.parameters()),), 3.0)
    method._gradient(model, method._index[0], method._labels[0], found)
    assert sizes == [7, 7, 6]  # of a batch size of 8
    torch.testing.assert_close(found, torch.cat([gradient.flatten() for gradient in memory]))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_past_tasks_rows_of_the_head_are_part_of_the_problem(margin):
    """Eqs. 8-12 of the paper are over all of θ; the losses protected are those of past heads."""
    model, method = network().eval(), GEM(samples=8, margin=margin)
    context = after_one_task(method, model, logits="task")
    memory = torch.cat([g.flatten() for g in memory_gradients(model, context, method)])
    model(torch.randn(6, 3, 4, 4)).sum().backward()  # somewhere to start
    for parameter, part in zip(model.parameters(), memory.split([p.numel() for p in
                               model.parameters()]), strict=True):  # fmt: skip
        parameter.grad = -part.view_as(parameter) + 0.01 * torch.randn_like(parameter)
    model[5].weight.grad[:2] = model[5].bias.grad[:2] = 0  # the current loss does not see them
    before = flat_gradient(model).clone()
    method.project(model)
    # One constraint: v = max(margin, -g·m / (m·m + damping)).
    v = max(margin, -float(before @ memory) / (float(memory @ memory) + 1e-3))
    torch.testing.assert_close(flat_gradient(model), before + v * memory, rtol=1e-4, atol=1e-5)
    assert model[5].weight.grad[:2].norm() > 0
    assert model[5].weight.grad[2:].norm() > 0


@pytest.mark.parametrize("name", ["gem", "agem"])
@pytest.mark.parametrize("samples", [8, 0])
def test_past_rows_move_in_a_run_where_there_is_memory(
    recipe, tmp_path, no_pictures, name, samples
):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7], [8, 9]]}
    recipe |= {"methods": {name: {"samples": samples}}, "steps": 20, "checkpoints": "all"}
    record = clbench.run(recipe, tmp_path / "run")
    heads = []
    for number in (1, 2, 3):
        shown = checkpoints.load(record.folder, number, ("shown",))["shown"]
        heads.append(shown["fc.weight"])
    for number in (1, 2):
        projected = record.tasks[number].methods[name]["projections"] > 0
        assert projected is (samples > 0)
        past, coming = slice(0, 2 * number), slice(2 * number + 2, 6)
        assert torch.equal(heads[number][past], heads[number - 1][past]) is not projected
        assert torch.equal(heads[number][coming], heads[number - 1][coming])


def test_frozen_parameters_take_no_part():
    model, method = network(), GEM(samples=8)
    after_one_task(method, model)
    model[0].weight.requires_grad_(False)
    F.cross_entropy(model(torch.randn(6, 3, 4, 4)), torch.tensor([2, 3] * 3)).backward()
    model[1].bias.grad = None
    method.project(model)
    assert model[0].weight.grad is None
    assert model[1].bias.grad is None


@pytest.mark.parametrize("method", [GEM(samples=0), AGEM(samples=0)])
def test_without_memory_nothing_happens(method):
    model = network()
    after_one_task(method, model)
    model(torch.randn(6, 3, 4, 4)).sum().backward()
    before = flat_gradient(model).clone()
    method.project(model)
    assert torch.equal(flat_gradient(model), before)
    assert method.activity()["active"] == 0


def test_memory_survives_a_checkpoint(tmp_path):
    method, model = GEM(samples=8), network()
    after_one_task(method, model)
    torch.save(method.state_dict(), tmp_path / "state")
    other = GEM(samples=8)
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert torch.equal(other._index[0], method._index[0])
    assert torch.equal(other._labels[0], method._labels[0])
    assert method._labels[0].max() <= 1


def test_overflows_are_left_to_the_scaler():
    model, method = network(), GEM(samples=8)
    after_one_task(method, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    method.project(model)
    assert method.activity()["projections"] == 0
