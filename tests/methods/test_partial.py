"""What is trained of a network, and what rests: by forward passes, by runs, and at reading."""

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.bitfit import BitFit, biases
from clbench.methods.freeze import Freeze, blocks_of, frozen_names
from clbench.methods.l2_sp import starting_point_penalty
from clbench.methods.ln_only import LNOnly, affine
from clbench.models import head_names
from clbench.models.batch_norm import statistics
from clbench.recipe.recipe import parse

#: Blocks as their papers count them.
BLOCKS = {
    "vit_base_patch16_224": 12,
    "resnet18": 8,
    "resnet50": 16,
    "convnext_tiny": 18,
    "swin_tiny_patch4_window7_224": 12,
    "tf_efficientnet_lite0": 16,
}


def trunk_names(model):
    return [name for name, _ in model.named_parameters() if name not in head_names(model)]


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_those_of_the_papers(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert len(blocks_of(trunk_names(model))) == BLOCKS[name]


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_byobnet"]
)
def test_what_is_frozen_comes_first_in_the_forward_pass(name):
    """So that no gradient needs to go through it."""
    model = timm.create_model(name, num_classes=3).eval()
    called = []
    for prefix, module in model.named_modules():
        own = [f"{prefix}.{leaf}".lstrip(".") for leaf, _ in module.named_parameters(recurse=False)]
        if own and prefix:
            module.register_forward_hook(lambda *_, own=own: called.append(own))
    names = trunk_names(model)
    model(torch.zeros(1, 3, *model.default_cfg["input_size"][1:]))
    for count in range(1, 1 + len(blocks_of(names))):
        still = frozen_names(names, count)
        rests = [still.issuperset(own) for own in called]
        assert rests == sorted(rests, reverse=True), count
        assert any(rests), count
        whole = [own for own, rest in zip(called, rests, strict=True) if not rest]
        assert still.isdisjoint(name for own in whole for name in own)


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0.5, 2), (0.49, 1), (3, 3), (4, 4)])
def test_a_share_is_rounded_down(first, count):
    assert Freeze(first=first).count(4) == count


@pytest.mark.parametrize("first", [-1, 1.0, 2.5])
def test_what_is_no_number_of_blocks(first):
    with pytest.raises(ValidationError, match="first"):
        Freeze(first=first)


def ran(recipe, folder, methods):
    record = clbench.run(recipe | {"methods": methods}, folder)
    return record, load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("method", "chosen"),
    [
        (Freeze(first=1), lambda model: set(trunk_names(model)) - frozen_names(
            trunk_names(model), 1)),
        (BitFit(), lambda model: {n for n in trunk_names(model) if n.endswith("bias")}),
        (LNOnly(), lambda model: {n for n, p in model.named_parameters() if p.ndim == 1}
         - set(head_names(model))),
    ],
    ids=["freeze", "bitfit", "ln_only"],
)  # fmt: skip
def test_what_moves_in_a_run(recipe, tmp_path, no_pictures, method, chosen):
    """On a network with BatchNorm, with momentum and decay, which move what has no gradient."""
    recipe["stream"] |= {"first_tasks": 1}
    recipe["images"] = {"size": 32}
    options = {"zero_init_last": False}  # else most of it has no gradient in the first step
    recipe["model"] = {"backbone": "test_resnet", "weights": "none", "options": options}
    recipe |= {"steps": 3, "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}}
    name = type(method).__name__.lower().replace("lnonly", "ln_only")
    still = {"optimizer": {"name": "sgd", "lr": 1e-30}, "steps": 1}
    _, start = ran(recipe | still, tmp_path / "start", {"linear_probe": {}})
    record, end = ran(recipe, tmp_path / "run", {name: method.model_dump()})
    model = timm.create_model("test_resnet", num_classes=len(end["fc.bias"]))
    wanted = chosen(model)
    moved = {n for n in trunk_names(model) if not torch.equal(start[n], end[n])}
    assert moved == wanted
    numbers = {n for n in statistics(model) if n.endswith("running_mean")}
    follow = {n for n in numbers if not torch.equal(start[n], end[n])}
    assert follow == {n for n in numbers if n.replace("running_mean", "bias") in wanted}
    sizes = {n: end[n].numel() for n in trunk_names(model)}
    share = 1 - sum(sizes[n] for n in wanted) / sum(sizes.values())
    did = record.tasks[0].methods[name]
    assert did["scope"] == did["frozen_share"] == pytest.approx(share)
    assert did["active"] == 1


def test_norms_of_all_kinds_are_found():
    model = timm.create_model("test_convnext", num_classes=3)
    found = affine(model) | affine(nn.Sequential(nn.RMSNorm(2), nn.BatchNorm1d(2, affine=False)))
    assert "0.weight" in found
    assert {n for n in trunk_names(model) if "norm" in n} <= found
    assert not {n for n in found if "conv" in n or "mlp" in n or "gamma" in n}


def test_biases_are_those_of_attention_too():
    with torch.device("meta"):
        model = timm.create_model("beit_base_patch16_224")
    found = biases(trunk_names(model))
    assert {"blocks.0.attn.q_bias", "blocks.0.attn.v_bias", "blocks.3.norm1.bias"} <= found
    assert not any("table" in name for name in found)


@pytest.mark.parametrize("name", ["LayerNormFp32", "RmsNorm", "RmsNormFp32", "SimpleNormFp32"])
def test_norms_in_full_precision_are_norms(name):
    assert "weight" in affine(getattr(timm.layers, name)(4))


@pytest.mark.parametrize(
    ("methods", "model", "why"),
    [
        ({"freeze": {"first": 7}}, {}, r"to freeze 7 blocks \(first\), and the network has 6"),
        ({"freeze": {"first": 0.1}}, {}, "0.1 of 6 blocks, which is none: raise first"),
        ({"freeze": {"first": 13}}, {"backbone": "vit_tiny_patch16_224", "weights": "none"}, "12:"),
        ({"ln_only": {}}, {"backbone": "vgg11", "weights": "none"}, "finds no normalisation layer"),
        ({"bitfit": {}, "lora": {}}, {}, "each freezes what the other trains"),
        ({"ln_only": {}, "bitfit": {}}, {}, "each freezes what the other trains"),
        ({"freeze": {}, "linear_probe": {}}, {}, "it freezes the whole trunk"),
    ],
)
def test_what_will_not_do_is_refused_at_reading(recipe, methods, model, why):
    if model:
        recipe["model"] = model
    with pytest.raises(ClbenchError, match=why) as caught:
        parse(recipe | {"methods": methods})
    assert "\n" not in str(caught.value)


def test_a_trunk_without_biases():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2))
    assert "finds no bias" in BitFit().lacking(model, ("1.weight", "1.bias"))
    assert not BitFit().lacking(model, ())


