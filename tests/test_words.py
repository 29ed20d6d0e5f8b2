"""The command line: words are taken as typed, and every mistake is one line."""

import ast
import errno
import io
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

import clbench
from clbench import cli
from clbench.arguments import overrides, read_arguments
from clbench.errors import ClbenchError
from clbench.names import wrong_name
from clbench.recipe import merge, parse

MODEL = {"backbone": "tiny_cnn", "weights": "none"}
FOLDER = {"name": "image_folder", "train": "a", "test": "b"}
BASE = {"stream": {"name": "split_digits"}, "model": MODEL, "epochs": 1}


def given(*words):
    return overrides(read_arguments(words))


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """Run the command line in an empty folder: exit code, output, and the error's lines."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = cli.main(list(words))
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


@pytest.fixture
def refused(call):
    def run(*words):
        code, _, lines = call(*words)
        assert code == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert lines[0].isprintable()
        assert len(lines[0]) < 2100
        return lines[0]

    return run


WORDS = [
    "pics #2",
    "# x",
    "@a",
    "*a",
    "&a",
    "!a",
    "%a",
    "`a",
    "|",
    ">",
    "[a",
    "[a]",
    "{a: 1}",
    "a: b",
]
WORDS += [
    "- x",
    "'a",
    '"',
    "null",
    "~ x",
    "yes",
    "true",
    "12",
    "1e3",
    "012",
    ".inf",
    "a\tb",
    "नमस्ते",
    "?",
]


@pytest.mark.parametrize("word", WORDS)
def test_texts_and_paths_are_taken_as_typed(word):
    for key in (
        "name",
        "data_dir",
        "stream.train",
        "model.weights",
        "retention.data",
        "optimizer.name",
    ):
        tree = given(f"--{key}", word)
        for part in key.split("."):
            tree = tree[part]
        assert tree == word
        assert given(f"--{key}={word}") == given(f"--{key}", word)
    recipe = parse(BASE | {"stream": FOLDER | given("--stream.train", word)["stream"]})
    assert recipe.stream.train == Path(word)


def test_lists_and_nulls_of_texts():
    assert given("--stream.train", "a", "[b", "c: d")["stream"] == {"train": ["a", "[b", "c: d"]}
    assert given("--stream.datasets", "cifar10")["stream"] == {"datasets": ["cifar10"]}
    assert given("--stream.datasets", "[cifar10, mnist]")["stream"]["datasets"] == [
        "cifar10",
        "mnist",
    ]
    assert given("--methods.lora.targets", "*.qkv")["methods"]["lora"] == {"targets": ["*.qkv"]}
    assert given("--methods.lora.targets", "[ab]*")["methods"]["lora"] == {"targets": ["[ab]*"]}
    assert given("--name", "") == given("--name=") == {"name": None}
    for words in (["--data_dir", ""], ["--model.weights="], ["--stream.train", ""]):
        with pytest.raises(ClbenchError, match="needs a value: it is empty"):
            given(*words)
    with pytest.raises(ClbenchError, match=r"unexpected 'b': .*--name takes one value"):
        given("--name", "a", "b")


def test_other_fields_are_yaml():
    words = [
        "--seed",
        "3",
        "--optimizer.lr",
        "1e-3",
        "--methods",
        "{sfa: {p: 0.5}}",
        "--steps",
        "null",
    ]
    words += ["--stream.classes", "[[1], [2]]", "--trainer.precision", "bf16-mixed"]
    assert given(*words) == {
        "seed": 3,
        "optimizer": {"lr": 1e-3},
        "methods": {"sfa": {"p": 0.5}},
        "steps": None,
        "stream": {"classes": [[1], [2]]},
        "trainer": {"precision": "bf16-mixed"},
    }
    assert given("--per-task.my-task.batch-size", "3") == {
        "per_task": {"my-task": {"batch_size": 3}}
    }
    assert given("--methods.flow.temperature", ".inf")["methods"]["flow"]["temperature"] == float(
        "inf"
    )


def test_home_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = BASE | {
        "data_dir": "~/data",
        "stream": FOLDER | {"train": ["~/a", "b"], "test": ["~", "~/c"]},
        "model": MODEL | {"weights": "~/w.pth"},
        "retention": {"data": "~/imagenet"},
    }
    recipe = parse(values)
    assert recipe.data_dir == tmp_path / "data"
    assert recipe.stream.train == [tmp_path / "a", Path("b")]
    assert recipe.stream.test == [tmp_path, tmp_path / "c"]
    assert recipe.model.weights == f"{tmp_path}/w.pth"
    assert recipe.retention.data == f"{tmp_path}/imagenet"
    assert read_arguments(["--output=~/run"]).output == tmp_path / "run"
    assert read_arguments(["--output", "~"]).output == tmp_path


@pytest.mark.parametrize("command", ["compare", "report", "sweep"])
def test_home_and_nothing_in_the_paths_of_commands(command, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    more = ["--alpha", "1"] if command == "sweep" else []
    if command != "compare":
        assert str(tmp_path / "me" / "no") in refused(command, "~/no", *more)
    assert re.search("is empty|is no path", refused(command, "", *more))
    refused(command, "a\0b", *more)
    refused(command, "a\nb", *more)


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
    from clbench import folder

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(folder.VARIABLE, raising=False)
    for name in ("[1]", "a*", "?", "a b"):
        recipe = parse(BASE | {"name": name})
        own = folder.choose(recipe, None, resume=False)
        assert own == Path("runs", name)
        own.mkdir(parents=True)
        (own / "config.yaml").touch()
        assert folder.choose(recipe, None, resume=True) == own


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
            "unknown key stream.leave_out: stream.name decides",
        ),
        ({"methods": "{p}"}, r"methods = '\{p\}': must map names .* \{sfa: \{p: 0.98\}\}$"),
        ({"methods": {"{x}": {}}}, r"no method '\{x\}'"),
        ({"methods": {"sfa": {"p": "{x}"}}}, r"methods.sfa.p = '\{x\}'"),
        ({"methods": {"sfa": {"{p}": 1}}}, r"unknown key methods.sfa.\{p\}"),
        ({"stream": 3}, r"as in stream: \{name: split_digits\}$"),
        ({"trainer": {"{x}": 1}}, r"no argument '\{x\}'"),
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


def test_many_settings_of_tasks_are_read_in_time():
    changes = {f"t{n}": {"optimizer": {"lr": 0.1}} for n in range(300)}
    recipe = parse(BASE | {"per_task": changes})
    assert recipe.for_task("t7").optimizer.lr == 0.1
    assert recipe.for_task("t7").per_task == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1", "--seed", "2"], "--seed is given twice"),
        (["--output", "a", "--output=b"], "--output is given twice"),
        (["--output", ""], "--output needs a value: it is empty"),
        (["--output="], "--output needs a value: it is empty"),
        (["--output", "a", "b"], "unexpected 'b'"),
        (["--output", "a\0b"], "NUL"),
        (["--resume=1"], "--resume takes no value, got '1'"),
        (["--print-config="], "--print_config takes no value"),
        (["--dryrun"], r"--dryrun needs a value \(did you mean dry_run\?\)"),
        (["--.seed", "1"], "names no field"),
        (["--a..b", "1"], "names no field"),
        (["--=1"], "names no field"),
        (["--optimizer", "{lr: 1}", "--optimizer.lr", "2"], "optimizer.lr: .* was set to 1 before"),
        (["--optimizer.lr", "2", "--optimizer", "{lr: 1}"], "optimizer: .* was set to .* before"),
        (["--a\nb", "1"], r"unknown key a\\nb"),
        (["--name", "a\nb"], r"name = 'a\\nb'"),
        (["--seed", "[1"], "^error: --seed: "),
        (["--seed", "9" * 5000], "--seed: '9999.* is too large"),
        (["--model.options", "[" * 5000], "nest"),
        (["--config", ""], "the name of a config is empty"),
        (["--config", "/"], "/ is a folder"),
        (["--config", "."], ". is a folder"),
        (["--config="], "is empty"),
        (["comapre"], r"unexpected 'comapre' \(did you mean compare\?\)"),
        (["compare", "digits", "--jo", "1"], "unrecognized arguments: --jo"),
        (["compare", "digits", "--output", "a", "--output", "b"], "--output is given twice"),
        (["compare", "digits", "--output="], "'' is no path"),
        (["compare", "digits", "--report", ""], "'' is no path"),
        (["compare", "digits", "--slurm", ""], "--slurm needs a file"),
        (["compare", "digits", "--slurm", "."], ". is a folder"),
        (["compare", "digits", "--jobs", "9" * 5000], "is no whole number"),
        (["compare", "digits", "--slurm.partition", "#a: ["], "slurm.partition needs --launcher"),
        (["sweep", "x", "--alpha", "0:1:1e-9"], "too many values"),
        (["sweep", "x", "--alpha", "1e999999:2e999999:1"], "are no values"),
        (["sweep", "x", "--alpha", "9" * 5000], "are no values"),
    ],
)
def test_mistakes_on_the_command_line(refused, words, message):
    assert re.search(message, refused(*words))


def test_help_and_version_whatever_else_is_there(call):
    code, out, lines = call("--sead", "1", "foo", "-h")
    assert (code, lines) == (0, [])
    assert "A text or a path is taken as typed" in out
    for command in cli.COMMANDS:
        assert call(command, "-h")[0] == call(command, "--help")[0] == 0
    assert call("--version") == (0, f"clbench {clbench.__version__}\n", [])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a\nb"),
            r"runs/a\\nb: No space left",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("odd"), "odd"),
        (MemoryError(), "out of memory"),
        (RecursionError(), "nested too deep"),
        (BrokenPipeError(), "nobody reads the output any more"),
    ],
)
def test_what_the_machine_refuses_is_one_line(refused, monkeypatch, error, message):
    monkeypatch.setattr(cli, "_main", lambda _: (_ for _ in ()).throw(error))
    assert re.search(message, refused("--seed", "1"))


def test_a_reader_that_goes_away_is_no_mistake_of_help(call, monkeypatch):
    monkeypatch.setattr(cli, "_main", lambda _: (_ for _ in ()).throw(BrokenPipeError()))
    assert call("--help") == (0, "", [])


def test_a_fault_of_clbench_keeps_its_traceback(call, monkeypatch):
    monkeypatch.setattr(cli, "_main", lambda _: (_ for _ in ()).throw(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        call("--seed", "1")


def test_names_on_a_terminal_that_cannot_print_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), "ascii", "strict"))
    assert cli.main(["--config", "α"]) == 2
    sys.stderr.flush()
    assert rb"there is no config '\u03b1'" in sys.stderr.buffer.getvalue()
    assert cli.main(["--help"]) == 0  # has λ in it


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
    from clbench.suite import load

    with pytest.raises(ClbenchError, match=message) as caught:
        load(SUITE | changes)
    assert "\n" not in str(caught.value)


def test_suites_with_merge_keys_and_long_names(tmp_path):
    from clbench.suite import load

    text = yaml.safe_dump({"base": BASE})
    text += "methods:\n  one: &one {sfa: {p: 0.5}}\n  two: {<<: *one, l2: {}}\n"
    text += f"  {'x' * 300}: {{l1: {{}}}}\n  a/b: {{ewc: {{}}}}\n"
    (tmp_path / "s.yaml").write_text(text)
    runs = load(tmp_path / "s.yaml").runs
    assert list(runs[1].recipe.methods) == ["sfa", "l2"]
    assert all(len(os.fsencode(run.name)) < 200 for run in runs)
    assert all("/" not in run.recipe.title for run in runs)


def test_text_files_are_opened_as_utf_8():
    """Every read and write of text names its encoding, or it would be the machine's."""
    wrong = []
    for path in Path(clbench.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        if not re.search(r"open\(|_text\(|text=|newlines=", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and _leaves_the_encoding_open(node):
                wrong.append(f"{path.name}:{node.lineno}")
    assert wrong == []


def _leaves_the_encoding_open(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    named = {word.arg: word.value for word in call.keywords}
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if "encoding" in named:
        return False
    if name == "read_text" and isinstance(call.func, ast.Attribute):
        return "utf-8" not in texts
    if name == "write_text":
        return texts[1:] != ["utf-8"] and "utf-8" not in texts
    if name in ("open", "fdopen") and (texts or isinstance(call.func, ast.Name)):
        return not any("b" in text for text in texts if len(text) < 4)
    return any(key in named for key in ("text", "universal_newlines"))
