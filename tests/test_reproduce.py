"""A paper's runs, made small: what can run runs, what cannot is named with its reason."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from writers import write_idx, write_stanford_cars

from clbench import Record
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.recipe.yamlfile import read
from clbench.runner.folder import recipe_hash
from clbench.streams.outline import Missing, Needed
from clbench.suite import comparison
from clbench.suite.suite import expand, load

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


def words(changes):
    return [
        word
        for key, value in changes.items()
        for word in (f"--{key}", yaml.safe_dump(value, default_flow_style=True).split("\n...")[0])
    ]


def recipes(paper, over=None):
    """By method; of several backbones, the last."""
    return {run.method: run.recipe for run in load(paper, over).runs}


@pytest.fixture
def mofo(place):
    """A suite of one of MoFO's configs."""
    suite = place / "small.yaml"
    suite.write_text("methods: {full_ft: {config: mofo/full_ft.yaml}}")
    return str(suite)


PAPERS = ("flow", "mofo", "sfa")


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_is_a_suite_of_its_configs_as_they_are(paper):
    suite = load(paper)
    runs = {run.method: run for run in suite.runs}
    for path in (CONFIGS / paper).glob("*.yaml"):
        run = runs[path.stem]
        own = read(str(path))
        if paper == "flow":  # the last of its backbones
            own["model"] |= {"backbone": "resnet50", "weights": "resnet50.ram_in1k"}
        assert run.hash == recipe_hash(parse(own))
    assert len({run.hash for run in suite.runs}) == len(suite.runs)


def test_sweeps_leave_out_what_is_there():
    # p = 0.96 is the config itself, p = 1 with β = 0.5 is WiSE-FT.
    names = {cell.method for cell in load("sfa").cells}
    assert {f"sfa p={p}" for p in (0.25, 0.5, 0.75, 0.9, 0.98)} <= names
    assert not {"sfa p=0.96", "sfa p=1.0", "wise_ft beta=0.5"} & names
    assert {run.recipe.model.backbone for run in load("flow").runs} == {"resnet18", "resnet50"}


def test_sfa_is_both_of_its_data_sets_with_both_logits():
    found = recipes("sfa")
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
    left = {name.partition(", ")[2] for name in recipes("sfa", gone)}
    assert left == ({"", "Food-101"} if "train_logits" in gone else {"", "all logits"})


def test_mofos_combinations_are_at_the_papers_share():
    found = recipes("mofo")
    for name in ("mofo", "gem_mofo", "replay_mofo"):
        assert found[name].methods["mofo"].fraction == 0.05
    shares = {r.methods["mofo"].fraction for n, r in found.items() if n.startswith("table3_mofo")}
    assert shares == {0.05, 0.15, 0.2, 0.4, 0.8}  # 0.1 is table6_momentum
    assert found["table6_momentum"].methods["mofo"].fraction == 0.1


def test_overrides_reach_the_settings_of_single_tasks():
    found = recipes("flow", {"epochs": 1, "optimizer": {"lr": 0.25}}).values()
    assert any(recipe.per_task for recipe in found)
    for recipe in found:
        for task in recipe.stream.datasets:
            own = recipe.for_task(task)
            assert (own.epochs, own.steps, own.optimizer.lr) == (1, None, 0.25)
    augmented = [recipe.for_task("stanford_cars").augment.jitter for recipe in found]
    assert max(augmented) > 0


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"grid": {"l3": {"steps": [1]}}}, "grid.l3: the suite has no such method"),
        ({"grid": {"l2": {"steps": 3}}}, "grid.l2.steps must be a list of values"),
        ({"grid": [1]}, "grid must map names to mappings"),
        ({"variants": {"long": 3}}, "variants must map names to mappings"),
        ({"variants": {"a": {"overrides": {"b": {}}}}}, "variants.a.overrides.b: the suite has no"),
    ],
)
def test_sweeps_and_variants_that_are_none(more, wrong):
    with pytest.raises(ClbenchError, match=wrong):
        expand({"methods": {"l2": {"l2": {"strength": 1}}}} | more, "suite")


def test_runs_what_it_can_and_reports(place, capsys):
    write_cars(place / "data")
    values = {
        "methods": {"flow": {"config": "flow/flow.yaml"}, "lost": {"config": "flow/l2.yaml"}},
        "overrides": {"lost": {"retention": {"data": "none"}}},
    }
    stream = {"datasets": ["stanford_cars", "stanford_dogs"], "validation": 0}
    suite = expand(values, "small", SMALL | {"stream": stream})
    _, lost = suite.cells
    lost.values["model"].update(weights="gone.pth")
    made = comparison.compare(suite, place / "out", skip_missing=True)
    assert [g.label for s in made.sections for g in s.groups] == ["flow"]
    assert made.failures == {}
    assert made.skipped == {"lost": "weights gone.pth are missing"}
    assert "lost was left out: weights gone.pth" in (place / "out/report/report.html").read_text()
    record = Record.load(made.runs[0].folder)
    assert record.finished
    assert record.run.tasks == ["stanford_cars"]
    assert [event.steps for event in record.tasks] == [1]
    page = (place / "out" / "report" / "report.html").read_text()
    assert "weights gone.pth are missing" in page
    assert "Missing: stanford_dogs" in capsys.readouterr().out


def test_nothing_to_run_is_one_line(place, capsys):
    assert main(["reproduce", "mofo", *words(MNIST)]) == 2
    out, err = capsys.readouterr()
    assert err == "error: nothing of mofo can run here: mnist is missing\n"
    assert "MNIST/raw must hold" in out
    assert list(place.iterdir()) == []
    assert main(["reproduce", "moco"]) == 2
    assert "there is no suite 'moco'" in capsys.readouterr().err


def test_dry_run_leaves_nothing(place, mofo, capsys):
    many = ["--dry_run", "--skip_missing", "--seeds", "0", "1"]
    before = list(place.iterdir())
    assert main(["compare", mofo, *many, *words(SMALL)]) == 0
    printed = capsys.readouterr().out
    assert "2 runs: 0 finished, 2 to do" in printed
    assert printed.count("10 steps, about") == 2  # ten tasks
    assert "Not here, will be fetched: cifar100" in printed
    assert list(place.iterdir()) == before


def test_what_can_be_fetched_is_asked_for_once(place, mofo, monkeypatch):
    asked = []

    def fetch(name, root, download=True):
        asked.append((name, download))
        raise ClbenchError("no network")

    needed = Needed(missing=[Missing("cifar100", "somewhere", True)])
    monkeypatch.setattr("clbench.data.datasets.load", fetch)
    monkeypatch.setattr("clbench.suite.missing.outline", lambda recipe: (None, needed))
    suite = load(mofo, SMALL, [0, 1])
    with pytest.raises(ClbenchError, match="cifar100 is missing"):
        comparison.compare(suite, place / "out", skip_missing=True)
    assert asked == [("cifar100", True)]


@pytest.mark.parametrize("answer", ["n", "yes"])
def test_a_person_is_asked_first(place, mofo, monkeypatch, answer, capsys):
    write_mnist(place / "data")
    launched = []

    def compare(suite, *rest):
        launched.extend(run.method for run in suite.runs)
        raise ClbenchError("that is all")

    monkeypatch.setattr(comparison, "compare", compare)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    code = main(["reproduce", mofo, *words(MNIST)])
    assert (code, launched) == ((2, ["full_ft"]) if answer == "yes" else (0, []))
    assert "1 to do" in capsys.readouterr().out
