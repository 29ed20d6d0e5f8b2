"""A paper's runs, made small: what can run runs, what cannot is named with its reason."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from writers import write_idx, write_stanford_cars

from clbench import Record
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.estimate.outline import Absent
from clbench.suite import reproduce
from clbench.suite.suite import expand, recipe_hash

#: Small enough for a test, on top of every config.
SMALL = {
    "steps": 1,
    "batch_size": 4,
    "eval_every": None,
    "per_task": {},
    "images": {"size": 8, "stored": 8},
    "augment": {"crop": "none"},
    "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu", "precision": "32"},
}
MNIST = SMALL | {"stream": {"name": "split_mnist", "tasks": 2, "validation": 0, "download": False}}
CONFIGS = Path(__file__).parent.parent / "configs"


def write_mnist(data):
    """Three training images and a test image of each digit."""
    labels = np.arange(30, dtype=np.uint8) % 10
    images = np.zeros((30, 28, 28), dtype=np.uint8)
    write_idx(data / "MNIST" / "raw", (images, labels, images[:10], labels[:10]))


def write_cars(data):
    """Two classes of three training images and a test image each."""
    train = [(f"{i}.jpg", 1 + i % 2) for i in range(6)]
    write_stanford_cars(data, ["a", "b"], train, [("8.jpg", 1), ("9.jpg", 2)])


@pytest.fixture
def place(tmp_path, monkeypatch, no_pictures):
    """A working folder, and trials without pictures."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def only(monkeypatch):
    """Keeps to some of a paper's configs."""
    real = reproduce._configs

    def keep(*names):
        monkeypatch.setattr(
            reproduce, "_configs", lambda paper: [x for x in real(paper) if x.stem in names]
        )

    return keep


@pytest.fixture
def launched(monkeypatch):
    """Runs are not made: their names and recipes are collected."""
    found = {}

    def compare(suite, output, jobs):
        found.update({run.name: run for run in expand(suite, "suite").runs})
        raise ClbenchError("that is all")

    monkeypatch.setattr(reproduce, "compare", compare)
    return found


def words(changes):
    return [
        word
        for key, value in changes.items()
        for word in (f"--{key}", yaml.safe_dump(value, default_flow_style=True).split("\n...")[0])
    ]


def test_every_paper_has_its_configs_and_sweeps():
    names = {paper: [c.name for c in reproduce.cells(paper, {})] for paper in reproduce.PAPERS}
    for paper, found in names.items():
        assert {path.stem for path in (CONFIGS / paper).glob("*.yaml")} <= set(found)
    assert not [c.reason for paper in names for c in reproduce.cells(paper, {}) if c.reason]
    assert {c.backbone for c in reproduce.cells("flow", {})} == {"resnet18", "resnet50"}
    # p = 0.96 is the config itself, p = 1 with β = 0.5 is WiSE-FT.
    swept = {name for name in names["sfa"] if "=" in name}
    assert {f"sfa p={p}" for p in (0.25, 0.5, 0.75, 0.9, 0.98)} <= swept
    assert "sfa p=0.96" not in swept
    assert len(set(names["sfa"])) == len(names["sfa"])


def test_sfa_is_both_of_its_data_sets_with_both_logits():
    found = {c.name: c.recipe for c in reproduce.cells("sfa", {})}
    ends = {"": 20, ", all logits": 20, ", Food-101": 20, ", Food-101, all logits": 20}
    for end, tasks in ends.items():
        food, every = "Food" in end, "all" in end
        for name in ("sfa", "sequential", "replay_10", "task_arithmetic", "sfa p=0.25"):
            recipe = found[name + end]
            assert recipe.stream.name == ("food101" if food else "split_cifar100")
            assert recipe.train_logits == ("all" if every else "task")
            assert recipe.steps == (135 if food else 90)
        # As many optimiser steps in one stage as in all tasks.
        assert found["multitask" + end].steps == tasks * found["sfa" + end].steps
        assert found["sfa" + end].methods["sfa"].p == (0.98 if food else 0.96)
        assert found["task_arithmetic" + end].methods["task_arithmetic"].scale == "mean"


@pytest.mark.parametrize("gone", [{"train_logits": "all"}, {"stream": {"validation": 0}}])
def test_overrides_take_the_ground_from_variants(gone):
    names = {c.name for c in reproduce.cells("sfa", gone)}
    left = {name.partition(", ")[2] for name in names}
    assert left == ({"", "Food-101"} if "train_logits" in gone else {"", "all logits"})


def test_mofos_combinations_are_at_the_papers_share():
    found = {c.name: c.recipe for c in reproduce.cells("mofo", {})}
    for name in ("mofo", "gem_mofo", "replay_mofo"):
        assert found[name].methods["mofo"].fraction == 0.05
    shares = {r.methods["mofo"].fraction for n, r in found.items() if n.startswith("table3_mofo")}
    assert shares == {0.05, 0.15, 0.2, 0.4, 0.8}  # 0.1 is table6_momentum
    assert found["table6_momentum"].methods["mofo"].fraction == 0.1


