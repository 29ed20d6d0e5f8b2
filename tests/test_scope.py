"""How much each method could do: measured, foreseen, and said where it is next to nothing."""

import copy
import dataclasses
import io
import math
from types import SimpleNamespace

import pytest
import torch
from helpers import RECIPE, look
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.estimate.estimating import estimate
from clbench.methods import METHODS
from clbench.methods.gradient_share import GradientShares, looks
from clbench.methods.penalty import l2_penalty
from clbench.methods.plan import Plan
from clbench.methods.replay import Replay
from clbench.methods.sfa import SFA
from clbench.methods.wise_ft import WiSEFT
from clbench.optim.settings import Schedule, learning_rate
from clbench.recipe.foreseen import foreseen, plan_of, with_scope
from clbench.recipe.recipe import parse
from clbench.record.scopes import LITTLE, is_little, mean_scopes, sentence
from clbench.runner.screen import show
from clbench.weights import distance

CONSTANT = Schedule(name="constant")
COSINE = Schedule(name="cosine")


def plan(schedule=CONSTANT, total=100, logits="all"):
    return Plan(total, learning_rate(schedule, total), logits)


@pytest.fixture
def digits(recipe, no_pictures):
    return recipe | {"stream": {"name": "split_digits", "classes": [[4, 5], [6, 7]]}}


def test_what_is_left_of_a_rate_that_falls_linearly():
    falling = Plan(4, lambda step: (4, 3, 2, 1)[step], "task")
    left = [falling.left(step) for step in range(5)]
    assert left == pytest.approx([1, 0.6, 0.3, 0.1, 0])


@pytest.mark.parametrize("p", [0.001, 0.04, 0.25, 0.9, 0.96])
def test_sfa_under_a_constant_rate_can_do_all(p):
    whole = SFA(p=p, beta=1)
    assert whole.scope(plan()) == pytest.approx(1)
    assert whole.scope(plan(Schedule(name="constant", warmup=0.05))) == pytest.approx(1)


@pytest.mark.parametrize(("p", "averages"), [(1, 1), (0.96, 2), (0.5, 2), (0.25, 4)])
@pytest.mark.parametrize("beta", [0.001, 0.02, 0.5])
def test_sfa_can_do_no_more_than_its_averages_mix(p, averages, beta):
    kept = 1.0
    for _ in range(averages):
        kept = kept * (1 - beta)
    assert SFA(p=p, beta=beta).scope(plan()) == pytest.approx(1 - kept)
    assert is_little(SFA(p=p, beta=0.02).scope(plan()))


def test_sfa_under_a_cosine_by_its_integral():
    """What a cosine leaves after a share x is 1 − x − sin(πx)/π; a constant rate, 1 − x."""
    for p, shares in ((0.96, [0.96]), (0.5, [0.5]), (0.25, [0.25, 0.5, 0.75])):
        x = torch.tensor(shares, dtype=torch.float64)
        left = (1 - x - torch.sin(torch.pi * x) / torch.pi).mean() / (1 - x).mean()
        assert SFA(p=p, beta=1).scope(plan(COSINE, 20_000)) == pytest.approx(float(left), rel=1e-2)
    assert is_little(SFA(p=0.96).scope(plan(COSINE)))
    assert not is_little(SFA(p=0.25).scope(plan(COSINE)))


def test_replay_among_its_own_classes_cannot_compete():
    assert [Replay().scope(plan(logits=rule)) for rule in ("task", "seen", "all")] == [0, 1, 1]
    assert Replay(fraction=0).scope(plan(logits="task")) == 1  # it is inactive, which is said
    counted = dataclasses.replace(plan(), samples=1000)
    assert [Replay(fraction=x).scope(counted) for x in (1e-4, 1e-2)] == [0, 1]


def test_an_average_with_a_tenth_of_the_anchor_is_at_the_bound():
    assert not is_little(WiSEFT(alpha=1 - LITTLE).scope(plan()))
    assert is_little(WiSEFT(alpha=0.91).scope(plan()))


def test_steps_that_are_looked_at():
    assert sorted(looks(16)) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert sorted(looks(3)) == [1, 2, 3]
    assert len(looks(1_000)) == 8
    assert 1 not in looks(1_000)


def test_a_penalty_s_share_of_the_gradient():
    """p = (3, 4), the rest of the loss has (0, 5): 25 of 25 + 20. Noise across p does not count."""

    class Towards(METHODS["l2"]):
        def penalty(self, forward):
            return l2_penalty([model.weight], [torch.zeros(1, 2)], 1.0)

    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[3.0, 4.0]])
    model.weight.grad = torch.tensor([[3.0, 9.0]])
    method = Towards()
    shares = GradientShares([method], 1)
    shares.look(look(model))
    assert shares.of(method) == pytest.approx(25 / 45)
    model.weight.grad = torch.tensor([[3.0 + 40.0, 4.0 - 30.0]])  # noise at right angles
    shares.look(look(model))
    assert shares.of(method) == pytest.approx(50 / 70)
    shares.look(SimpleNamespace(step=2, model=model))  # not its time
    assert shares.of(method) == pytest.approx(50 / 70)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    before = model.weight.grad.clone()
    shares.look(look(model))
    assert torch.equal(model.weight.grad, before)
    assert GradientShares([], 1).of(method) is None


