"""SPU: a slow loop over samples and steps, what rests, and networks that lack layers."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import VIT
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.spu import SPU, mean_gradient
from clbench.methods.task_vectors import largest
from clbench.recipe.recipe import parse
from clbench.record import checkpoints


class Block(nn.Module):
    """An MLP as timm names its layers, and a head."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(4, 6), "fc2": nn.Linear(6, 3)})

    def forward(self, x):
        return self.mlp["fc2"](torch.tanh(self.mlp["fc1"](x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.head = nn.ModuleList([Block()]), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.blocks[0](x))

    def get_classifier(self):
        return self.head


@pytest.fixture
def task():
    torch.manual_seed(5)
    return Network().double(), torch.randn(20, 4).double(), torch.arange(20) % 3


def losses(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def context(model, x, y):
    reader = SimpleNamespace(batches=lambda *_: zip(x.split(7), y.split(7), strict=True))
    return SimpleNamespace(
        model=model,
        head=("head.weight", "head.bias"),
        drawn=lambda *_: None,
        seed=0,
        reader=reader,
        device=torch.device("cpu"),
        losses=losses,
        seen_C=torch.tensor([True, True, False]),
    )


@pytest.mark.parametrize("score", ["loss", "outputs"])
def test_the_choice_is_that_of_a_loop_over_samples(task, score):
    model, x, y = task
    total = torch.zeros(6, 4).double()
    weight = model.blocks[0].mlp["fc1"].weight
    for i in range(20):
        z = model(x[i : i + 1])
        value = losses(z, y[i : i + 1])[0] if score == "loss" else z[0, :2].square().sum()
        total += torch.autograd.grad(value, weight)[0] / 20
    method = SPU(fraction=0.25, score=score)
    method.start(context(model, x, y))
    wanted = torch.zeros(6, 4, dtype=torch.bool)
    wanted.view(-1)[total.abs().flatten().argsort(descending=True)[:6]] = True
    assert torch.equal(method._chosen["blocks.0.mlp.fc1.weight"], wanted)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_is_that_of_a_loop_by_hand(task, optimizer):
    """Gradients of other entries are zero, and they are put back after weight decay."""
    model, x, y = task
    twin = Network().double()
    twin.load_state_dict(model.state_dict())
    method = SPU(fraction=0.25)
    method.start(context(model, x, y))
    mask = method._chosen["blocks.0.mlp.fc1.weight"]
    rests = [n for n, p in model.named_parameters() if not method.trainable(n)]
    assert rests == ["blocks.0.mlp.fc2.weight", "blocks.0.mlp.fc2.bias"]
    for name in rests:
        model.get_parameter(name).requires_grad_(False)
    own = optimizer([p for p in model.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    weight, start = twin.blocks[0].mlp["fc1"].weight, model.blocks[0].mlp["fc1"].weight.clone()
    chosen = [p for n, p in twin.named_parameters() if n not in rests]
    hand = optimizer(chosen, 0.1, weight_decay=0.1)
    for step in range(1, 6):
        own.zero_grad()
        losses(model(x), y).mean().backward()
        method.project(model)
        own.step()
        method.after_step(model, step)
        hand.zero_grad()
        losses(twin(x), y).mean().backward()
        for i in range(6):
            for j in range(4):
                weight.grad[i, j] *= float(mask[i, j])
        hand.step()
        with torch.no_grad():
            weight[~mask] = start[~mask]
    for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name)
    assert torch.equal(model.blocks[0].mlp["fc1"].weight[~mask], start[~mask])
    assert method.activity()["trained_share"] == pytest.approx((6 + 6) / (24 + 6 + 18 + 3))


def test_so_many_entries_one_at_least_and_the_first_of_equals():
    assert largest(torch.ones(25), 0.1).tolist() == [True] * 2 + [False] * 23
    assert largest(torch.tensor([1.0, 3.0, 2.0]), 0.1).tolist() == [False, True, False]
    random = torch.rand(1001, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert [int(largest(random, d).sum()) for d in (0.1, 0.5)] == [100, 500]
    with pytest.raises(ValueError, match="holds no samples"):
        mean_gradient(Network(), [], losses, ["head.weight"])


@pytest.fixture
def vit(recipe, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 30}
    recipe["optimizer"] = {"name": "adamw", "lr": 0.01, "weight_decay": 0.5}
    return recipe | {"model": VIT, "steps": 4, "checkpoints": "all"}


def test_a_run_changes_nothing_else(vit, tmp_path):
    record = clbench.run(vit | {"methods": {"spu": {"fraction": 0.05}}}, tmp_path)
    one, two = (checkpoints.load(tmp_path, n, ("trained",))["trained"] for n in (1, 2))
    assert all(torch.equal(x, two[n]) for n, x in load_file(tmp_path / "model.safetensors").items())
    for name, x in one.items():
        changed = int((x != two[name]).sum())
        if name.endswith("mlp.fc1.weight"):
            assert 0 < changed <= int(0.05 * x.numel())
        elif name.endswith("mlp.fc1.bias") or name.startswith("head"):
            assert changed
        else:
            assert not changed
    did = record.tasks[1].methods["spu"]
    assert did["active"] == 1
    assert did["scope"] == 1 - did["trained_share"] > 0.9


def test_a_network_without_such_layers_is_refused_when_the_recipe_is_read(recipe):
    with pytest.raises(ClbenchError, match=r"methods\.spu\.targets, or choose a vision") as caught:
        parse(recipe | {"methods": {"spu": {}}})
    told = str(caught.value)
    assert told.startswith("methods: spu has nothing to train on model.backbone = 'tiny_cnn'")
    assert "\n" not in told
    parse(recipe | {"methods": {"spu": {"targets": ["conv2"]}}})
    for other in ("lora", "l2p", "linear_probe"):
        with pytest.raises(ClbenchError, match="do not go together"):
            parse(recipe | {"model": VIT, "methods": {"spu": {}, other: {}}})


def test_layers_of_a_cnn_that_are_named(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    methods = {"spu": {"targets": ["conv2"], "samples": 30, "score": "outputs"}}
    record = clbench.run(recipe | {"steps": 2, "methods": methods}, tmp_path)
    assert 0 < record.tasks[0].methods["spu"]["trained_share"] < 0.2


def test_refuses_wrong_fields():
    for fields in ({"fraction": 0}, {"fraction": 1.1}, {"targets": []}, {"score": "fisher"}):
        with pytest.raises(ValidationError):
            SPU(**fields)
