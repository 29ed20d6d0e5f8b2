"""The studies' mathematics, and their pages from small inputs."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

STUDIES = Path(__file__).parents[2] / "studies"
sys.path.insert(0, str(STUDIES))  # modules beside the studies


def load(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, STUDIES / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


mofo = load("mofo_two_variables")
flow = load("flow_linear_theory")
two_tasks = load("two_tasks")
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


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return two_tasks.data(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def learned(digits):
    return two_tasks.TwoTasks(digits, seed=3, steps={"A": 6, "B": 8})


def run(sweep="ℓ2", value=1.0, seed=0, **numbers):
    return {
        "sweep": sweep,
        "value": value,
        "seed": seed,
        **dict.fromkeys(sfa.NUMBERS, 0.0),
    } | numbers


def test_area_under_a_front():
    assert sfa.area([(1.0, 1.0)]) == 1
    assert sfa.area([(0.5, 0.5), (0.4, 0.4)]) == pytest.approx(0.25)
    assert sfa.area([]) == 0


def test_settings_are_chosen_on_validation_data():
    good = run(test_A=0.1, test_B=0.1, validation_A=0.9, validation_B=0.9)
    bad = run(value=2.0, test_A=0.9, test_B=0.9, validation_A=0.1, validation_B=0.1)
    assert sfa.score([good, bad], "ℓ2", 0) == pytest.approx(0.01)
    assert sfa.best([good, bad], "ℓ2", 0) == pytest.approx(0.1)


def test_networks_that_need_no_method_belong_to_every_front():
    runs = [
        run(test_A=0.5, test_B=0.5, validation_A=0.5, validation_B=0.5),
        run("after task A", None, test_A=1.0, test_B=0.1, validation_A=1.0, validation_B=0.1),
        run("sequential", None, test_A=0.1, test_B=1.0, validation_A=0.1, validation_B=1.0),
    ]
    assert sfa.score(runs, "ℓ2", 0) == pytest.approx(0.25 + 2 * 0.5 * 0.1)


def test_lines_bridge_what_steps_leave_out():
    assert sfa.area_by_lines([(1.0, 0.0), (0.0, 1.0)]) == pytest.approx(0.5)
    assert sfa.area([(1.0, 0.0), (0.0, 1.0)]) == 0
    ends = [run("after task A", None, test_A=1.0), run("sequential", None, test_B=1.0)]
    one = run(test_A=0.75, test_B=0.5)
    assert sfa.above([*ends, run("EWC", test_A=0.4, test_B=0.5)], one, "EWC") == pytest.approx(0.35)
    assert sfa.above(ends, one, "EWC") == pytest.approx(0.25)


def test_every_sweep_has_as_many_values():
    assert {len(set(sweep.values)) for sweep in sfa.SWEEPS} == {8}


def test_two_tasks_share_their_labels(digits):
    for parts in digits.values():
        for inputs, labels in parts.values():
            assert inputs.shape[1] == 64
            assert 0.9 < inputs.max() <= 1
            assert set(labels.tolist()) == set(range(two_tasks.LABELS))


def test_sfa_of_one_average_is_halfway_to_where_it_would_have_ended(learned):
    learned.learn_b(two_tasks.PLAIN)
    plain = {name: weight.clone() for name, weight in learned.model.state_dict().items()}
    learned.learn_b(two_tasks.Way(interval=8, beta=0.5))
    for name, weight in learned.model.state_dict().items():
        torch.testing.assert_close(weight, (plain[name] + learned.theta_o[name]) / 2)


@pytest.mark.parametrize(
    "way",
    [two_tasks.Way(interval=2, beta=1.0), two_tasks.Way(interval=1, beta=1.0)],
)
def test_sfa_with_all_weight_on_the_first_task_stays_there(learned, way):
    assert learned.learn_b(way) == learned.after_a()
    assert learned.after_a()["distance"] == 0


@pytest.mark.parametrize("fisher", ["", "true", "averaged", "blog"])
def test_a_penalty_keeps_the_weights_nearer(learned, fisher):
    free = learned.learn_b(two_tasks.PLAIN)["distance"]
    off = learned.learn_b(two_tasks.Way(strength=1e-12, fisher=fisher))["distance"]
    held = learned.learn_b(two_tasks.Way(strength=1e4, fisher=fisher))["distance"]
    assert off == pytest.approx(free, rel=1e-4)
    assert held < 0.97 * free


def test_averaged_factors_are_one_for_each_output(learned):
    true, averaged = learned.factors["true"], learned.factors["averaged"]
    torch.testing.assert_close(averaged["0.weight"][:, 5], true["0.weight"].mean(1))
    assert learned.factors["blog"]["0.weight"].shape == (two_tasks.WIDTH, 64)
    assert float(learned.factors["blog"]["0.weight"][3].std()) == 0
    assert len(learned.factors["blog"]["2.bias"].unique()) == 1


def test_weights_without_fisher_information_are_free(learned):
    found = learned.unimportant(strength=1e6, below=0.01)
    everything = learned.unimportant(below=1e9)
    assert everything == {"share": 1.0, "moved": 1.0}
    assert 0 < found["share"] < 0.6
    assert found["moved"] > found["share"]


def test_study_from_runs_to_page(digits, tmp_path):
    runs = sfa.run_seed(digits, 0, {"A": 2, "B": 400 // 100})
    assert len({(run["sweep"], run["value"]) for run in runs}) == len(runs)
    # More seeds, without more runs; task B's accuracies differ, so that there is a spread.
    many = [
        run | {"seed": seed, "test_B": run["test_B"] * (1 - seed / 9)}
        for seed in (0, 1, 2)
        for run in runs
    ]
    about = {"cpu_seconds": 1, "unimportant": sfa.unimportant(digits, [0])}
    claims = sfa.write(many, about, tmp_path)
    assert "ℓ2 is outside EWC" in [one.claim for one in claims]
    names = {path.name for path in tmp_path.iterdir()}
    assert {"README.md", "runs.csv", "means.csv", "claims.json", "trade_off.png"} <= names
    page = (tmp_path / "README.md").read_text()
    assert "{" not in page
    sfa.main(["--output", str(tmp_path)])
    assert (tmp_path / "README.md").read_text() == page


def test_kept_runs_are_those_of_the_page():
    folder = STUDIES.parent / "docs/results/sfa_two_tasks"
    runs = sfa.read(folder / "runs.csv")
    assert sfa.seeds_of(runs) == list(sfa.SEEDS)
    about = json.loads((folder / "about.json").read_text())
    assert (
        sfa.page(runs, sfa.means(runs), sfa.judged(runs), about)
        == (folder / "README.md").read_text()
    )