def test_the_starting_point_is_kept_by_its_formula():
    torch.manual_seed(0)
    w, start, v = (torch.randn(3, 2, dtype=torch.float64) for _ in range(3))
    w.requires_grad_()
    v.requires_grad_()
    value = starting_point_penalty([w], [start], [v], 0.3, 0.7)
    wanted = 0.15 * (w - start).square().sum() + 0.35 * v.square().sum()
    torch.testing.assert_close(value, wanted)
    found = torch.autograd.grad(value, [w, v])
    torch.testing.assert_close(found, (0.3 * (w - start), 0.7 * v))
    torch.testing.assert_close(
        starting_point_penalty([], [], [v], 1.0, 0.7), 0.35 * v.square().sum()
    )
    with pytest.raises(ValueError, match="strength"):
        starting_point_penalty([w], [start], [v], -1.0, 0.0)


def test_l2_sp_is_l2_of_the_trunk_and_decay_of_the_head(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    recipe |= {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}, "steps": 4}
    _, l2 = ran(recipe, tmp_path / "l2", {"l2": {"strength": 0.5}})
    record, ours = ran(recipe, tmp_path / "l2_sp", {"l2_sp": {"alpha": 0.5, "beta": 0.0}})
    assert all(torch.equal(x, ours[name]) for name, x in l2.items())
    assert 0 < record.tasks[0].methods["l2_sp"]["scope"] <= 1
    recipe["steps"] = 1  # at θ_*, where the trunk's part is 0
    _, plain = ran(recipe, tmp_path / "plain", {})
    _, both = ran(recipe, tmp_path / "both", {"l2_sp": {"alpha": 0.5, "beta": 0.2}})
    _, start = ran(recipe | {"optimizer": {"name": "sgd", "lr": 1e-30}}, tmp_path / "start", {})
    rows = (plain["fc.weight"] != start["fc.weight"]).any(1)  # of the task
    assert 0 < int(rows.sum()) < len(rows)
    for name in ("fc.weight", "fc.bias"):
        wanted = plain[name][rows] - 0.1 * 0.2 * start[name][rows]
        torch.testing.assert_close(both[name][rows], wanted, rtol=1e-5, atol=1e-7)
        assert torch.equal(both[name][~rows], start[name][~rows])
    assert torch.equal(both["conv1.weight"], plain["conv1.weight"])


def test_l2_sp_rests_where_nothing_is_trained_any_more(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 10}
    record, _ = ran(recipe, tmp_path / "run", {"l2_sp": {}, "aper": {}})
    first, second = (event.methods["l2_sp"] for event in record.tasks)
    assert first["active"] == 1
    assert second["active"] == second["gradient_norm"] == second["penalty"] == 0
