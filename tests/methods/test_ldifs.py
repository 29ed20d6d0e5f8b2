"""LDIFS: the authors' numbers, which blocks are looked at, and what a run keeps with it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.ldifs import LDIFS, feature_distance
from clbench.models.taps import Taps, spread_blocks

PEERS = np.load(Path(__file__).parents[1] / "reference" / "ldifs.npz")


def peers(kind, what, count):
    return [torch.from_numpy(PEERS[f"{kind}/{what}{n}"]) for n in range(count)]


def test_distance_and_gradients_are_the_authors():
    current = [x.requires_grad_() for x in peers("flat", "current", 3)]
    found = feature_distance(current, peers("flat", "original", 3), [1] * 3).mean()
    assert float(found.detach()) == pytest.approx(float(PEERS["flat/distance"]))
    found.backward()
    for one, theirs in zip(current, peers("flat", "gradient", 3), strict=True):
        torch.testing.assert_close(one.grad, theirs, rtol=1e-6, atol=1e-12)


def test_their_objective_has_tokens_at_unit_length_along_the_second_axis():
    current, original = (peers("tokens", what, 2) for what in ("current", "original"))
    found = float(feature_distance(current, original, [1, 1]).mean())
    assert found == pytest.approx(float(PEERS["tokens/distance"]))
    logits, labels = (torch.from_numpy(PEERS[f"tokens/{n}"]) for n in ("logits", "labels"))
    for strength in (0.05, 10):
        wanted = float(PEERS[f"tokens/objective_alpha{strength:g}"])
        assert float(F.cross_entropy(logits, labels)) + strength * found == pytest.approx(wanted)
    assert float(feature_distance(current, original, [-1, -1]).mean()) != pytest.approx(found)


@pytest.mark.parametrize(
    ("shape", "fmt", "along", "axis"),
    [
        ((2, 3), "NCHW", "channels", 1),
        ((2, 5, 3), "NCHW", "channels", -1),
        ((2, 3, 4, 4), "NCHW", "channels", 1),
        ((2, 4, 4, 3), "NHWC", "channels", -1),
        ((2, 5, 3), "NCHW", "axis_1", 1),
    ],
)
def test_unit_length_is_along_channels(shape, fmt, along, axis):
    model = nn.Identity()
    model.output_fmt = fmt
    assert LDIFS(along=along)._axis(torch.zeros(shape), model) == axis


def test_blocks_are_spread_up_to_the_last():
    vit = timm.create_model("tiny_vit", num_classes=3, depth=12)
    assert spread_blocks(vit, ("head.weight", "head.bias"), 4) == [
        "blocks.2", "blocks.5", "blocks.8", "blocks.11"
    ]  # fmt: skip
    cnn = timm.create_model("tiny_cnn", num_classes=3)
    assert spread_blocks(cnn, ("fc.weight",), 3) == ["norm1", "norm2", "norm3"]
    assert spread_blocks(cnn, ("fc.weight",), 9)[-1] == "norm3"
    resnet = timm.create_model("resnet18", num_classes=3)
    stages = ["act1", "layer1", "layer2", "layer3", "layer4"]
    assert spread_blocks(resnet, ("fc.weight",), 5) == stages


def test_taps_know_passes_by_their_inputs_and_copies_keep_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    taps = Taps(model, ["0"], True)
    one, other = torch.ones(1, 2), torch.zeros(1, 2)
    model[0](other)  # a block by itself, which is no pass
    model(one)
    copy.deepcopy(model)(one)
    model(other)
    with torch.no_grad():
        model(one)
    (found,) = taps.of(one)
    assert found.grad_fn is not None
    torch.testing.assert_close(found, model[0](one))
    assert taps.of(other) is None  # nothing is kept any longer
    taps.remove()
    twice = Taps(model, ["0", "1"], False)
    with torch.no_grad():
        wanted = [model[0](one), model(one), model[0](other), model(other)][2:]
    assert all(map(torch.equal, twice.last(), wanted))  # not of the passes before
    twice.remove()
    assert not model._forward_hooks
    assert not model[0]._forward_hooks


def test_features_are_kept_in_a_run(recipe, tmp_path, no_pictures):
    recipe |= {"steps": 20}
    plain = clbench.run(recipe, tmp_path / "plain")
    kept = {}
    for name, fields in (("mild", {"strength": 1.0}), ("strong", {"strength": 100.0, "points": 2})):
        methods = {"der_pp": {"alpha": 0.1, "size": 40}, "ldifs": fields}
        record = clbench.run(recipe | {"methods": methods}, tmp_path / name)
        kept[name] = record.tasks[-1].methods["ldifs"]["features_distance"]
        assert all(event.methods["ldifs"]["active"] for event in record.tasks)
    assert kept["strong"] < kept["mild"]
    assert record.tasks[-1].retention.top1 > plain.tasks[-1].retention.top1 + 0.2


def test_at_the_anchor_nothing_pulls(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    recipe |= {"steps": 1, "methods": {"ldifs": {"strength": 3.0}}}
    record = clbench.run(recipe, tmp_path / "run")
    assert record.tasks[0].methods["ldifs"]["features_distance"] == pytest.approx(0, abs=1e-9)


def test_a_network_that_is_not_called_says_so(recipe, tmp_path, no_pictures, monkeypatch):
    monkeypatch.setattr(Taps, "of", lambda *_: None)
    with pytest.raises(ClbenchError, match="TinyCNN was not called as a module"):
        clbench.run(recipe | {"methods": {"ldifs": {}}}, tmp_path / "run")
