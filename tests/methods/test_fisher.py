"""Fisher merging, and EWC as merging, in closed form on quadratics with diagonal curvature."""

import pytest
import torch
from pydantic import ValidationError
from quadratics import CURVATURE, MINIMUM, Point, context, learn, put, tensor

import clbench
from clbench.errors import ClbenchError
from clbench.methods import fisher
from clbench.methods.ewc import EWC
from clbench.methods.fisher import EWCMerge, FisherMerge, pull
from clbench.methods.gradient_share import looks
from clbench.recipe.recipe import parse


@pytest.fixture
def known(monkeypatch):
    """The Fisher of a task is its curvature."""
    monkeypatch.setattr(
        fisher, "fisher_of_task", lambda context, *_: {"w": tensor(CURVATURE[context.task.index])}
    )


def test_fisher_merging_minimises_the_sum_of_diagonal_quadratics(known):
    model, method = Point(), FisherMerge()
    learn(method, model)
    a, c = tensor(CURVATURE), tensor(MINIMUM)
    torch.testing.assert_close(model.w.detach(), (a * c).sum(0) / a.sum(0))
    active = method.activity()
    assert active["active"] == 1
    assert active["distance_before"] > active["distance_after"] > 0
    share = active["distance_after"] / active["distance_before"]
    assert active["scope"] == pytest.approx(1 - share)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.9])
def test_fisher_merging_of_two_is_equation_15(known, weight):
    model, method = Point(), FisherMerge(weight=weight)
    learn(method, model, tasks=2)
    (old, new), (theta_o, theta_t) = tensor(CURVATURE)[:2], tensor(MINIMUM)[:2]
    ours, theirs = weight * old, (1 - weight) * new
    wanted = torch.where(ours + theirs > 0, (ours * theta_o + theirs * theta_t), theta_t)
    wanted /= torch.where(ours + theirs > 0, ours + theirs, 1.0)
    torch.testing.assert_close(model.w.detach(), wanted)
    assert method.activity()["active"] == float(weight > 0)
    if weight == 0:
        assert torch.equal(model.w.detach(), theta_t)


def test_nothing_is_merged_in_the_first_task(known):
    for method in (FisherMerge(), EWCMerge()):
        model = Point()
        there = context(model, 0)
        method.start(there)
        put(model, MINIMUM[0])
        method.after_step(model, 1)
        method.finish(there)
        assert torch.equal(model.w.detach(), tensor(MINIMUM[0]))
        assert method.activity() == {"active": 0.0}


def test_ewc_as_merging_is_equations_13_and_14(known):
    """θ* = θ − η·∇L, then (I − η·F_o)·θ* + η·F_o·θ_o: a loop by hand, to rounding."""
    eta, steps = 0.1, 7
    model, method = Point(), EWCMerge(strength=eta)
    first = context(model, 0)
    method.start(first)
    put(model, MINIMUM[0])
    method.finish(first)
    method.start(context(model, 1, steps))
    optimizer = torch.optim.SGD(model.parameters(), lr=eta)
    theta, theta_o, f = tensor(MINIMUM[0]), tensor(MINIMUM[0]), tensor(CURVATURE[0])
    a, c = tensor(CURVATURE[1]), tensor(MINIMUM[1])
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        (a * (model.w - c).square()).sum().div(2).backward()
        optimizer.step()
        method.after_step(model, step)
        star = theta - eta * a * (theta - c)
        theta = (1 - eta * f) * star + eta * f * theta_o
        torch.testing.assert_close(model.w.detach(), theta, rtol=1e-12, atol=1e-14)
    assert method.activity()["mean_share"] == pytest.approx(float((eta * f).mean()))


