"""Methods, streams, data sets and metrics of one's own: named by the user, and by nobody else."""

import hashlib
import json
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import yaml
from helpers import fake_train, interrupt_after
from plugins import LEASH, forget
from safetensors.torch import load_file

import clbench
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.launch.local import train_words
from clbench.methods import METHODS
from clbench.plugins import installed, loading
from clbench.plugins.loading import LOADED, load
from clbench.plugins.recipes import admitted
from clbench.recipe.recipe import parse
from clbench.runner.folder import plain, recipe_hash
from clbench.suite import comparison
from clbench.suite.suite import expand


@pytest.fixture
def own(recipe, no_pictures):
    recipe["stream"] |= {"first_tasks": 2, "train_per_class": 20, "test_per_class": 5}
    return recipe | {"steps": 2, "plugins": ["leash.py"], "methods": {"leash": {}}}


def refusal(*words, capsys):
    assert main(list(words)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_help_list_and_messages_know_the_rows(leash, capsys):
    for words in (["--list"], ["--help"]):
        assert main([*words, "--plugins", "leash.py"]) == 0
        assert "leash" in capsys.readouterr().out
    told = refusal("--plugins", "leash.py", "--methods.leash.pul", "1", capsys=capsys)
    assert "did you mean methods.leash.pull" in told
    told = refusal("--plugins", "leash.py", "--methods", "{leasch: {}}", capsys=capsys)
    assert "did you mean leash" in told


def test_a_recipe_names_what_it_was_run_with(leash, own, place):
    record = clbench.run(own, place / "run")
    assert record.run.methods == {"leash": {"pull": 0.03}}
    digest = hashlib.sha256(leash.read_bytes()).hexdigest()
    config = yaml.safe_load((place / "run/config.yaml").read_text())
    assert config["plugins"] == [str(leash)]
    assert config["plugins_sha256"] == {"leash.py": digest}
    told = json.loads((place / "run/environment.json").read_text())["plugins"]
    assert told == {"leash.py": {"place": str(leash), "sha256": digest}}


def test_settings_of_one_task(leash, own):
    task = {"4, 5": {"methods": {"leash": {"pull": 0.5}}}}
    made = parse(admitted(own | {"per_task": task}))
    assert made.for_task("4, 5").methods["leash"].pull == 0.5


def test_settings_of_one_task_are_trained_with_and_taken_up_again(leash, own, place, monkeypatch):
    """All tasks by per_task, as by the method itself; gone on with where it was cut off."""
    both = {name: {"methods": {"leash": {"pull": 0.5}}} for name in ("4, 5", "6, 7")}
    one = {"6, 7": both["6, 7"]}
    load(["leash.py"])
    found = {}
    for name, pull, tasks in (("same", 0.5, {}), ("both", 0.0, both), ("one", 0.0, one)):
        values = own | {"methods": {"leash": {"pull": pull}}, "per_task": tasks}
        clbench.run(values, place / name)
        found[name] = load_file(place / name / "model.safetensors")
    assert all(torch.equal(found["both"][n], x) for n, x in found["same"].items())
    assert not all(torch.equal(found["one"][n], x) for n, x in found["same"].items())
    interrupted(values, place / "cut", monkeypatch)  # the last of these
    assert main(["--resume", "--output", "cut", "--plugins", "leash.py"]) == 0
    again = load_file(place / "cut/model.safetensors")
    assert all(torch.equal(again[n], x) for n, x in found["one"].items())


def interrupted(own, folder, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(own, folder)
    forget()
    (folder.parent / "loaded").unlink()


def test_a_run_goes_on_where_the_user_names_the_plugin_too(leash, own, place, monkeypatch, capsys):
    whole = clbench.run(own, place / "whole")
    interrupted(own, place / "run", monkeypatch)
    told = refusal("--resume", "--output", "run", capsys=capsys)
    assert f"add --plugins {leash}" in told
    assert not (place / "loaded").exists()
    moved = place / "elsewhere"
    moved.mkdir()
    leash.rename(moved / "leash.py")  # what it is counts, not where
    assert main(["--resume", "--output", "run", "--plugins", "elsewhere/leash.py"]) == 0
    here = [(event.name, event.task_incremental) for event in clbench.Record.load("run").tasks]
    assert here == [(event.name, event.task_incremental) for event in whole.tasks]


def test_a_changed_plugin_is_refused(leash, own, place, monkeypatch, capsys):
    interrupted(own, place / "run", monkeypatch)
    leash.write_text(LEASH + "# another\n")
    words = ["--resume", "--output", "run", "--plugins", "leash.py"]
    assert "the plugin leash.py has changed (SHA-256" in refusal(*words, capsys=capsys)
    config = ["--config", "run/config.yaml", "--output", "new", "--plugins", "leash.py"]
    assert "has changed" in refusal(*config, capsys=capsys)
    assert main([*config, "--plugins_sha256", "{}", "--print_config"]) == 0


def test_nothing_of_a_strangers_folder_is_run(leash, own, place, capsys):
    clbench.run(own, place / "run")
    forget()
    (place / "loaded").unlink()
    asks = [
        ["--resume", "--output", "run"],
        ["--config", "run/config.yaml"],
        ["--config", "run/config.yaml", "--resume", "--output", "run"],
        ["sweep", "run", "--alpha", "0,1"],
    ]
    for words in asks:
        assert f"add --plugins {leash}" in refusal(*words, capsys=capsys)
    (place / "suite.yaml").write_text("base: run/config.yaml\nmethods: {plain: {}}\n")
    assert "is not loaded" in refusal("compare", "suite.yaml", "--dry_run", capsys=capsys)
    for name in ("record.jsonl", "environment.json", "checkpoints"):  # in the run's own folder
        (place / "run" / name).rename(place / name)
    words = ["--config", "run/config.yaml", "--resume", "--output", "run"]
    assert "is not loaded" in refusal(*words, capsys=capsys)
    for name in ("record.jsonl", "environment.json", "checkpoints"):
        (place / name).rename(place / "run" / name)
    assert main(["report", "run"]) == 0
    assert not (place / "loaded").exists()
    assert not LOADED


def test_a_record_that_names_a_plugin_of_its_own_is_refused(leash, own, place, capsys):
    clbench.run(own, place / "run")
    forget()
    config = place / "run/config.yaml"
    values = yaml.safe_load(config.read_text())
    config.write_text(
        yaml.safe_dump(values | {"plugins": [], "plugins_sha256": {}, "methods": {"sfa": {}}})
    )
    assert "is not loaded" in refusal("--resume", "--output", "run", capsys=capsys)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n\ny = z\n", r"plugin bad\.py, line 3: NameError: name 'z' is not defined"),
        ("x = 1\ny = = 2\n", r"plugin bad\.py, line 2: SyntaxError"),
        ("def f():\n    raise SystemExit(3)\nf()", r"plugin bad\.py, line 2: SystemExit: 3"),
        ("x = 1", "bad.py has none of METHODS, STREAMS, DATASETS, METRICS, LOGGERS, CALLBACKS"),
        ("METHODS = 3", "METHODS must be a mapping of its own"),
        ("from clbench.methods import METHODS", "METHODS must be a mapping of its own"),
        ("METHODS = {'own': int}", r"METHODS\['own'\]: must be a subclass of Method"),
        ("METHODS = {'Own': int}", r"METHODS\['Own'\]: names are small letters"),
        ("METRICS = {'own': print}", "must be a subclass of TaskMetric"),
        ("LOGGERS = {'own': print}", "must be a subclass of RunLogger"),
        (
            "from lightning.pytorch.loggers import CSVLogger\nLOGGERS = {'own': CSVLogger}",
            "must be a subclass of RunLogger",
        ),
        (
            "from clbench.record.loggers import RunLogger\nclass S(RunLogger): summary = 's'\n"
            "LOGGERS = {'s': S}",
            "S lacks make",
        ),
        ("DATASETS = {'own': 3}", "must be a function or class, got 3"),
        (LEASH.replace('"leash"', '"sfa"'), "the name is taken by clbench itself"),
        (LEASH.replace("    summary: ", "    about: "), "Leash needs a summary"),
        (
            "from clbench.streams import StreamConfig\nclass S(StreamConfig): summary = 's'\n"
            "STREAMS = {'s': S}",
            "S lacks build",
        ),
    ],
)
def test_what_cannot_be_taken_is_one_line(place, capsys, text, told):
    (place / "bad.py").write_text(text)
    before = dict(METHODS)
    assert re.search(told, refusal("--list", "--plugins", "bad.py", capsys=capsys))
    assert before == METHODS
    assert not LOADED


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.py", "No such file"),
        ("no such", "is neither a file"),
        ("no_such_module", "there is no such module; of a file, say no_such_module.py"),
    ],
)
def test_names_of_nothing(place, capsys, name, told):
    assert told in refusal("--list", "--plugins", name, capsys=capsys)


