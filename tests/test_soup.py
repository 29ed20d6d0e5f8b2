"""Soups: other programs' numbers, what finished runs give, and what has no mean."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import RECIPE
from safetensors.torch import load_file

import clbench
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.runner.network import Network
from clbench.sweep.soup import greedy, soup, uniform
from clbench.sweep.sweeping import row_of

PEERS = np.load(Path(__file__).parent / "reference" / "merging.npz")
MODELS = sorted({n.split("/")[0] for n in PEERS.files if n.startswith("model")})


def state(of):
    names = (n for n in PEERS.files if n.startswith(f"{of}/"))
    return {n.removeprefix(f"{of}/"): torch.from_numpy(PEERS[n]) for n in names}


def test_the_uniform_soup_is_that_of_model_soups():
    for name, x in uniform([state(model) for model in MODELS]).items():
        torch.testing.assert_close(x, state("soup/uniform")[name])


def test_the_greedy_soup_is_that_of_model_soups():
    target, tried = state("soup/target"), []

    def score(theta):
        tried.append(-sum(float((x - target[name]).square().sum()) for name, x in theta.items()))
        return tried[-1]

    models = [state(model) for model in MODELS]
    scores = [score(model) for model in models]
    assert scores == pytest.approx(PEERS["soup/individual_scores"].tolist())
    tried.clear()
    taken = greedy(models, scores, score)
    assert taken == PEERS["soup/ingredients"].tolist()
    assert tried == pytest.approx(PEERS["soup/tried_scores"].tolist())
    for name, x in uniform([models[i] for i in taken]).items():
        torch.testing.assert_close(x, state("soup/greedy")[name])


def test_only_what_is_better_is_taken_up():
    models = [{"w": torch.tensor([float(i)]), "n": torch.tensor(i)} for i in range(3)]
    assert greedy(models, [0.5, 0.7, 0.7], lambda theta: 0.7) == [1]
    assert greedy(models, [0.5, 0.7, 0.7], lambda theta: float(theta["w"])) == [1, 2]
    assert uniform(models)["n"] == 0
    for wrong in ([], [models[0], {"v": torch.zeros(1)}]):
        with pytest.raises(ValueError, match=r"soup needs|differ"):
            uniform(wrong)


@pytest.fixture(scope="module")
def made(tmp_path_factory, data_dir):
    """Runs of two tasks: two of one seed, and one of another."""
    place = tmp_path_factory.mktemp("runs")
    base = RECIPE | {"data_dir": str(data_dir), "checkpoints": "all"}
    base["stream"] = base["stream"] | {"classes": [[4, 5], [6, 7]], "train_per_class": 60}
    runs = {
        "a": {},
        "b": {"optimizer": {"name": "sgd", "lr": 0.02}, "steps": 12},
        "c": {"methods": {"wise_ft": {}}, "checkpoints": "last"},
        "seed": {"seed": 1},
        "ranpac": {"methods": {"ranpac": {"features": 32}}},
        "size": {"images": {"size": 9}},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.runner.outputs.write", lambda *_: [])
        for name, more in runs.items():
            clbench.run(base | more, place / name)
    return place


pytestmark = pytest.mark.usefixtures("no_pictures")


def test_rows_are_the_runs_and_their_mean(made, monkeypatch):
    held, load = [], Network.load
    monkeypatch.setattr(
        Network, "load", lambda self, theta: held.append(dict(theta)) or load(self, theta)
    )
    found = soup([made / "a", made / "b"])
    assert found.names == ["a", "b", "uniform"]
    a, b = (clbench.Record.load(made / n) for n in "ab")
    assert found.rows[:2] == [row_of(a, None), row_of(b, None)]
    assert found.reproduced
    assert (found.chosen, found.ingredients) == (None, None)
    assert found.rows[2].backward_transfer["task_incremental"] is not None
    wanted = uniform([load_file(made / n / "model.safetensors") for n in "ab"])
    last = held[-3]  # then, the first run's own of both tasks
    assert all(torch.equal(x.cpu(), wanted[name]) for name, x in last.items())


def test_the_mean_of_equal_weights_has_their_numbers(made, tmp_path):
    twin = shutil.copytree(made / "a", tmp_path / "twin")
    found = soup([made / "a", twin], picks=True)
    assert found.rows[0] == found.rows[1] == found.rows[2] == found.rows[3]
    assert found.ingredients == ["a"]


def test_validation_picks_and_the_last_task_is_enough(made, monkeypatch):
    from clbench.sweep.redeploy import Redeployment

    runs = [made / "a", made / "b", made / "c"]
    for tried, taken in (([2.0, 3.0], 3), ([2.0, 1.0], 2), ([-1.0, -1.0], 1)):
        left = iter(tried)
        monkeypatch.setattr(Redeployment, "validation", lambda *_, left=left: next(left))
        found = soup(runs, picks=True, by="class_incremental")
        assert (found.names[-1], found.chosen) == ("greedy", 4)
        assert len(found.ingredients) == taken
        assert found.rows[3].backward_transfer["task_incremental"] is None
        single = [row.validation["class_incremental"] for row in found.rows[:3]]
        assert single["abc".index(found.ingredients[0])] == max(single)


def test_the_command_writes_what_reports_show(made, capsys, tmp_path):
    assert main(["soup", str(made / "a"), str(made / "b"), "--greedy"]) == 0
    out = capsys.readouterr().out
    assert "In the greedy soup: " in out
    assert "sweep-soup.json" in out
    told = json.loads((made / "a" / "sweep-soup.json").read_text())
    assert [row["value"] for row in told["rows"]] == ["a", "b", "uniform", "greedy"]
    assert told["chosen"] == 3
    page = build(compare([made / "a", made / "b"]), tmp_path / "report", "soups")
    text = page.read_text()
    assert "soup after training" in text
    assert "chosen on validation: greedy" in text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a"], "a soup is of two runs or more"),
        (["a", "a"], "each named once"),
        (["a", "seed"], "has not the "),
        (["a", "size"], "has not the "),
        (["a", "ranpac"], "ranpac classifies by what it collected"),
        (["a", "none"], "holds no run"),
    ],
)
def test_what_has_no_mean_is_refused_in_a_line(made, names, words, capsys):
    assert main(["soup", *(str(made / name) for name in names)]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_greedy_needs_something_held_out(made, monkeypatch):
    from dataclasses import replace

    from clbench.sweep import soup as module

    def bare(record, value):
        return replace(row_of(record, value), validation=None)

    monkeypatch.setattr(module, "row_of", bare)
    with pytest.raises(ClbenchError, match=r"stream\.validation above 0"):
        soup([made / "a", made / "b"], picks=True)
