"""GPM: its authors' bases and gradients, convolutions as matrices, and what rests in runs."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.gpm import GPM
from clbench.methods.spanned import across, extended
from clbench.models.inputs import input_grams, layer_columns, weighted
from clbench.recipe.recipe import parse
from clbench.record import checkpoints

PEERS = np.load(Path(__file__).parents[1] / "reference" / "gpm.npz")
LAYERS = sorted({int(n.rpartition("activations")[2]) for n in PEERS.files if "activations" in n})
TASKS = sorted({int(n.split("/")[0][4:]) for n in PEERS.files if n.startswith("task")})
PROJECTED = [n.rpartition("/")[0] for n in PEERS.files if n.endswith("/projected")]


def peer(name):
    return torch.from_numpy(PEERS[name])


@pytest.mark.parametrize("layer", LAYERS)
def test_bases_are_the_authors(layer):
    basis = peer(f"task0/basis{layer}")[:, :0]
    for task in TASKS:
        x = peer(f"task{task}/activations{layer}")
        threshold = float(peer(f"task{task}/thresholds_used")[layer])
        before, basis = basis, extended(basis, x @ x.T, threshold, below=task == 0)
        assert basis.shape[1] == int(peer(f"task{task}/rank{layer}"))
        wanted = peer(f"task{task}/projector{layer}")
        torch.testing.assert_close(basis @ basis.T, wanted, rtol=1e-8, atol=1e-8)
        assert torch.equal(basis[:, : before.shape[1]], before)


@pytest.mark.parametrize("case", PROJECTED)
def test_projected_gradients_are_the_authors(case):
    found = across(peer(f"{case}/gradient"), peer(f"{case}/basis")[None])
    torch.testing.assert_close(found, peer(f"{case}/projected"), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.97, 0.999])
@pytest.mark.parametrize("kept", [0, 3])
def test_the_fewest_directions_that_reach_the_threshold(threshold, kept):
    """The definition, tried one number of singular vectors after the other."""
    torch.manual_seed(kept)
    x = torch.randn(9, 30, dtype=torch.float64) * torch.logspace(0, -2, 9).double()[:, None]
    basis = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))[0][:, :kept]
    vectors = torch.linalg.svd(x - basis @ basis.T @ x)[0]
    for count in range(10 - kept):
        wanted = torch.cat([basis, vectors[:, :count]], 1)
        if (wanted.T @ x).square().sum() >= threshold * x.square().sum():
            break
    found = extended(basis, x @ x.T, threshold)
    torch.testing.assert_close(found @ found.T, wanted @ wanted.T, rtol=1e-7, atol=1e-7)


def test_rounding_is_no_direction():
    x = torch.randn(6, 2, dtype=torch.float64) @ torch.randn(2, 20, dtype=torch.float64)
    basis = extended(torch.zeros(6, 0), x @ x.T, 1.0)
    assert basis.shape == (6, 2)
    assert extended(basis.float(), x @ x.T, 1.0).shape == (6, 2)
    assert extended(basis, torch.zeros(6, 6), 1.0).shape == (6, 2)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.Conv2d(4, 6, (2, 3), stride=2, padding=(0, 2), dilation=(1, 2)),
        nn.Conv2d(4, 8, 3, groups=4, padding=1),
        nn.Conv2d(4, 6, 3, groups=2, padding="same"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        Conv2dSame(4, 6, 3, stride=2),
    ],
    ids=str,
)
def test_a_convolution_is_its_weight_times_its_columns(layer):
    x = torch.randn(2, 4, 7, 9)
    found = layer_columns(layer, x)
    rows = layer.weight.reshape(len(found), -1, found.shape[1])
    wanted = layer(x)
    if layer.bias is not None:
        wanted = wanted - layer.bias[:, None, None]
    out = (rows @ found).flatten(0, 1).reshape(wanted.shape[1], 2, *wanted.shape[2:])
    torch.testing.assert_close(out.transpose(0, 1), wanted, rtol=1e-4, atol=1e-5)


def test_groups_are_projected_each_by_its_own_basis():
    torch.manual_seed(0)
    weight, bases = torch.randn(4, 1, 3, 3), torch.zeros(2, 9, 2)
    bases[0, :, 0] = F.normalize(torch.randn(9), dim=0)  # the other column, and group, are free
    found = across(weight, bases)
    assert torch.equal(found[2:], weight[2:])
    torch.testing.assert_close(found[:2].flatten(1) @ bases[0, :, 0], torch.zeros(2))
    # What is left is what lies along it.
    along = (weight - found)[:2].flatten(1)
    torch.testing.assert_close(along @ bases[0] @ bases[0].T, along)


def test_grams_are_of_all_that_a_layer_was_given():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.idle, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(F.linear(self.lin(self.lin(x)), self.idle.weight))

    model, x = Twice(), torch.randn(10, 3)
    layers = weighted(model, ("head.weight", "head.bias"))
    assert list(layers) == ["lin.weight", "idle.weight"]
    grams = input_grams(model, layers, x.split(4))
    assert list(grams) == ["lin.weight"]
    given = torch.cat([x, model.lin(x)]).detach()
    torch.testing.assert_close(grams["lin.weight"][0].float(), given.T @ given)
    assert model.training
    assert not model.lin._forward_pre_hooks


def test_products_are_in_full_precision_though_training_is_not(monkeypatch):
    """TF32 has three digits, and as many directions as rounding makes."""
    seen = []

    def looked_at(*args):
        seen.append(torch.get_float32_matmul_precision())
        return layer_columns(*args)

    monkeypatch.setattr("clbench.models.inputs.layer_columns", looked_at)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        layer = nn.Linear(3, 3)
        input_grams(layer, {"": layer}, [torch.randn(2, 3)])
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]


def ran(recipe, folder, **fields):
    record = clbench.run(recipe | {"methods": {"gpm": fields}}, folder)
    return record, load_file(folder / "model.safetensors")


@pytest.fixture
def bases(monkeypatch):
    """The bases that each task has left."""
    found, finish = [], GPM.finish

    def looked_at(self, context):
        finish(self, context)
        found.append(dict(self._bases))

    monkeypatch.setattr(GPM, "finish", looked_at)
    return found


@pytest.mark.parametrize("backbone", ["tiny_cnn", "test_efficientnet"])
def test_layers_move_across_what_past_tasks_gave_them(
    recipe, tmp_path, no_pictures, backbone, bases
):
    """With an optimiser whose steps are no gradients, with weight decay and depthwise layers."""
    recipe |= {"checkpoints": "all", "steps": 4}
    recipe["optimizer"] = {"name": "adamw", "lr": 0.01, "weight_decay": 0.5}
    if backbone != "tiny_cnn":
        recipe |= {"images": {"size": 32}, "model": {"backbone": backbone, "weights": "none"}}
        recipe["stream"] |= {"first_tasks": 2}
    record, _ = ran(recipe, tmp_path / "run", threshold=0.9, samples=20)
    thetas = [checkpoints.load(tmp_path / "run", n, ("trained",))["trained"]
              for n in range(1, len(record.tasks) + 1)]  # fmt: skip
    head = ("fc.", "classifier.")
    for known, (before, after) in zip(bases[:-1], itertools.pairwise(thetas), strict=True):
        moved = 0
        for name, x in before.items():
            if name in known:
                change = (after[name] - x).reshape(len(known[name]), -1, known[name].shape[1])
                moved += float(change.norm()) > 0
                assert float((change @ known[name]).norm()) <= 1e-5 * float(x.norm())
            elif not name.startswith(head):
                assert torch.equal(after[name], x), name
        assert moved > len(known) / 2
    did = [event.methods["gpm"] for event in record.tasks]
    assert did[0]["active"] == 0
    assert "scope" not in did[0]
    assert did[1]["active"] == 1
    assert 0 < did[1]["scope"] < 1
    taken = [(x.any(1).sum() * len(thetas[0][n]) / len(x), thetas[0][n].numel())
             for n, x in bases[0].items()]  # fmt: skip
    share = float(sum(one for one, _ in taken)) / sum(all for _, all in taken)
    assert did[1]["closed_share"] == pytest.approx(share)
    assert all(x.shape[2] <= bases[1][n].shape[2] for n, x in bases[0].items())


def test_projected_updates_are_projected_gradients_of_sgd(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 2}
    recipe["optimizer"] = {"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0}
    _, update = ran(recipe, tmp_path / "update")
    _, gradient = ran(recipe, tmp_path / "gradient", of="gradient")
    _, plain = ran(recipe, tmp_path / "plain", threshold=0)
    for name, x in update.items():
        torch.testing.assert_close(x, gradient[name], rtol=1e-4, atol=1e-6)
    assert float((plain["conv2.weight"] - update["conv2.weight"]).norm()) > 1e-3


def test_epsilon_grows_and_one_direction_fewer_is_kept_as_in_the_program(
    recipe, tmp_path, no_pictures, monkeypatch
):
    given = []
    monkeypatch.setattr(
        "clbench.methods.gpm.extended",
        lambda *args: given.append((round(args[2], 6), args[3])) or extended(*args),
    )
    recipe |= {"steps": 1}
    ran(recipe, tmp_path / "run", threshold=0.98, increase=0.015, first="below")
    assert [*dict.fromkeys(given)] == [(0.98, True), (0.995, False), (1.0, False)]


def test_bases_are_in_the_footprint(recipe, tmp_path, no_pictures, bases):
    recipe["stream"] |= {"first_tasks": 1}
    record, _ = ran(recipe, tmp_path / "run")
    used = record.tasks[0].footprint["gpm"]
    assert used.stored_bytes == sum(4 * x.numel() for x in bases[0].values()) > 0
    assert used.stored_samples == 0
    assert not used.past_data


def test_a_trunk_that_rests_is_no_secret(recipe, tmp_path, no_pictures):
    """Convolutions that standardise their weight are none of its layers."""
    recipe |= {"steps": 1, "images": {"size": 32}}
    recipe["stream"] |= {"first_tasks": 2}
    for backbone in ("test_nfnet", "tiny_cnn"):
        recipe["model"] = {"backbone": backbone, "weights": "none"}
        record, _ = ran(recipe, tmp_path / backbone)
        told = [[remark.what for remark in event.remarks] for event in record.tasks]
        much = ["it leaves much of the trunk at rest"]
        assert told == [[], much if backbone == "test_nfnet" else []]


@pytest.mark.parametrize(
    ("methods", "why"),
    [
        ({"gpm": {}, "lora": {}}, "that gpm projects are frozen"),
        ({"gpm": {}, "linear_probe": {}}, "that gpm projects are frozen"),
        ({"gpm": {}, "multitask": {}}, "no past task"),
        ({"gpm": {}, "ncm": {"tuned": "first"}}, "leaves nothing to train after task 1"),
    ],
)
def test_what_it_does_not_go_with(recipe, methods, why):
    with pytest.raises(ClbenchError, match=why) as caught:
        parse(recipe | {"methods": methods})
    assert "\n" not in str(caught.value)
