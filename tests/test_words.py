"""The command line: words are taken as typed, and every mistake is one line."""

import errno
import io
import re
import sys
from pathlib import Path

import pytest

import clbench
from clbench.cli import cli
from clbench.cli.arguments import overrides, read_arguments
from clbench.cli.commands import COMMANDS
from clbench.cli.options import help_of
from clbench.cli.tables import TRAIN
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse

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
    assert read_arguments(["--output=~/run"]).get("output") == tmp_path / "run"
    assert read_arguments(["--output", "~"]).get("output") == tmp_path


@pytest.mark.parametrize("command", ["compare", "report", "soup", "sweep"])
def test_home_and_nothing_in_the_paths_of_commands(command, refused, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    more = ["--alpha", "1"] if command == "sweep" else []
    if command != "compare":
        assert str(tmp_path / "me" / "no") in refused(command, "~/no", *more)
    assert re.search("is empty|is no path", refused(command, "", *more))
    refused(command, "a\0b", *more)
    refused(command, "a\nb", *more)


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
        (["--optimizer.lr", "2", "--optimizer", "{lr: 1}"], "optimizer.lr is given twice"),
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
        (["-x"], "unexpected '-x': options start with --, see --help"),
        (["--output", "a", "b"], "see --help; --output takes one value"),
        (["--resume", "b"], "unexpected 'b': options start with --, see --help$"),
        (
            ["compare", "digits", "--jo", "1"],
            r"no option or field --jo \(did you mean --jobs\?\); see clbench compare --help",
        ),
        (["compare", "digits", "--slurm.gpu", "1"], r"did you mean --slurm.gpus\?"),
        (["compare", "digits", "--slurm.gpus=[1"], "^error: --slurm.gpus"),
        (["compare", "digits", "--dry-run=1"], "--dry_run takes no value"),
        (["compare", "digits", "more"], "unexpected 'more': .* see clbench compare --help"),
        (["compare", "digits", "--jobs", "1", "2"], "unexpected '2'.*--jobs takes one value"),
        (["compare", "--jobs", "1"], "clbench compare needs SUITE: a YAML file"),
        (["compare", "digits", "--jobs"], "--jobs needs a value"),
        (["compare", "digits", "--seed", "1"], "takes fields of recipes, and --seeds"),
        (["report", "-o", "a"], "unexpected '-o': options start with --"),
        (["report", "a", "--title", "x", "--title=y"], "--title is given twice"),
        (["reproduce", "sfa", "--resume"], "takes fields of recipes, and --seeds"),
        (["reproduce", "sfa", "--config", "a"], "takes fields of recipes, and --seeds"),
        (["reproduce", "sfa", "--seed", "1"], "takes fields of recipes, and --seeds"),
        (["reproduce", "--epochs", "1", "sfa"], "clbench reproduce needs PAPER"),
        (["reproduce", "sfa", "--seeds", "0", "x"], "--seeds = 'x' is no whole number"),
        (["reproduce", "sfa", "--dryrun"], r"--dryrun needs a value \(did you mean dry_run\?\)"),
        (["sweep", "x", "--by", "task"], "--by = 'task' is none of task_incremental, class_"),
        (["compare", "digits", "--output", "a", "--output", "b"], "--output is given twice"),
        (["compare", "digits", "--output="], "--output needs a value: it is empty"),
        (["compare", "digits", "--report", ""], "--report needs a value: it is empty"),
        (["compare", "digits", "--slurm", ""], "--slurm needs a value: it is empty"),
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


def test_every_option_is_in_the_help():
    for takes, _ in [(TRAIN, None), *COMMANDS.values()]:
        lines = help_of(takes).splitlines()
        told = {line.split()[0] for line in lines if line.startswith("  --")}
        assert {f"--{option.name}" for option in takes.options if option.about} <= told
        assert "--help" in told
        assert max(map(len, lines)) <= 100


def test_what_is_given_part_by_part_means_the_same_in_any_order():
    words = ["--methods.sfa", "null"], ["--methods", "{flow: {}}"]
    wanted = {"methods": {"sfa": None, "flow": {}}}
    assert given(*words[0], *words[1]) == given(*words[1], *words[0]) == wanted
    with pytest.raises(ClbenchError, match=r"methods.sfa is given twice"):
        given("--methods.sfa", "null", "--methods", "{sfa: {p: 1}}")
    with pytest.raises(ClbenchError, match=r"methods.sfa: .* was set to \{p: 1\} before"):
        given("--methods.sfa.p", "1", "--methods.sfa", "3")


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
