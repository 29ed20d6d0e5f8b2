"""InfLoRA: the authors' numbers, inputs by slow loops, and what a run keeps away from."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import Conv2dSame
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.inflora import InfLoRA, designed
from clbench.methods.spanned import Spanned, dual_gpm
from clbench.models import tiny  # noqa: F401  (registers the tiny backbones)
from clbench.models.inputs import input_covariances
from clbench.recipe.recipe import parse
from clbench.weights import snapshot

PEERS = np.load(Path(__file__).parents[1] / "reference" / "inflora.npz")
LAYERS = sorted({m[1] for name in PEERS.files if (m := re.match(r".*/task0/(layer\d+)/", name))})
TASKS = len({m[1] for name in PEERS.files if (m := re.match(r".*/(task\d+)/", name))})


def peer(task, layer, what):
    return torch.from_numpy(np.asarray(PEERS[f"inflora/task{task}/{layer}/{what}"]))


def batches(task, layer):
    names = [n for n in PEERS.files if n.startswith(f"inflora/task{task}/{layer}/tokens_batch")]
    return [torch.from_numpy(PEERS[name]).float() for name in sorted(names)]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("task", range(TASKS))
def test_inputs_are_the_authors(task, layer):
    found = input_covariances(nn.Linear(10, 3), [""], batches(task, layer))[""]
    torch.testing.assert_close(found, peer(task, layer, "covariance"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_directions_and_memory_are_the_authors(layer):
    low, high = map(float, PEERS["inflora/lamb_lame"])
    rank, sessions = int(PEERS["inflora/rank"]), int(PEERS["inflora/sessions"])
    spanned = None
    for task in range(TASKS):
        matrix = peer(task, layer, "covariance")
        down = designed(matrix, spanned, rank)
        torch.testing.assert_close(down.T @ down, peer(task, layer, "AtA"), rtol=0, atol=1e-8)
        spanned = dual_gpm(matrix, spanned, low + (high - low) * task / sessions)
        assert spanned.basis.shape[1] == int(peer(task, layer, "memory_rank"))
        assert spanned.free == bool(peer(task, layer, "memory_retains"))
        inside = spanned.basis @ spanned.basis.T
        torch.testing.assert_close(inside, peer(task, layer, "memory_projector"), rtol=0, atol=1e-8)


def test_the_smaller_basis_is_kept_and_what_is_left_is_the_same():
    matrix = torch.diag(torch.tensor([5.0, 4, 3, 2, 1, 0.5]).double())
    few, many = dual_gpm(matrix, None, 0.8), dual_gpm(matrix, None, 0.99)
    assert (few.free, few.basis.shape[1]) == (False, 2)  # 25 and 16 of 55.25, not yet 80 %
    assert (many.free, many.basis.shape[1]) == (True, 2)  # four of six are spanned
    every = torch.eye(6).double()
    torch.testing.assert_close(
        many.rest(every), torch.diag(torch.tensor([0.0] * 4 + [1] * 2)).double()
    )
    # More than there is cannot be spanned, and then no direction is left.
    full = dual_gpm(matrix, dual_gpm(matrix, many, 1.0), 1.0)
    assert full.free
    assert full.basis.shape[1] == 0
    assert not designed(matrix, full, 3).any()


def test_later_tasks_reach_the_share_and_the_first_stays_below():
    first = torch.diag(torch.tensor([3.0, 1, 1, 0, 0, 0, 0, 0]).double())
    second = torch.diag(torch.tensor([0, 0, 0, 3.0, 1, 1, 1, 1]).double())
    spanned = dual_gpm(first, None, 0.9)
    assert spanned.basis.shape[1] == 1  # 9 of 11, and 10 of 11 are more than 90 %
    assert dual_gpm(second, spanned, 0.5).basis.shape[1] == 2
    assert dual_gpm(second, spanned, 0.75).basis.shape[1] == 3
    assert dual_gpm(torch.zeros(8, 8).double(), spanned, 0.9).basis.shape[1] == 1


@pytest.mark.parametrize("known", [0, 3])
def test_rounding_spans_nothing(known):
    """Of inputs in a space of ten dimensions; in a first task the last may stay out."""
    torch.manual_seed(35)
    x = torch.randn(17, 10).double() @ torch.randn(10, 60).double()
    before = Spanned(torch.linalg.qr(x)[0][:, :known], False) if known else None
    spanned = dual_gpm(x @ x.T, before, 1.0)
    taken = spanned.basis.shape[1]
    assert (17 - taken if spanned.free else taken) in (9 + (known > 0), 10)


def test_directions_that_are_not_left_are_none():
    spanned = Spanned(torch.eye(4).double()[:, :2], False)
    down = designed(torch.diag(torch.tensor([9.0, 8, 2, 0]).double()), spanned, 3)
    torch.testing.assert_close(
        down.abs() * 3**0.5,
        torch.eye(4).double()[[2, 3, 0]] * torch.tensor([[1.0], [0], [0]]).double(),
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, stride=2),
        nn.Conv2d(4, 6, (3, 2), padding=(0, 1), dilation=(1, 2), groups=2),
        nn.Conv2d(4, 4, 3, padding="same", groups=4),
        nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
        Conv2dSame(4, 6, 3, stride=2),
    ],
    ids=str,
)
def test_a_convolutions_inputs_are_what_its_weight_is_multiplied_with(layer, monkeypatch):
    monkeypatch.setattr("clbench.models.inputs.ROOM", 100)  # a few images at a time
    torch.manual_seed(0)
    images = torch.randn(5, 4, 7, 6)
    found = input_covariances(layer, [""], [images[:2], images[2:]])[""]
    # The gradient of one output by the weight's row is the patch that it was made of.
    wanted, count = torch.zeros_like(found), 0
    outputs = layer(images)
    for place in np.ndindex(*outputs.shape):
        if place[1] % (layer.out_channels // layer.groups):
            continue  # the group's first channel has seen the same patch
        (gradient,) = torch.autograd.grad(outputs[place], layer.weight, retain_graph=True)
        patch = gradient[place[1]].flatten().double()
        wanted, count = wanted + torch.outer(patch, patch), count + 1
    torch.testing.assert_close(found, wanted / count, rtol=1e-4, atol=1e-5)


def test_looking_leaves_the_network_as_it_is():
    model = timm.create_model("resnet10t", num_classes=3).train()
    before = snapshot(model)
    input_covariances(model, ["conv1.0"], [torch.randn(2, 3, 32, 32)])
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    assert model.bn1.training
    assert not model.conv1[0]._forward_pre_hooks
    with pytest.raises(ClbenchError, match="no way to see inputs of Conv1d"):
        input_covariances(nn.Conv1d(2, 2, 1), [""], [])


def test_a_layer_that_is_not_called_says_so():
    model = timm.create_model("beit_base_patch16_224", depth=1, embed_dim=24, num_heads=2)
    with pytest.raises(ClbenchError, match=r"blocks\.0\.attn\.qkv: Beit does not call this layer"):
        input_covariances(model, ["blocks.0.attn.qkv"], [torch.randn(1, 3, 224, 224)])


def vit():
    torch.manual_seed(0)
    return timm.create_model("tiny_vit", num_classes=3, depth=2, embed_dim=32, num_heads=2)


@pytest.mark.parametrize(
    ("letters", "rows"), [("kv", slice(32, None)), ("q", slice(0, 32)), ("", slice(None))]
)
def test_updates_are_of_rows_of_attention(letters, rows):
    model, method = vit(), InfLoRA(rank=3, qkv=letters)
    changed = method.surgery(model)
    factors = [n for n, _ in changed.named_parameters() if method.trainable(n)]
    assert len(factors) == 2 * max(1, len(letters))
    with torch.no_grad():
        for name in factors:
            changed.get_parameter(name).normal_()
    images = torch.randn(2, 3, 32, 32)
    merged = method.unwrap(snapshot(changed))
    moved = merged["blocks.1.attn.qkv.weight"] - model.blocks[1].attn.qkv.weight
    still = torch.ones(96, dtype=torch.bool)
    still[rows] = False
    assert moved.detach()[~still].any(1).all()
    assert not moved[still].any()
    wanted = changed.eval()(images)
    model.load_state_dict(merged)
    torch.testing.assert_close(model.eval()(images), wanted, rtol=1e-4, atol=1e-5)
    assert merged.keys() == model.state_dict().keys()


def test_a_network_without_attention_has_updates_of_all_layers():
    method = InfLoRA()
    method.surgery(timm.create_model("tiny_cnn", num_classes=3))
    assert list(method._updates) == ["conv1", "conv2", "conv3"]
    with pytest.raises(ClbenchError, match=r"inflora\.targets: '\*\.qkv' matches no"):
        InfLoRA(targets=("*.qkv",)).surgery(timm.create_model("tiny_cnn", num_classes=3))


@pytest.mark.parametrize(("fields", "reason"), [
    ({"qkv": "vk"}, "qkv"), ({"energy": 1.2}, "energy"), ({"rank": 0}, "rank"),
    ({"energy_of": "gradients"}, "energy_of"),
])  # fmt: skip
def test_wrong_fields_are_refused(recipe, fields, reason):
    with pytest.raises(ClbenchError, match=rf"methods\.inflora\.{reason}") as caught:
        parse(recipe | {"methods": {"inflora": fields}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("of", ["covariance", "inputs"])
def test_a_run_moves_nothing_along_what_past_tasks_have_spanned(
    recipe, tmp_path, no_pictures, monkeypatch, of
):
    seen = []

    def unwrap(self, theta, before=InfLoRA.unwrap):
        updates = {name: one[0].B @ one[0].A for name, one in self._updates.items()}
        seen.append((updates, dict(self._spanned)))
        return before(self, theta)

    monkeypatch.setattr(InfLoRA, "unwrap", unwrap)
    recipe["stream"] |= {"train_per_class": 30, "validation": 0}
    fields = {"rank": 4, "energy": 0.9, "energy_end": 0.99, "energy_of": of}
    record = clbench.run(recipe | {"methods": {"inflora": fields}, "steps": 8}, tmp_path / "run")
    for (_, spanned), (updates, _) in itertools.pairwise(seen):
        for name, update in updates.items():
            basis = spanned[name].basis.float()
            inside = basis @ basis.T
            inside = torch.eye(len(inside)) - inside if spanned[name].free else inside
            assert update.abs().max() > 1e-4
            assert (update @ inside).abs().max() < 1e-5 * update.abs().max() + 1e-8
    told = [event.methods["inflora"] for event in record.tasks]
    assert all(one["active"] and one["scope"] > 0.5 for one in told)
    shares = [one["inputs_spanned"] for one in told]
    assert 0 < shares[0] <= shares[1] <= shares[2] < 1
    footprint = record.tasks[-1].footprint["inflora"]
    assert footprint.stored_bytes == sum(8 * s.basis.numel() for s in seen[-1][1].values())
    # Both passes over the task's images are counted.
    parts = record.tasks[0].parts
    assert (parts["prepare"].passed, parts["finish"].passed) == (60, 60)


def test_the_first_tasks_are_those_of_the_whole_stream(recipe, tmp_path, no_pictures):
    recipe |= {"steps": 2, "methods": {"inflora": {"energy": 0.5, "energy_end": 0.999}}}
    whole = clbench.run(recipe, tmp_path / "whole")
    recipe["stream"] = recipe["stream"] | {"first_tasks": 2}
    some = clbench.run(recipe, tmp_path / "some")
    assert len(some.tasks) == 2
    for one, other in zip(some.tasks, whole.tasks, strict=False):
        assert one.methods == other.methods
