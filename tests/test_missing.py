"""A suite whose data or weights are missing: said by the plan, and in one line before any run."""

from types import SimpleNamespace

import pytest
import yaml

from clbench.cli.commands import command
from clbench.data import datasets
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.suite import comparison, forecast
from clbench.suite.comparison import compare
from clbench.suite.forecast import plan
from clbench.suite.missing import Inventory
from clbench.suite.suite import load

TUNE = {"tries": 2, "tasks": 1, "space": {"optimizer.lr": [0.1, 0.01]}}


@pytest.fixture
def suite(recipe, tmp_path, no_pictures):
    """Two methods and two seeds on a data set that is not there."""
    stream = {"name": "split_mnist", "tasks": 2, "download": False}
    model = recipe["model"] | {"weights": "none"}
    recipe |= {"stream": stream, "model": model, "data_dir": str(tmp_path / "data"), "steps": 1}
    methods = {"plain": {}, "sfa": {"sfa": {"p": 0.5}}}
    return {"name": "mine", "base": recipe, "methods": methods, "seeds": [0, 1]}


@pytest.fixture
def started(monkeypatch):
    """The names of the jobs that would be started; all of them fail at once."""
    names = []

    def start(jobs, changed):
        for job in jobs:
            names.append(job.name)
            job.state, job.reason = "failed", "not tried"

    monkeypatch.setattr(comparison, "choose_launcher", lambda *_: start)
    return names


def test_the_plan_names_what_is_missing_and_counts_the_tries(suite, tmp_path):
    plain = list(plan(load(suite), tmp_path / "out"))
    tuned = list(plan(load(suite | {"tune": TUNE}), tmp_path / "out"))
    assert plain[4].startswith("4 runs: 0 finished, 4 to do; about ")
    assert tuned[4].startswith("4 runs: 0 finished, 4 to do; before them 4 tries on the first 1 ")
    for lines in (plain, tuned):
        assert lines[5] == "4 runs cannot start here: mnist is missing."
        assert lines[6].startswith("Missing: mnist: ")
        assert len(lines) == 7
    assert not (tmp_path / "out").exists()


class needs:
    """Every run takes 10 s and 1 MB, every try 4 s."""

    seconds, disk, memory = 10.0, {"run folder": 10**6}, {"peak": 10**9}
    total = SimpleNamespace(steps=3)

    def __init__(self, recipe, shared):
        pass

    def of_try(self, tasks):
        return 4.0 * tasks


def test_tries_take_time_and_disk(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "estimate", needs)
    first, *_, plain, _, _ = plan(load(suite), tmp_path / "out")
    *_, tuned, _, _ = plan(load(suite | {"tune": TUNE}), tmp_path / "out")
    assert first.endswith("new  3 steps, about 10 s, 1.0 GB of memory")
    assert "about 40 s one after the other, imports not counted, and 4.0 MB" in plain
    assert "about 56 s one after the other, imports not counted, and 8.0 MB" in tuned


def test_own_images_that_are_missing(suite, tmp_path):
    suite["base"]["stream"] = {"name": "image_folder", "train": "gone", "test": "lost"}
    *_, told = plan(load(suite), tmp_path / "out")
    assert told.startswith("4 runs cannot start here: the image folder gone does not exist")


@pytest.mark.parametrize("more", [{}, {"tune": TUNE}], ids=["plain", "tuned"])
def test_nothing_is_started_when_nothing_can_run(suite, tmp_path, started, more):
    with pytest.raises(ClbenchError, match="no run can start here: mnist is missing") as error:
        compare(suite | more, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert str(error.value).count("must hold") == 1
    assert started == []


def test_what_can_run_is_started(suite, tmp_path, started):
    suite["base"]["stream"] = {"name": "split_digits", "tasks": 2, "pretrain_classes": []}
    suite["overrides"] = {"sfa": {"model": {"weights": str(tmp_path / "gone.pth")}}}
    with pytest.raises(ClbenchError, match=r"sfa-.*: weights .*gone.pth are missing"):
        compare(suite, tmp_path / "out")
    assert [name.split("-")[0] for name in started] == ["plain", "plain"]


def test_what_can_be_fetched_is_fetched_once(suite, tmp_path, started, monkeypatch):
    suite["base"]["stream"]["download"] = True
    asked, real = [], datasets.load

    def load(name, root, download=True):
        asked.append(download)
        if download:
            raise ClbenchError("no\nnetwork")
        return real(name, root, download)

    monkeypatch.setattr("clbench.data.datasets.load", load)
    with pytest.raises(ClbenchError, match=r"mnist is missing \(no network\)"):
        compare(suite, tmp_path / "out")
    assert (asked.count(True), started) == (1, [])
    asked.clear()
    inventory = Inventory(fetch=False)  # a plan's
    assert inventory.reason(parse(suite["base"])) == ""
    (line,) = inventory.lines()
    assert line.startswith("Not here, will be fetched: mnist: ")
    assert list(inventory.lines()) == []
    assert True not in asked


def test_the_command_ends_with_one_line(suite, tmp_path, started, capsys, monkeypatch):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClbenchError, match="no run can start here"):
        command(["compare", "mine.yaml"])
    assert capsys.readouterr().out == ""