@pytest.mark.parametrize(("strength", "steps"), [(0.5, 3), (1e-3, 3), (0.1, 40)])
def test_the_scope_of_ewc_as_merging_is_the_pulls_share_of_its_steps(known, strength, steps):
    """A loop by hand: a tenth of the way to the task's minimum in each step, then the pull."""
    model, method = Point(), EWCMerge(strength=strength)
    first = context(model, 0)
    method.start(first)
    put(model, MINIMUM[0])
    method.finish(first)
    method.start(context(model, 1, steps))
    theta, theta_o, f, shares = tensor(MINIMUM[0]), tensor(MINIMUM[0]), tensor(CURVATURE[0]), {}
    for step in range(1, steps + 1):
        moved = theta + 0.1 * (tensor(MINIMUM[1]) - theta)
        put(model, moved.tolist())
        method.after_step(model, step)
        pulled = moved + (strength * f).clamp(max=1) * (theta_o - moved)
        p, m = float((pulled - moved).norm()), float((moved - theta).norm())
        shares[step], theta = p / (p + m), pulled
    looked = [shares[step] for step in looks(steps)]
    assert len(looked) == min(8, steps)
    assert method.activity()["scope"] == pytest.approx(sum(looked) / len(looked))
    assert (method.activity()["scope"] < 0.1) == (strength == 1e-3)


def test_a_run_of_ewc_as_merging_that_does_next_to_nothing_is_named(recipe, tmp_path, capsys):
    recipe["stream"] = {"name": "split_digits", "classes": [[4, 5], [6, 7]]}
    record = clbench.run(recipe | {"methods": {"ewc_merge": {"strength": 1e-4}}}, tmp_path)
    assert record.tasks[1].methods["ewc_merge"]["active"] == 1
    assert record.summary()["ineffective"] == ["ewc_merge"]
    assert "ewc_merge could do next to nothing in task 6, 7" in capsys.readouterr().out


def test_ewc_as_merging_tends_to_ewc_for_small_rates(known):
    """Both go to the minimum of task 2's loss plus EWC's penalty."""
    eta = 1e-3
    model, method = Point(), EWCMerge(strength=eta)
    theta_o, f = tensor(MINIMUM[0]), tensor(CURVATURE[0])
    a, c = tensor(CURVATURE[1]), tensor(MINIMUM[1])
    put(model, MINIMUM[0])
    method.finish(context(model, 0))
    method.start(context(model, 1))
    for step in range(1, 8001):
        with torch.no_grad():
            model.w -= eta * a * (model.w - c)
        method.after_step(model, step)
    moved = a + f > 0
    wanted = ((a * c + f * theta_o) / (a + f))[moved]
    torch.testing.assert_close(model.w.detach()[moved], wanted, rtol=2e-3, atol=1e-3)


def test_no_entry_is_pulled_beyond_the_previous_weights():
    theta, anchor = {"w": tensor([1.0, 1.0, 1.0])}, {"w": tensor([0.0, 0.0, 0.0])}
    pull(theta, anchor, {"w": tensor([0.0, 0.5, 7.0])})
    assert theta["w"].tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("make", [FisherMerge, EWCMerge])
def test_state_survives_a_checkpoint(known, make, tmp_path):
    ends = []
    for interrupted in (False, True):
        model, method = Point(), make()
        learn(method, model, tasks=2)
        if interrupted:
            torch.save(method.state_dict(), tmp_path / "state")
            method = make()
            method.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        there = context(model, 2)
        method.start(there)
        put(model, MINIMUM[2])
        method.after_step(model, 1)
        method.finish(there)
        ends.append(model.w.detach().clone())
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], tensor(MINIMUM[2]))


@pytest.mark.parametrize("make", [lambda: FisherMerge(weight=0), lambda: EWCMerge(strength=0)])
def test_neutral_settings_do_not_even_compute_a_fisher(make, monkeypatch):
    monkeypatch.setattr(fisher, "fisher_of_task", None)
    method = make()
    learn(method, Point())
    assert method.activity() == {"active": 0.0}


@pytest.mark.parametrize("fields", [{"weight": 1}, {"weight": -0.1}, {"samples": 0}])
def test_refuses_wrong_fields(fields):
    with pytest.raises(ValidationError):
        FisherMerge(**fields)


@pytest.mark.parametrize("other", ["lora", "task_arithmetic", "ties", "multitask"])
@pytest.mark.parametrize("name", ["fisher_merge", "ewc_merge"])
def test_what_makes_no_sense_beside_it(recipe, name, other):
    with pytest.raises(ClbenchError, match=f"(?=.*{name})(?=.*{other}).*do not go together"):
        parse(recipe | {"methods": {name: {}, other: {}}})


def test_takes_the_same_fisher_as_ewc():
    fields = EWC.model_fields
    for name in ("labels", "samples"):
        assert FisherMerge.model_fields[name].annotation == fields[name].annotation
