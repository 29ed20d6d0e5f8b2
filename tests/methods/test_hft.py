from types import SimpleNamespace

import pytest
import timm
import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import SGD, AdamW

from clbench.methods.hft import HFT, blocks
from clbench.optim import MoFO, layers_of
from clbench.recipe.recipe import parse
from clbench.runner.runner import run


def context(model, head=(), seed=0):
    return SimpleNamespace(model=model, head=head, seed=seed)


def network():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.blocks = nn.Sequential(
        *[nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(6)]
    )
    model.head = nn.Linear(4, 3)
    return model


HEAD = ("head.weight", "head.bias")


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("resnet18", ("fc.weight", "fc.bias")),
        ("vit_tiny_patch16_224", ("head.weight", "head.bias")),
        ("convnext_atto", ("head.fc.weight", "head.fc.bias")),
    ],
)
def test_half_of_each_layer_is_trained(backbone, head):
    model = timm.create_model(backbone)
    names = blocks(model, head)
    method = HFT()
    drawn = set()
    for seed in range(3):
        method.start(context(model, head, seed))
        for layer in set(layers_of(names)):
            members = [n for n, of in zip(names, layers_of(names), strict=True) if of == layer]
            trained = sum(map(method.trainable, members))
            assert trained in {len(members) // 2, (len(members) + 1) // 2}
        assert all(map(method.trainable, head))
        drawn.add(tuple(map(method.trainable, names)))
        assert 0.2 < method.activity()["frozen_share"] < 0.8
        assert method.activity()["active"] == 1
    assert len(drawn) == 3


@pytest.mark.parametrize("redraw", ["task", "step"])
def test_draws_depend_on_the_seed_only(redraw):
    draws = []
    for seed, disturbance in ((4, 0), (4, 1), (5, 0)):
        torch.manual_seed(disturbance)
        method, model = HFT(redraw=redraw), network()
        method.start(context(model, HEAD, seed))
        draw = [method._frozen]
        for _ in range(3):
            method.project(model)
            draw.append(method._frozen)
        draws.append(draw)
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == (1 if redraw == "task" else 4)


def fused_sgd(params):
    """torch's fused SGD stops where some parameters have a momentum buffer and some have none."""
    params = list(params)
    optimizer = SGD(params, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True)
    for p in params:
        optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


@pytest.mark.parametrize(
    "make",
    [
        lambda params: SGD(params, 0.1, momentum=0.9, weight_decay=0.1),
        fused_sgd,
        lambda params: AdamW(params, 0.1, weight_decay=0.1, fused=True),
        lambda params: MoFO(params, 0.1, weight_decay=0.1),
    ],
    ids=["sgd", "sgd_fused", "adamw", "mofo"],
)
def test_frozen_blocks_are_bit_identical_in_each_step(make):
    """Neither momentum of earlier steps nor weight decay moves them."""
    method, model = HFT(redraw="step"), network()
    method.start(context(model, HEAD))
    assert all(method.trainable(name) for name, _ in model.named_parameters())
    optimizer = make(model.parameters())
    masks = set()
    for _ in range(8):
        optimizer.zero_grad()
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        method.project(model)
        optimizer.step()
        frozen = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
        assert frozen == method._frozen
        for block in range(6):
            assert sum(name.startswith(f"blocks.{block}.") for name in frozen) == 2
        assert not frozen & set(HEAD)
        masks.add(method._frozen)
    assert len(masks) == 8
    assert 0.3 < method.activity()["frozen_share"] < 0.6


@pytest.mark.parametrize("redraw", ["task", "step"])
def test_a_fraction_of_one_freezes_nothing(redraw):
    method, model = HFT(fraction=1, redraw=redraw), network()
    method.start(context(model, HEAD))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    method.project(model)
    assert all(method.trainable(name) for name, _ in model.named_parameters())
    assert all(p.grad is not None for p in model.parameters())
    assert method.activity() == {"frozen_share": 0.0, "active": 0.0, "scope": 0.0}


@pytest.mark.parametrize("fields", [{"fraction": 0}, {"fraction": 1.1}, {"redraw": "epoch"}])
def test_refuses_wrong_fields(fields):
    with pytest.raises(ValidationError):
        HFT(**fields)


def final_weights(recipe, folder, methods):
    from safetensors.torch import load_file

    record = run(parse(recipe | {"methods": methods, "steps": 4}), folder)
    (file,) = folder.rglob("*.safetensors")
    return record, load_file(file)


@pytest.mark.parametrize("redraw", ["task", "step"])
def test_in_a_stream(recipe, tmp_path, redraw):
    _, plain = final_weights(recipe, tmp_path / "plain", {})
    neutral = {"hft": HFT(fraction=1, redraw=redraw)}
    _, neutral = final_weights(recipe, tmp_path / "neutral", neutral)
    record, hft = final_weights(recipe, tmp_path / "hft", {"hft": HFT(redraw=redraw)})
    assert all(torch.equal(neutral[name], x) for name, x in plain.items())
    assert not all(torch.equal(hft[name], x) for name, x in plain.items())
    assert all(event.methods["hft"]["active"] for event in record.tasks)
