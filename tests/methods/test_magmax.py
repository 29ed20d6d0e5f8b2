"""MagMax and DARE: other programs' numbers, and how runs go on beside them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import clbench
from clbench.errors import ClbenchError
from clbench.methods.dare import DARE, drop_and_rescale
from clbench.methods.magmax import MagMax, magmax
from clbench.methods.merge import task_arithmetic
from clbench.models.anchors import Anchor, Anchors
from clbench.recipe.recipe import parse

PEERS = np.load(Path(__file__).parents[1] / "reference" / "magmax.npz")
MODELS = sorted({name.split("/")[0] for name in PEERS.files if name.startswith("model")})


def state(of):
    return {
        name.removeprefix(f"{of}/"): torch.from_numpy(PEERS[name])
        for name in PEERS.files
        if name.startswith(f"{of}/")
    }


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_the_largest_changes_are_those_of_the_authors(scale):
    found = magmax(state("base"), [state(model) for model in MODELS], scale)
    wanted = state(f"magmax/scale{scale:g}")
    assert wanted.keys() <= found.keys()
    for name, x in wanted.items():
        torch.testing.assert_close(found[name], x, rtol=1e-9, atol=1e-12)


def test_of_equal_changes_the_later_counts():
    base = torch.zeros(2)
    up, down = torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 2.0])
    assert magmax(base, [up, down], 1.0).tolist() == [-1.0, 2.0]
    assert magmax(base, [down, up], 1.0).tolist() == [1.0, -2.0]


@pytest.mark.parametrize("density", [0.5, 0.2])
def test_what_is_dropped_is_rescaled_as_by_fusionbench(density):
    mask = torch.from_numpy(PEERS[f"dare/density{density}/mask"]).bool()
    found = drop_and_rescale(torch.from_numpy(PEERS["dare/delta"]), mask, 1 - density)
    wanted = torch.from_numpy(PEERS[f"dare/density{density}/fusion_bench_rescaled"])
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def context(base, head=("fc.weight",)):
    anchor = Anchor(base, torch.zeros(3) > 0)
    return SimpleNamespace(seed=3, head=head, shared=False, anchors=Anchors(anchor, anchor))


def test_dare_drops_the_share_it_says_and_keeps_the_mean_change():
    base = {"w": torch.zeros(40_000), "fc.weight": torch.zeros(3), "n": torch.tensor(0)}
    base["bn.running_var"] = torch.zeros(2)
    theta = {name: x + 1 for name, x in base.items()}
    method = DARE(drop=0.8)
    found, again = (method.deploy(theta, context(base)) for _ in range(2))
    assert all(torch.equal(x, again[name]) for name, x in found.items())
    assert float((found["w"] == 0).float().mean()) == pytest.approx(0.8, abs=0.01)
    torch.testing.assert_close(found["w"].unique(), torch.tensor([0.0, 5.0]))
    for name in ("fc.weight", "n", "bn.running_var"):
        assert torch.equal(found[name], theta[name])
    neutral = DARE(drop=0).deploy(theta, context(base))
    assert all(torch.equal(x, theta[name]) for name, x in neutral.items())


def test_what_is_shown_is_merged_and_training_goes_on_in_sequence(recipe, tmp_path, no_pictures):
    recipe |= {"checkpoints": "all", "steps": 8}
    plain = clbench.run(recipe, tmp_path / "plain")
    record = clbench.run(recipe | {"methods": {"magmax": {}}}, tmp_path / "magmax")
    assert [event.loss for event in record.tasks] == [event.loss for event in plain.tasks]
    assert record.tasks[-1].methods["magmax"]["merged_tasks"] == 3
    assert record.tasks[-1].retention.top1 > plain.tasks[-1].retention.top1
    shown, trained = (load_file(tmp_path / n / "model.safetensors") for n in ("magmax", "plain"))
    for name in ("fc.weight", "fc.bias"):
        assert torch.equal(shown[name], trained[name])
    from clbench.record import checkpoints
    from clbench.sweep import sweep

    thetas = [checkpoints.load(tmp_path / "plain", n, ("trained",))["trained"] for n in (1, 2, 3)]
    base = clbench.run(recipe | {"optimizer": {"name": "sgd", "lr": 1e-30}}, tmp_path / "start")
    assert base.finished
    start = load_file(tmp_path / "start" / "model.safetensors")
    name = "conv2.weight"
    wanted = magmax(start[name], [theta[name] for theta in thetas], 0.5)
    torch.testing.assert_close(shown[name], wanted, rtol=1e-5, atol=1e-6)
    swept = sweep(tmp_path / "magmax", "scale", [0.0, 0.5])
    assert swept.reproduced
    assert swept.rows[0].retention == record.pretrained.top1


def test_thinned_changes_are_what_merging_takes_up(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    recipe |= {"steps": 4}
    _ = [clbench.run(recipe | {"methods": methods}, tmp_path / name) for name, methods in (
        ("dare", {"dare": {"drop": 0.5}}),
        ("both", {"dare": {"drop": 0.5}, "task_arithmetic": {"scale": 0.5}}),
        ("start", {"task_arithmetic": {"scale": 0.0}}),
    )]  # fmt: skip
    thin, both, start = (load_file(tmp_path / n / "model.safetensors")["conv2.weight"]
                         for n in ("dare", "both", "start"))  # fmt: skip
    torch.testing.assert_close(both, task_arithmetic(start, [thin], 0.5), rtol=1e-5, atol=1e-6)
    share = float(((thin - start).abs() < 1e-7).float().mean())
    assert share == pytest.approx(0.5, abs=0.1)


def test_two_that_merge_all_tasks(recipe):
    assert not MagMax.rewinds
    for name in ("ties", "task_arithmetic"):
        with pytest.raises(ClbenchError, match="each merges the changes of all tasks"):
            parse(recipe | {"methods": {"magmax": {}, name: {}}})
