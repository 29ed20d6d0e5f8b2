"""What settings may hold: names, numbers and texts as they are written, in recipes and suites."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from clbench.cli.arguments import overrides, read_arguments
from clbench.errors import ClbenchError
from clbench.recipe.merging import merge, put_on
from clbench.recipe.recipe import parse
from clbench.suite.suite import load
from clbench.text.names import wrong_name

MODEL = {"backbone": "tiny_cnn", "weights": "none"}
FOLDER = {"name": "image_folder", "train": "a", "test": "b"}
BASE = {"stream": {"name": "split_digits"}, "model": MODEL, "epochs": 1}


def given(*words):
    return overrides(read_arguments(words))


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        ".x",
        "../../x",
        "a/b",
        "/",
        "a\\b",
        "a\nb",
        "a\0",
        "\u202ex",
        "a\ud800",
        "",
        " ",
        " a",
        "a.",
        "con",
        "NUL.txt",
        "x" * 201,
        "é" * 101,
    ],
)
def test_names_that_are_no_folder(name):
    with pytest.raises(ClbenchError, match="name") as caught:
        parse(BASE | {"name": name})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a b", "α=0.5", "नमस्ते", "名前", "می\u200cخواهم", "a..b", "x" * 200, "[1]"]
)
def test_names_in_any_script(name):
    assert wrong_name(name) == ""
    assert parse(BASE | {"name": name}).title == name


def test_a_run_is_found_again_by_any_name(tmp_path, monkeypatch):
    from clbench.runner import folder

    monkeypatch.chdir(tmp_path)
    for name in ("[1]", "a*", "?", "a b"):
        recipe = parse(BASE | {"name": name})
        with ExitStack() as held:
            own, _ = folder.take(recipe, None, False, held)
        assert own == Path("runs", name)
        with ExitStack() as held:
            assert folder.take(recipe, None, True, held) == (own, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": True}, "seed = True: should be an integer, not true or false"),
        ({"seed": "yes"}, "seed = 'yes': should be an integer"),
        ({"seed": "5"}, "seed = '5': should be an integer, not a text"),
        ({"seed": 1.5}, "seed = 1.5: should be a valid integer"),
        ({"seed": 10**400}, "seed = <a whole number of"),
        ({"optimizer": {"lr": True}}, "optimizer.lr = True: should be a number"),
        ({"optimizer": {"lr": "0.1"}}, "optimizer.lr = '0.1': should be a number, not a text"),
        ({"optimizer": {"lr": float("inf")}}, "optimizer.lr = inf: should be a finite number"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr = nan"),
        ({"optimizer": {"betas": [0.9, False]}}, "optimizer.betas"),
        ({"methods": {"sfa": {"p": True}}}, "methods.sfa.p = True: should be a number"),
        ({"methods": {"task_arithmetic": {"scale": float("inf")}}}, "scale = inf: .*finite"),
        ({"augment": {"flip": 1}}, "augment.flip = 1: should be true or false"),
        ({"augment": {"flip": "maybe"}}, "augment.flip = 'maybe': should be true or false"),
        ({"name": 2026}, "name = 2026: should be text, not a number: put it into quotes"),
        ({"model": MODEL | {"weights": False}}, "model.weights = False: should be text: put"),
        ({"data_dir": ""}, "data_dir = '': should be a path, which is empty"),
        ({"data_dir": 3}, "data_dir = 3: should be text"),
        ({"data_dir": "a\0b"}, "control characters"),
        ({"name": "\ud800"}, "no text in UTF-8"),
        ({"model": MODEL | {"options": {"a": [{"b": float("inf")}]}}}, "model.options: .*finite"),
        ({"per_task": {"a": 3}}, "per_task.* should be a mapping of keys to values"),
        ({"per_task": {1: {}}}, "per_task: key 1 is no text"),
        ({"per_task": {"a": {"methods": {}}}}, "per_task.a.methods is empty"),
        (
            {"methods": {"flow": {"temperature": "x"}}},
            "temperature = 'x': .* or should be 'median'",
        ),
        ({"lr": 1}, r"unknown key lr \(did you mean optimizer.lr\?\)"),
        ({"model": MODEL | {"lr": 1}}, r"unknown key model.lr \(did you mean model.probe.lr\?\)"),
        ({"momentum": 1}, r"\(did you mean optimizer.momentum\?\)"),
        ({"p": 1}, r"\(did you mean methods.sfa.p\?\)"),
        ({"backbone": "x"}, r"\(did you mean model.backbone\?\)"),
        ({"a\nb": 1}, "a\\nb"),
        (
            {"stream": FOLDER | {"leave_out": [1]}},
            "unknown key stream.leave_out: it is a field of split_",
        ),
        ({"methods": "{p}"}, r"methods = '\{p\}': must map names .* \{sfa: \{p: 0.98\}\}$"),
        ({"methods": {"{x}": {}}}, r"no method '\{x\}'"),
        ({"methods": {"sfa": {"p": "{x}"}}}, r"methods.sfa.p = '\{x\}'"),
        ({"methods": {"sfa": {"{p}": 1}}}, r"unknown key methods.sfa.\{p\}"),
        ({"stream": 3}, r"as in stream: \{name: split_digits\}$"),
        ({"trainer": {"{x}": 1}}, r"lightning.Trainer has no such argument"),
        ({"model": MODEL | {"options": dict.fromkeys(map(str, range(5000)), 1)}}, "5,000 keys"),
        ({"stream": FOLDER | {"train": {"a": 1}}}, "stream.train: should be a path, or .* a list"),
        ({"methods": {"head_refit": {"probe": {"lr": "x"}}}}, "methods.head_refit.probe.lr = 'x'"),
        (
            {"methods": {"head_refit": {"probe": {"y": 1}}}},
            "unknown key .*head_refit.probe.y",
        ),
        ({"methods": {"lora": {"targets": "x"}}}, "methods.lora.targets = 'x': should be a list"),
        ({"seed": 1e300}, "too large for a whole number"),
        ({"optimizer": {"betas": [0.9, 1]}}, r"optimizer.betas.1 = 1: should be less than 1"),
        ({"optimizer": {"nesterov": True, "momentum": 0}}, "optimizer: nesterov.*needs a momentum"),
        ([1], "a recipe must be a mapping"),
    ],
)
def test_values_are_what_they_look_like(changes, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        parse(BASE | changes if isinstance(changes, dict) else changes)
    assert len(str(caught.value)) < 400


def test_whole_numbers_and_switches_as_people_write_them():
    values = BASE | {"seed": 2.0, "optimizer": {"weight_decay": -0.0, "lr": 1}}
    recipe = parse(
        values | {"augment": {"flip": "yes"}, "stream": {"name": "split_digits", "download": "off"}}
    )
    assert (recipe.seed, recipe.optimizer.lr) == (2, 1.0)
    assert recipe.augment.flip
    assert not recipe.stream.download


def test_an_empty_mapping_of_methods_is_none():
    base = BASE | {"methods": {"sfa": {"p": 0.5}}, "trainer": {"devices": 1}}
    merged = merge(base, given("--methods", "{}"))
    assert merged["methods"] == {}
    assert list(parse(merged).methods) == []
    assert merge(base, {"trainer": {}})["trainer"] == {}
    assert merge(base, given("--methods.sfa", "null", "--methods.l2", "null"))["methods"] == {}
    with pytest.raises(ClbenchError, match="no method 'sfq'"):  # nothing is taken out by mistake
        parse(merge(base, given("--methods.sfq", "null")))
    assert merge(base, {"methods": {"sfa": {}}})["methods"] == {"sfa": {"p": 0.5}}


@pytest.mark.parametrize("more", [["--methods.l2", "{}"], ["--methods.l2.strength", "0.1"]])
def test_methods_are_cleared_before_others_are_given_in_any_order(more):
    base = BASE | {"methods": {"sfa": {"p": 0.5}, "l2": {"strength": 3}}}
    alone = {"methods": {"l2": {"strength": 0.1} if "0.1" in more else {}}}
    for words in (["--methods", "{}", *more], [*more, "--methods", "{}"]):
        merged = merge(base, given(*words))
        assert merged == BASE | alone
        assert type(merged["methods"]) is dict
        assert merge(BASE, given(*words)) == merged  # where there is nothing to clear
        assert put_on(base, given(*words)) == merged
    both = given("--trainer", "{}", "--trainer.devices", "2", "--methods.sfa", "null")
    assert merge(base | {"trainer": {"precision": 64}}, both) == BASE | {
        "methods": {"l2": {"strength": 3}},
        "trainer": {"devices": 2},
    }


def test_many_settings_of_tasks_are_read_in_time():
    changes = {f"t{n}": {"optimizer": {"lr": 0.1}} for n in range(300)}
    recipe = parse(BASE | {"per_task": changes})
    assert recipe.for_task("t7").optimizer.lr == 0.1
    assert recipe.for_task("t7").per_task == {}


SUITE = {"base": BASE, "methods": {"plain": {}, "sfa": {"sfa": {}}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": "x"}, "overrides must map methods to values, got 'x'"),
        ({"overrides": 3}, "overrides must map methods"),
        ({"overrides": {"sfa": 3}}, "overrides.sfa must be values of a recipe"),
        ({"seeds": "12"}, "seeds must be a list"),
        ({"seeds": {"a": 1}}, "seeds must be a list"),
        ({"seeds": [True]}, "seed = True"),
        ({"seeds": list(range(9999))}, "makes 19,998 runs"),
        ({"base": 3}, "base must be a config's name or its values"),
        ({"base": None}, "base must be a config's name"),
        ({"name": "../x"}, "name = '../x': is to be the name of one folder"),
        ({"name": 3}, "name = 3: should be a text"),
        ({"streams": "split_digits"}, "streams must be a list"),
        ({"methods": {"a": {"config": ""}}}, "the name of a config is empty"),
        ({"methods": {1: {}}}, "methods: key 1 is no text"),
        ({"tune": {"tries": True, "space": {"seed": [1]}}}, "tune.tries = True"),
        ({"tune": {"tries": 1, "space": {"seed": []}}}, "tune.space"),
        ({"tune": 3}, "tune"),
    ],
)
def test_suites_that_are_refused(changes, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        load(SUITE | changes)
    assert "\n" not in str(caught.value)


def test_suites_with_merge_keys_and_long_names(tmp_path):
    text = yaml.safe_dump({"base": BASE})
    text += "methods:\n  one: &one {sfa: {p: 0.5}}\n  two: {<<: *one, l2: {}}\n"
    text += f"  {'x' * 300}: {{l1: {{}}}}\n  a/b: {{ewc: {{}}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    runs = load(tmp_path / "s.yaml").runs
    assert list(runs[1].recipe.methods) == ["sfa", "l2"]
    assert all(len(os.fsencode(run.name)) < 200 for run in runs)
    assert all("/" not in run.recipe.title for run in runs)
