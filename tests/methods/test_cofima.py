"""CoFiMA: other programs' numbers, what it keeps of Fishers, and the family it is of."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from quadratics import CURVATURE, MINIMUM, Point, learn, tensor
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods import fisher
from clbench.methods.cofima import CoFiMA, batch_fisher
from clbench.methods.ewc import fisher_diagonal, fisher_merge
from clbench.recipe.recipe import parse

PEERS = np.load(Path(__file__).parents[1] / "reference" / "merging.npz")
ALPHAS = sorted({n.split("/")[1] for n in PEERS.files if n.startswith("cofima/alpha")})


def peer(name):
    return torch.from_numpy(PEERS[name])


def state(of):
    return {n.removeprefix(f"{of}/"): peer(n) for n in PEERS.files if n.startswith(f"{of}/")}


@pytest.fixture
def known(monkeypatch):
    """The Fisher of a task is its curvature."""
    monkeypatch.setattr(
        fisher, "fisher_of_task", lambda context, *_: {"w": tensor(CURVATURE[context.task.index])}
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_average_is_that_of_pilot_but_for_rows_that_are_new(alpha):
    wanted, share = state(f"cofima/{alpha}/fisher"), float(alpha.removeprefix("alpha"))
    theta = state("model1") | {"new_head": peer("cofima/model1_new_head")}
    fishers = state("cofima/fisher0"), state("cofima/fisher1")
    fishers[1]["new_head"] = peer("cofima/fisher1_new_head")
    shares = CoFiMA(alpha=share).shares
    found = fisher_merge(state("model0"), fishers[0], theta, fishers[1], *shares)
    for name in wanted.keys() - {"new_head"}:
        known = (fishers[0][name] + fishers[1][name]) > 0
        torch.testing.assert_close(found[name][known], wanted[name][known], rtol=1e-10, atol=1e-14)
        assert torch.equal(found[name][~known], theta[name][~known])
    # A slip of theirs: rows that only the new model has become F·θ.
    theirs = fishers[1]["new_head"] * theta["new_head"]
    torch.testing.assert_close(wanted["new_head"], theirs)
    assert torch.equal(found["new_head"], theta["new_head"])


def linear():
    """The network of the peers' Fisher, and its batches of four."""
    model = nn.Sequential(nn.Linear(6, 5)).double()
    with torch.no_grad():
        model[0].weight.copy_(peer("cofima/fisher_diagonal/weight"))
        model[0].bias.copy_(peer("cofima/fisher_diagonal/bias"))
    x, y = peer("cofima/fisher_diagonal/x"), peer("cofima/fisher_diagonal/y")
    return model, list(zip(x.split(4), y.split(4), strict=True))


@pytest.mark.parametrize("clip", [None, 1e-4])
def test_the_fisher_of_batches_is_that_of_pilot(clip):
    wanted = state(f"cofima/fisher_diagonal_{'clipped' if clip else 'unclipped'}")
    for name, found in batch_fisher(*linear()).items():
        theirs = wanted[name.replace("0.", "lin.")]
        torch.testing.assert_close(found.clamp(max=clip) if clip else found, theirs)


def test_batches_of_one_give_the_fisher_of_samples():
    model, batches = linear()
    ones = [(x[None], y[None]) for xs, ys in batches for x, y in zip(xs, ys, strict=True)]
    for name, f in fisher_diagonal(model, batches).items():
        torch.testing.assert_close(batch_fisher(model, ones)[name], f)
    with pytest.raises(ValueError, match="there are no batches"):
        batch_fisher(model, [])


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0])
def test_only_the_last_two_tasks_fishers_count(known, alpha):
    model, method = Point(), CoFiMA(alpha=alpha)
    learn(method, model)
    a, c = tensor(CURVATURE), tensor(MINIMUM)
    theta = c[0]
    for task in (1, 2):
        ours, theirs = (1 - alpha) * a[task - 1], alpha * a[task]
        whole = ours + theirs
        theta = torch.where(whole > 0, (ours * theta + theirs * c[task]) / whole, c[task])
    torch.testing.assert_close(model.w.detach(), theta)
    assert method.activity()["active"] == float(alpha < 1)


def test_entries_are_cut(known):
    model, method = Point(), CoFiMA(alpha=0.5, clip=0.5)
    learn(method, model, tasks=2)
    assert method.state_dict()["fisher"]["w"].tolist() == [0.5, 0.5, 0.0]
    c = tensor(MINIMUM)
    wanted = torch.cat([(c[0] + c[1])[:2] / 2, c[1, 2:]])  # as both Fishers are cut
    torch.testing.assert_close(model.w.detach(), wanted)


@pytest.mark.parametrize("gradients", ["sample", "batch"])
def test_a_run_takes_its_fisher_as_it_is_told(recipe, tmp_path, no_pictures, gradients):
    recipe["stream"] = {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20}
    methods = {"cofima": {"gradients": gradients, "samples": 30}}
    record = clbench.run(recipe | {"methods": methods, "steps": 6}, tmp_path)
    first, second = (event.methods["cofima"] for event in record.tasks)
    assert (first["active"], second["active"]) == (0, 1)
    assert 0 < second["distance_after"] < second["distance_before"]


def test_what_it_refuses(recipe):
    for fields in ({"alpha": 0}, {"alpha": 1.1}, {"clip": 0}, {"gradients": "mean"}):
        with pytest.raises(ValidationError):
            CoFiMA(**fields)
    with pytest.raises(ValidationError, match="labels: data"):
        CoFiMA(gradients="batch", labels="model")
    for other in ("lora", "inflora", "sd_lora", "ties", "multitask", "fisher_merge"):
        with pytest.raises(ClbenchError, match=r"(?=.*cofima).*do not go together"):
            parse(recipe | {"methods": {"cofima": {}, other: {}}})


def test_the_gradient_of_a_batch_is_no_mean_of_squares():
    model, ((x, y), *_) = linear()
    loss = F.cross_entropy(model(x), y)
    (wanted,) = torch.autograd.grad(loss, [model[0].weight])
    torch.testing.assert_close(batch_fisher(model, [(x, y)])["0.weight"], wanted.square())