def test_the_suite_holds_every_config_as_it_is():
    for paper in reproduce.PAPERS:
        ready = reproduce.cells(paper, {"batch_size": 2})
        runs = expand(reproduce.suite(paper, ready, [0, 1]), "suite").runs
        assert len(runs) == 2 * len(ready)
        planned = {run.hash for run in runs if run.recipe.seed == 0}
        assert planned == {recipe_hash(cell.recipe) for cell in ready}


def test_overrides_reach_the_settings_of_single_tasks():
    found = reproduce.cells("flow", {"epochs": 1, "optimizer": {"lr": 0.25}})
    assert any(cell.recipe.per_task for cell in found)
    for cell in found:
        for task in cell.recipe.stream.datasets:
            own = cell.recipe.for_task(task)
            assert (own.epochs, own.steps, own.optimizer.lr) == (1, None, 0.25)
    augmented = [cell.recipe.for_task("stanford_cars").augment.jitter for cell in found]
    assert max(augmented) > 0


def test_runs_what_it_can_and_reports(place, only, capsys, monkeypatch):
    write_cars(place / "data")
    only("flow", "l2")
    cells = reproduce.cells

    def one_without_weights(paper, overrides):
        first, second, *_ = cells(paper, overrides)  # but for ℓ2's sweep
        second.values["model"] = {"backbone": "tiny_cnn", "weights": "gone.pth"}
        second.recipe = reproduce.parse(second.values)
        return [first, second]

    monkeypatch.setattr(reproduce, "cells", one_without_weights)
    stream = {"datasets": ["stanford_cars", "stanford_dogs"], "validation": 0}
    made = reproduce.reproduce("flow", SMALL | {"stream": stream})
    assert [g.label for s in made.sections for g in s.groups] == ["flow"]
    assert made.failures == {"l2 (tiny_cnn)": "skipped: weights gone.pth are missing"}
    record = Record.load(made.runs[0].folder)
    assert record.finished
    assert record.run.tasks == ["stanford_cars"]
    assert [event.steps for event in record.tasks] == [1]
    page = (place / "runs" / "reproduce-flow" / "report" / "report.html").read_text()
    assert "weights gone.pth are missing" in page
    printed = capsys.readouterr().out
    assert "Missing: stanford_dogs" in printed
    assert "has no head of the 1,000 ImageNet classes" in printed


def test_nothing_to_run_is_one_line(place, capsys):
    assert main(["reproduce", "mofo", *words(MNIST)]) == 2
    out, err = capsys.readouterr()
    assert err == "error: nothing of mofo can run here: mnist is missing\n"
    assert "skipped: mnist is missing" in out
    assert "MNIST/raw must hold" in out
    assert list(place.iterdir()) == []
    assert main(["reproduce", "moco"]) == 2
    assert "there is no paper 'moco'" in capsys.readouterr().err


def test_dry_run_leaves_nothing(place, only, capsys):
    only("full_ft")
    assert main(["reproduce", "mofo", "--dry_run", "--seeds", "0", "1", *words(SMALL)]) == 0
    printed = capsys.readouterr().out
    assert "for 2 runs one after the other" in printed
    assert "Not here, will be fetched: cifar100" in printed
    assert list(place.iterdir()) == []


def test_what_can_be_fetched_is_asked_for_once(place, only, monkeypatch):
    only("full_ft", "mofo")
    asked = []

    def fetch(name, root, download=True):
        asked.append((name, download))
        raise ClbenchError("no network")

    monkeypatch.setattr("clbench.data.datasets.load", fetch)
    monkeypatch.setattr("clbench.estimate.absent.outline", fake_outline)
    with pytest.raises(ClbenchError, match="cifar100 is missing"):
        reproduce.reproduce("mofo", SMALL)
    assert asked == [("cifar100", True)]


class fake_outline:
    absent = (Absent("cifar100", "somewhere", True),)

    def __init__(self, recipe):
        pass


def test_asks_before_long_runs(place, only, launched, monkeypatch):
    write_mnist(place / "data")
    only("full_ft")
    monkeypatch.setattr(reproduce, "LONG", 0.0)
    questions = []
    assert reproduce.reproduce("mofo", MNIST, ask=lambda q: bool(questions.append(q))) is None
    assert "Run for about" in questions[0]
    assert launched == {}
    with pytest.raises(ClbenchError, match="that is all"):
        reproduce.reproduce("mofo", MNIST, ask=lambda _: True)
    assert [run.method for run in launched.values()] == ["full_ft"]
