"""The studies' mathematics, and their pages from small inputs."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

STUDIES = Path(__file__).parents[2] / "studies"
sys.path.insert(0, str(STUDIES))  # where they have what they share


def load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


mofo = load("mofo_two_variables")
flow = load("flow_linear_theory")
sfa = load("sfa_two_tasks")


def test_adam_and_mofo_end_in_different_minima():
    adam, filtered = mofo.path("Adam", 0.02, 3000)[-1], mofo.path("MoFO", 0.01, 1000)[-1]
    np.testing.assert_allclose(adam, [1, 1], atol=0.05)
    np.testing.assert_allclose(filtered, [1, 0], atol=1e-3)
    rows = {row["optimizer"]: row for row in mofo.numbers({"MoFO": np.array([[1.0, 0.0]])})}
    assert rows["MoFO"]["pretraining_loss"] == 1


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.7])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_derived_covariance_is_the_theorems(rho, tau):
    setting = flow.Setting(rho=rho, tau=tau, norm=1.7)
    derived = flow.weighted_covariance(setting.sigma_tilde, setting.e, setting.temperature(1))
    np.testing.assert_allclose(derived, flow.theorem_covariance(setting), atol=1e-14)


def test_isotropic_covariance():
    e, tau = np.array([0.0, 2.0, 0.0]), 3.0
    mu = (tau / (tau + 2 * 4)) ** 0.5
    expected = mu * (np.eye(3) - (1 - mu**2) * np.outer(e, e) / 4)
    np.testing.assert_allclose(flow.weighted_covariance(np.eye(3), e, tau), expected)
    np.testing.assert_array_equal(flow.weighted_covariance(np.eye(3), e, np.inf), np.eye(3))


@pytest.mark.parametrize("sign", [1, -1])
def test_closed_form_population_and_samples_agree(sign):
    setting = flow.Setting(steps=100)
    e = setting.e
    covariance = flow.weighted_covariance(setting.sigma_tilde, e, setting.temperature(sign), sign)
    closed = flow.closed_form(covariance, e, setting.rate, setting.steps)
    population = flow.trajectories(setting)["FLOW" if sign == 1 else "DRO"]
    np.testing.assert_allclose(closed, population, atol=1e-12)
    sampled = flow.sampled_covariance(setting, sign, 300_000, seed=1)
    drawn = flow.descend(lambda x: 2 * sampled @ x, e, setting.rate, setting.steps)
    np.testing.assert_allclose(drawn, population, atol=0.02)


def test_descent_on_samples_is_descent_on_flows_weighted_loss():
    setting = flow.Setting(dimension=3, steps=1)
    sampled = flow.sampled_covariance(setting, 1, 500, seed=2)
    random = np.random.default_rng(2)
    root = np.linalg.cholesky(setting.sigma_tilde)
    inputs = torch.from_numpy(random.standard_normal((500, 3)) @ root.T)
    difference = torch.from_numpy(setting.e.copy()).requires_grad_()
    losses = (inputs @ difference).square()
    weights = torch.exp(-losses.detach() / setting.temperature(1))
    (weights * losses).mean().backward()
    np.testing.assert_allclose(difference.grad, 2 * sampled @ setting.e, rtol=1e-12)


def test_dro_needs_a_high_temperature():
    with pytest.raises(ValueError, match="have no mean"):
        flow.weighted_covariance(np.eye(2), np.array([1.0, 0.0]), 2.0, sign=-1)


def test_no_method_beats_l2_where_the_pretraining_data_are_isotropic():
    sums = flow.best_sum(flow.Setting(rho=0.5, scale=1.0))
    assert sums["ℓ2"] <= min(sums.values()) + 1e-5


def result(sweep="ℓ2", value=1.0, seed=0, **numbers):
    filled = dict.fromkeys(sfa._NUMBERS, 0.5) | numbers
    return sfa.Result(sweep, value, seed, **filled, diverged=False)


def test_area_under_a_front():
    assert sfa.area([(1.0, 1.0)]) == 1
    assert sfa.area([(0.5, 0.5), (0.4, 0.4)]) == pytest.approx(0.25)
    assert sfa.area([]) == 0


def test_settings_are_chosen_on_validation_data():
    good = result(a=0.1, b=0.1, validation_a=0.9, validation_b=0.9)
    bad = result(value=2.0, a=0.9, b=0.9, validation_a=0.1, validation_b=0.1)
    area, best = sfa.trade_off([good, bad], "ℓ2", 0)
    assert area == pytest.approx(0.01)
    assert best == pytest.approx(0.1)


def test_every_sweep_has_as_many_values():
    assert len({len(sweep.values) for sweep in sfa.SWEEPS}) == 1


def test_study_from_runs_to_page(tmp_path, monkeypatch):
    monkeypatch.setitem(sfa.RECIPE, "steps", 3)
    monkeypatch.setattr(sfa, "SECOND_TASK", {"steps": 4})
    todo = sfa.jobs([0, 1], values=2)
    wanted = [job for job in todo if job.seed == 0]
    results, records = sfa.run_all(wanted, 1)
    assert not any(r.diverged for r in results)
    by_name = {(r.sweep, r.value): r for r in results}
    assert len({r.first for r in results if r.sweep != "multitask"}) == 1
    assert by_name["sequential", None].distance > 0
    assert 0 < by_name["SFA, interval", 0.05].averaged < by_name["SFA, interval", 0.05].distance
    # A second seed for the spread, without more runs.
    twice = [*results, *(sfa.replace(r, seed=1) for r in results)]
    found = sfa.write(twice, records * 2, tmp_path)
    assert found["claims"]["ℓ2 outside EWC"]["verdict"] == "too noisy to say"
    names = {path.name for path in tmp_path.iterdir()}
    assert {"README.md", "runs.csv", "means.csv", "claims.json", "trade_off.png"} <= names
    again, _ = sfa.read(tmp_path / "records.jsonl")
    assert [r.a for r in again] == [r.a for r in twice]