def test_plugins_are_a_list_of_names(place):
    for wrong in ("leash.py", [3], [""], {"a": 1}):
        with pytest.raises(ClbenchError, match=r"plugins = .*: must be a list"):
            clbench.run({"plugins": wrong})


def test_two_plugins_want_one_name(leash, place, capsys):
    (place / "other.py").write_text(LEASH)
    told = refusal("--list", "--plugins", "leash.py", "other.py", capsys=capsys)
    assert "other.py: METHODS['leash']: the name is taken by leash.py" in told
    forget()
    (place / "sub").mkdir()
    (place / "sub/leash.py").write_text("METHODS = {}")
    with pytest.raises(ClbenchError, match=r"two plugins are called leash\.py"):
        load(["leash.py", "sub/leash.py"])


def test_a_changed_file_is_loaded_again_in_one_process(leash):
    load(["leash.py"])
    first = METHODS["leash"]
    load(["leash.py"])
    assert METHODS["leash"] is first
    leash.write_text(LEASH.replace("0.03", "0.5"))
    load(["leash.py"])
    assert METHODS["leash"]().pull == 0.5


def test_two_files_of_one_name_are_refused_in_one_list_alone(place):
    for folder in ("one", "two"):
        (place / folder).mkdir()
        (place / folder / "own.py").write_text(LEASH)
    files = ["one/own.py", "two/own.py"]
    with pytest.raises(ClbenchError, match=r"two are called own\.py, .*one.*two.*: rename one"):
        loading.union(files)
    assert loading.union(files[:1], files[1:]) == [str(Path.cwd() / files[1])]
    assert loading.union([files[0], files[0]]) == [str(Path.cwd() / files[0])]