def test_scopes_are_of_tasks_in_which_a_method_was_active():
    assert with_scope(SFA(), {"active": 0.0, "scope": 0.5}, plan(), None) == {"active": 0.0}
    assert with_scope(SFA(), {"active": 1.0}, plan(), 0.3)["scope"] == 0.3
    assert with_scope(SFA(), {"active": 1.0, "scope": 0.2}, plan(), 0.3)["scope"] == 0.2
    told = [
        SimpleNamespace(methods={"a": activity})
        for activity in ({}, {"scope": 0.0}, {"scope": 0.5})
    ]
    assert mean_scopes(["a"], told) == {"a": 0.25}
    assert mean_scopes(["a"], told[:1]) == {"a": None}


def said(record):
    out = io.StringIO()
    show(record, Console(file=out, width=500))
    return out.getvalue()


def test_p_below_1_differs_from_one_average_with_beta_75_unless_a_cosine_ends_at_zero(
    digits, tmp_path, capsys
):
    """Two averages with β = 0.5 are one with β = 0.75 where nothing is learned between them."""
    digits |= {"steps": 100, "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9}}
    apart = {}
    for name in ("constant", "cosine"):
        folders = [tmp_path / name / kind for kind in ("during", "end")]
        settings = ({"p": 0.96, "beta": 0.5}, {"p": 1.0, "beta": 0.75})
        runs = [
            clbench.run(digits | {"schedule": {"name": name}, "methods": {"sfa": sfa}}, folder)
            for sfa, folder in zip(settings, folders, strict=True)
        ]
        weights = [load_file(folder / "model.safetensors") for folder in folders]
        apart[name] = distance(*weights)
        summary, told = runs[0].summary(), capsys.readouterr().out
        little = name == "cosine"
        assert summary["ineffective"] == ["sfa"] * little
        assert ("method sfa could do next to nothing" in said(runs[0])) is little
        assert told.count("Warning: method sfa could do next to nothing") == little
        assert runs[0].tasks[-1].methods["sfa"]["scope"] == summary["scope"]["sfa"]
        assert runs[1].summary()["ineffective"] == []
    assert apart["constant"] > 5 * apart["cosine"]


def test_a_penalty_that_weighs_nothing_is_named(digits, tmp_path, capsys):
    found = {}
    for strength in (1e-9, 10.0):
        methods = {"l2": {"strength": strength, "anchor": "pretrained"}, "ewc": {"strength": 1e-9}}
        record = clbench.run(
            digits | {"methods": methods, "optimizer": {"name": "sgd", "lr": 0.01}},
            tmp_path / str(strength),
        )
        found[strength] = record.summary()
    assert found[1e-9]["ineffective"] == ["l2", "ewc"]
    assert found[10.0]["ineffective"] == ["ewc"]
    assert found[10.0]["scope"]["l2"] > 0.2
    told = capsys.readouterr().out
    assert "method l2 could do next to nothing in task 4, 5 (scope 0.00%): the penalty's" in told
    # EWC has no penalty in its first task.
    assert "scope" not in record.tasks[0].methods["ewc"]


def test_measuring_changes_no_bit(digits, tmp_path, monkeypatch):
    digits |= {
        "methods": {"l2": {"strength": 0.1}, "ewc": {}, "l1": {"strength": 1e-3}},
        "steps": 12,
    }
    digits["trainer"] = digits["trainer"] | {"accumulate_grad_batches": 2}
    clbench.run(digits, tmp_path / "with")
    monkeypatch.setattr("clbench.learner.learner.GradientShares.look", lambda *_: None)
    clbench.run(digits, tmp_path / "without")
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("with", "without"))
    assert all(torch.equal(one[name], x) for name, x in other.items())


def test_every_scope_is_a_share(digits, tmp_path):
    """As methods are shipped, with the settings of a short run."""
    settings = {"replay": {"fraction": 0.25}, "sfa": {"p": 0.5}, "l1": {"strength": 1e-4}}
    for methods in (
        ["flow", "l1", "l2", "ewc", "replay", "gem", "sfa", "wise_ft"],
        ["ties"],
        ["hft"],
    ):
        chosen = {name: settings.get(name, {}) for name in methods}
        record = clbench.run(digits | {"methods": chosen}, tmp_path / methods[0])
        scopes = record.summary()["scope"]
        assert list(scopes) == methods
        for name, scope in scopes.items():
            assert scope is None or 0 <= scope <= 1, name
            assert METHODS[name].scope_means


