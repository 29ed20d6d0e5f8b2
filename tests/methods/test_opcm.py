"""OPCM: other programs' merged weights, the definition in full, and how runs go on beside it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import clbench
from clbench.errors import ClbenchError
from clbench.methods.opcm import OPCM, Projected, opcm, without_shared
from clbench.recipe.recipe import parse
from clbench.record import checkpoints
from clbench.sweep import sweep

PEERS = np.load(Path(__file__).parents[1] / "reference" / "merging.npz")
MODELS = sorted({n.split("/")[0] for n in PEERS.files if n.startswith("model")})
ALPHAS = sorted({n.split("/")[1] for n in PEERS.files if n.startswith("opcm/")})


def state(of):
    names = (n for n in PEERS.files if n.startswith(f"{of}/"))
    return {n.removeprefix(f"{of}/"): torch.from_numpy(PEERS[n]) for n in names}


@pytest.mark.parametrize("alpha", ALPHAS)
def test_merges_as_its_authors_model_after_model(alpha):
    base, store = state("base"), Projected(float(alpha[5:]), ("a.weight", "b.weight"))
    factors = PEERS[f"opcm/{alpha}/lambda_t"]
    means = PEERS[f"opcm/{alpha}/average_task_vector_norm"]
    for number, model in enumerate(MODELS):
        store.add(base, state(model))
        wanted = state(f"opcm/{alpha}/after_{model}")
        for name, x in store.merged(base, 1.0).items():
            torch.testing.assert_close(x, wanted[name], rtol=1e-9, atol=1e-12)
        assert store.numbers[0] == pytest.approx(factors[number])
        assert store.numbers[1] / store.count == pytest.approx(means[number])
    whole = opcm(base, [state(m) for m in MODELS], store.alpha, store.matrices)
    assert all(torch.equal(x, whole[n]) for n, x in store.merged(base, 1.0).items())


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 3, 2, 2)])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_what_is_left_out_in_full_bases(shape, alpha):
    random = torch.Generator().manual_seed(3)
    merged, change = (torch.randn(shape, generator=random).double() for _ in range(2))
    u, s, vh = torch.linalg.svd(merged.flatten(1), full_matrices=True)
    inner = u.T @ change.flatten(1) @ vh.T
    share, rank = 0.0, 0
    while share + float(s[rank]) <= alpha * float(s.sum()):
        share, rank = share + float(s[rank]), rank + 1
    for i in range(inner.shape[0]):
        for j in range(inner.shape[1]):
            if i == j or (i < rank and j < rank):
                inner[i, j] = 0
    wanted = (u @ inner @ vh).view(shape)
    torch.testing.assert_close(without_shared(change, merged, alpha), wanted)


def test_directions_that_nothing_was_changed_in_are_none():
    change = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(without_shared(change, torch.zeros(4, 3), 0.5), change)
    one = torch.outer(torch.tensor([1.0, 0, 0, 0]), torch.tensor([0.0, 1, 0]))
    left = change.clone()
    left[0, 1] = 0  # of rank one, whatever bases the other directions have
    torch.testing.assert_close(without_shared(change, one, 0.5), left)


def test_the_same_change_again_adds_nothing_but_its_other_weights():
    base = {"w": torch.zeros(3, 3), "b": torch.zeros(3)}
    model = {"w": torch.diag(torch.tensor([3.0, 2, 1])), "b": torch.ones(3)}
    merged = opcm(base, [model, model], 0.5, ("w",))
    ratio = float(merged["b"][0] / merged["w"][0, 0]) * 3
    assert ratio == pytest.approx(2)
    after, before = (torch.cat([x.flatten() for x in m.values()]).norm() for m in (merged, model))
    torch.testing.assert_close(after, before)


def test_a_run_shows_the_merged_trunk_and_its_own_head(recipe, tmp_path, no_pictures, capsys):
    methods = {"opcm": {"convolutions": "project"}}
    recipe |= {"checkpoints": "all", "steps": 6}
    record = clbench.run(recipe | {"methods": methods}, tmp_path / "run")
    assert "no layer is projected" not in capsys.readouterr().out
    thetas = [checkpoints.load(tmp_path / "run", n, ("trained",))["trained"] for n in (1, 2, 3)]
    clbench.run(recipe | {"optimizer": {"name": "sgd", "lr": 1e-30}}, tmp_path / "start")
    assert "no layer is projected" not in capsys.readouterr().out
    start = load_file(tmp_path / "start" / "model.safetensors")
    shown = load_file(tmp_path / "run" / "model.safetensors")
    trunk = [name for name in start if not name.startswith("fc.")]
    base, *models = ({name: x[name] for name in trunk} for x in (start, *thetas))
    matrices = [name for name in trunk if start[name].ndim == 4]
    for name, x in opcm(base, models, 0.5, matrices).items():
        torch.testing.assert_close(shown[name], x, rtol=1e-4, atol=1e-6)
    assert torch.equal(shown["fc.weight"][-2:], thetas[-1]["fc.weight"][-2:])
    assert record.tasks[-1].methods["opcm"]["merged_tasks"] == 3
    assert sweep(tmp_path / "run", "alpha", [0.5]).reproduced


def test_a_network_without_linear_layers_is_told_of(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    record = clbench.run(recipe | {"steps": 2, "methods": {"opcm": {}}}, tmp_path)
    (remark,) = record.tasks[0].remarks
    assert remark.what == "no layer is projected"
    assert "convolutions: project" in remark.detail


def test_what_makes_no_sense_beside_it(recipe):
    assert OPCM.rewinds
    for name in ("ties", "magmax", "fisher_merge", "cofima"):
        with pytest.raises(ClbenchError, match=r"(?=.*opcm)"):
            parse(recipe | {"methods": {"opcm": {}, name: {}}})