def test_modules_and_packages(place, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    package = place / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text(LEASH)
    (package / "other.py").write_text("METHODS = {}")
    load(["own_package", "own_package.other"])
    assert METHODS["leash"].__module__ == "own_package"
    before = LOADED["own_package"].sha256
    (package / "other.py").write_text("METHODS = {} #")
    after = loading.digest_of("own_package")
    assert after[1] != before
    assert loading.digest_of("own_package.other") == after  # whichever of it is named
    made = parse(SUITE["base"] | {"methods": {"leash": {}}})
    assert made.plugins == ("own_package",)  # as it is used
    assert made.plugins_sha256 == {"own_package": before}
    for name in ("own_package", "own_package.other"):
        del sys.modules[name]


def test_entry_points(place, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    (place / "own_installed.py").write_text(LEASH + 'METHODS["lead"] = Leash\n')
    points = [
        EntryPoint("leash", "own_installed:Leash", "clbench.methods"),
        EntryPoint("sfa", "own_installed:Leash", "clbench.methods"),
        EntryPoint("gone", "own_missing:Leash", "clbench.methods"),
    ]
    monkeypatch.setattr(
        installed, "entry_points", lambda group: points if group == "clbench.methods" else []
    )
    installed.load_installed.cache_clear()
    try:
        assert main(["--list"]) == 0
        told = capsys.readouterr()
        assert "pulls back to the weights" in told.out
        assert [line.split(" is left out")[0] for line in told.err.splitlines()] == [
            "warning: sfa of clbench.methods",
            "warning: gone of clbench.methods",
        ]
        made = parse(SUITE["base"] | {"methods": {"leash": {}}})
        assert made.plugins == ()  # it is there whoever asks
        assert list(made.plugins_sha256) == ["own_installed"]
        load(["own_installed"])  # named as well
        assert METHODS["leash"] is METHODS["lead"]
        made = parse(SUITE["base"] | {"methods": {"lead": {}}})
        assert made.plugins == ("own_installed",)  # no entry point brings this row
        assert METHODS["sfa"].__name__ == "SFA"
    finally:
        sys.modules.pop("own_installed", None)
        forget()
        monkeypatch.undo()
        installed.load_installed.cache_clear()


SUITE = {
    "plugins": ["leash.py"],
    "base": {
        "stream": {"name": "split_digits"},
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "steps": 1,
        "optimizer": {"lr": 0.01},
    },
    "methods": {"mine": {"leash": {}}, "sfa": {"sfa": {}}},
}


def test_a_suite_loads_its_plugins_and_runs_keep_those_they_use(leash, place):
    from clbench.suite.suite import load as load_suite

    mine, sfa = load_suite(SUITE).runs
    assert mine.recipe.plugins == (str(leash),)
    assert sfa.recipe.plugins == ()
    forget()
    base = SUITE["base"] | {"plugins": ["leash.py"]}
    assert load_suite({"base": base, "methods": {"mine": {"leash": {}}}}).runs
    forget()
    with pytest.raises(ClbenchError, match="there is no method 'leash'"):
        expand(SUITE, "s")  # reading alone loads nothing
    words = train_words(place, str(leash))
    assert words[-2:] == ["--plugins", str(leash)]
    assert words[:-2] == train_words(place)


def test_a_changed_plugin_makes_its_runs_anew_and_no_others(leash, place, monkeypatch, capsys):
    fake_train(monkeypatch, place)
    script, words = place / "fake.py", []

    def train(folder, *plugins):
        words.append(plugins)
        return [sys.executable, str(script), str(folder)]

    monkeypatch.setattr(comparison, "train_words", train)
    comparison.compare(SUITE, place / "out")
    assert words == [(str(leash),), ()]
    comparison.compare(SUITE, place / "out")
    assert "2 finished before, 0 to do" in capsys.readouterr().out
    leash.write_text(LEASH + "# another\n")
    made = comparison.compare(SUITE, place / "out")
    told = capsys.readouterr().out
    assert "1 finished before, 1 to do" in told
    assert re.search(r"1 runs are not reused, as in .*the plugin leash\.py has changed", told)
    assert not any("plugins" in warning for s in made.sections for warning in s.warnings)


def test_tries_are_runs_with_the_plugin_and_settings_of_it(leash, place, monkeypatch, capsys):
    fake_train(monkeypatch, place)
    words = []

    def train(folder, *plugins):
        words.append(plugins)
        return [sys.executable, str(place / "fake.py"), str(folder)]

    monkeypatch.setattr(comparison, "train_words", train)
    tune = {"tries": 2, "tasks": 1, "methods": {"mine": {"methods.leash.pull": [0.1, 0.5]}}}
    suite = {**SUITE, "methods": {"mine": {"leash": {}}}, "tune": tune}
    comparison.compare(suite, place / "out")
    assert words == [(str(leash),)] * 3  # two tries and a run
    tries = [yaml.safe_load(p.read_text()) for p in place.glob("out/tries/*/config.yaml")]
    assert {one["methods"]["leash"]["pull"] for one in tries} == {0.1, 0.5}
    assert all(one["plugins"] == [str(leash)] for one in tries)
    told = json.loads((place / "out/tuning.json").read_text())["cells"][0]
    chosen = told["tries"][told["chosen"]]["settings"]["methods.leash.pull"]
    (run,) = place.glob("out/runs/*/config.yaml")
    assert yaml.safe_load(run.read_text())["methods"]["leash"]["pull"] == chosen
    capsys.readouterr()
    comparison.compare(suite, place / "out")
    assert words == [(str(leash),)] * 3
    told = suite | {"tune": tune | {"methods": {"mine": {"methods.leash.pul": [0.1]}}, "tries": 1}}
    with pytest.raises(ClbenchError, match=r"did you mean methods\.leash\.pull"):
        comparison.compare(told, place / "other")


def test_plugins_cost_recipes_without_them_nothing(recipe):
    made = parse(recipe)
    assert recipe_hash(made) == recipe_hash(made.model_copy(update={"plugins": ("a.py",)}))
    assert (plain(made)["plugins"], plain(made)["plugins_sha256"]) == ([], {})


DATA = """\
import numpy as np
from clbench.data.datasets import DataSet, Labelled

def stripes(root, download):
    images = np.zeros((40, 8, 8), np.uint8)
    images[20:, ::2] = 255
    labels = np.arange(40) // 20
    return DataSet("stripes", Labelled(images, labels), Labelled(images, labels), ("a", "b"))

DATASETS = {"stripes": stripes}
"""


def test_data_sets_of_ones_own(place, recipe, no_pictures, capsys):
    (place / "stripes.py").write_text(DATA)
    assert main(["data", "--plugins", "stripes.py"]) == 0
    assert "comes with a plugin" in capsys.readouterr().out
    assert main(["data", "stripes", "--plugins", "stripes.py"]) == 0
    assert "yes: 40 training and 40 test images, 2 classes" in capsys.readouterr().out
    sets = {"name": "transfer6", "datasets": ["stripes"], "independent": False}
    recipe["model"]["weights"] = "none"
    made = clbench.run(recipe | {"plugins": ["stripes.py"], "stream": sets}, place / "run")
    assert made.run.class_names == ["a", "b"]


METRIC = '''\
from clbench.metrics.base import TaskMetric

class Brier(TaskMetric):
    """The mean squared distance of the probabilities from the truth."""

    def __init__(self, tasks):
        super().__init__(tasks)
        self.add_sum("squares")

    def add(self, logits_BC, labels_B, task_B):
        wrong = logits_BC.softmax(1)
        wrong[range(len(wrong)), labels_B] -= 1
        self.squares.index_add_(0, task_B, wrong.square().sum(1).double())

    def compute(self):
        return self.squares / self.total

METRICS = {"brier": Brier}
'''


def test_a_plugin_is_used_where_a_row_of_it_is_named(place):
    (place / "size.py").write_text(METRIC.replace('"brier"', '"size"'))
    load(["size.py"])
    base = SUITE["base"] | {"images": {"size": 8}, "name": "size"}
    assert parse(base).plugins == ()
    assert len(parse(base | {"metrics": ["size"]}).plugins) == 1
    assert parse(base).plugins_sha256 == {}


def test_metrics_of_ones_own(place, recipe, no_pictures):
    (place / "brier.py").write_text(METRIC)
    recipe["stream"]["first_tasks"] = 1
    made = clbench.run(recipe | {"plugins": ["brier.py"], "metrics": ["brier"]}, place / "run")
    assert "brier" in json.dumps(made.summary())


def test_sweeps_know_what_a_method_of_ones_own_lets_vary(leash, own, place, capsys):
    text = LEASH.replace(
        "    def start",
        "    swept = {'pull': Swept(neutral=0.0, pure=(0.0,))}\n\n    def start",
    )
    leash.write_text(
        re.sub(r"    def after_step.*\n.*\n", "", text).replace(
            "METHODS =",
            "    def deploy(self, theta, context):\n"
            "        return {k: v * (1 - self.pull) for k, v in theta.items()}\n\n\n"
            "from clbench.methods.statements import Swept\nMETHODS =",
        )
    )
    leash.write_text("from clbench.methods.statements import Swept\n" + leash.read_text())
    clbench.run(own, place / "run")
    words = ["sweep", "run", "--pull", "0,0.5", "--plugins", "leash.py"]
    assert main(words) == 0
    assert (place / "run/sweep-pull.json").exists()
    assert main(["sweep", "--help", "--plugins", "leash.py"]) == 0
    assert "of leash" in capsys.readouterr().out