def test_a_dry_run_says_it(data_dir):
    recipe = copy.deepcopy(RECIPE) | {"data_dir": str(data_dir), "steps": 50}
    recipe |= {"methods": {"sfa": {"p": 0.96}, "replay": {}}, "schedule": {"name": "cosine"}}
    notes = " ".join(estimate(recipe).notes)
    assert "method sfa could do next to nothing (scope" in notes
    assert "method replay could do next to nothing (scope 0.00%)" in notes
    recipe |= {"schedule": {"name": "constant"}, "train_logits": "all"}
    assert not any("next to nothing" in note for note in estimate(recipe).notes)


def test_foreseen_follows_the_settings_of_a_task():
    recipe = copy.deepcopy(RECIPE) | {"methods": {"sfa": {"p": 0.96, "start_at": 1}}}
    recipe["per_task"] = {"4, 5": {"schedule": {"name": "cosine"}}}
    parsed = parse(recipe)
    assert foreseen(parsed, [("a", 100), ("b", 50)]) == {"sfa": pytest.approx(0.75)}
    assert foreseen(parsed, [("4, 5", 100)])["sfa"] < LITTLE
    assert foreseen(parsed, [("4, 5", 100), ("6, 7", 100)])["sfa"] == pytest.approx(0.375, abs=0.01)


def test_a_cosine_over_the_stream_leaves_sfa_its_room_but_for_the_last_task():
    recipe = copy.deepcopy(RECIPE) | {"methods": {"sfa": {"p": 0.96, "beta": 1}}}
    recipe["schedule"] = {"name": "cosine", "over": "stream"}
    parsed = parse(recipe)
    plans = [plan_of(parsed, 100, before, 500) for before in range(0, 500, 100)]
    scopes = [parsed.methods["sfa"].scope(of_task) for of_task in plans]
    assert scopes[0] > 0.9
    assert sorted(scopes, reverse=True) == scopes
    assert scopes[-1] < LITTLE
    for names in ("abcde", "aaaaa"):  # of equal names, each is a task
        steps = [(name, 100) for name in names]
        assert foreseen(parsed, steps)["sfa"] == pytest.approx(sum(scopes[1:]) / 4)
    # By definition: the sum of the rates after the average, over the task's.
    rates = [0.5 * (1 + math.cos(math.pi * step / 500)) for step in range(200, 300)]
    assert plans[2].left(96) == pytest.approx(sum(rates[96:]) / sum(rates))


def test_few_conflicts_are_told_as_a_finding_about_the_stream():
    for name in ("gem", "agem"):
        told = sentence(name, 0.02, METHODS[name].scope_means)
        assert "finding about the stream, not a setting" in told
        assert not any(advice in told for advice in ("raise", "lower ", ": say"))


@pytest.mark.parametrize("start_at", [1, 2, 3])
def test_what_is_foreseen_is_what_is_recorded(digits, tmp_path, capsys, start_at):
    """Tasks in which SFA does not act count in neither, and are not said to leave it nothing."""
    digits |= {"methods": {"sfa": {"p": 0.9, "start_at": start_at}}, "steps": 40}
    digits["schedule"] = {"name": "cosine", "over": "stream"}
    record = clbench.run(digits, tmp_path / "run")
    recorded = record.summary()["scope"]["sfa"]
    expected = foreseen(parse(digits), [("4, 5", 40), ("6, 7", 40)])["sfa"]
    assert expected == (pytest.approx(recorded) if start_at < 3 else 1)
    told = capsys.readouterr().out.count("method sfa could do next to nothing in task 6, 7 (scope")
    assert told == (start_at < 3)


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"beta": 0}, "beta: 0"), ({"start_at": 3}, "it acts from task 3 on, of 2")],
)
def test_what_changes_nothing_is_said_before_and_by_a_dry_run(
    digits, tmp_path, capsys, settings, why
):
    digits |= {"methods": {"sfa": {"p": 0.9} | settings}, "schedule": {"name": "cosine"}}
    record = clbench.run(digits | {"steps": 40}, tmp_path / "run")
    assert record.summary()["inactive"] == ["sfa"]
    out, told = capsys.readouterr().out, f"method sfa will have no effect: {why}"
    assert out.count(f"Warning: {told}") == 1
    assert "next to nothing" not in out
    assert told in estimate(digits | {"steps": 40}).notes
    assert foreseen(parse(digits), [("4, 5", 40), ("6, 7", 40)]) == {"sfa": 1}


def test_the_sentence():
    assert sentence("a", 0.0042, "") == "method a could do next to nothing (scope 0.42%)"
    assert sentence("a", 0, "b", "task 1").endswith("next to nothing in task 1 (scope 0.00%): b")
