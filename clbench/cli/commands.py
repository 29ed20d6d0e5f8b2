"""``clbench compare``, ``report``, ``reproduce``, ``score`` and ``sweep``: their words."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from clbench.cli.arguments import overrides, read_arguments
from clbench.errors import ClbenchError, shown
from clbench.text.textfile import home

#: Lines on folders that cannot be read; the report has all of them.
SHOWN = 20
COMMANDS = ("compare", "report", "reproduce", "score", "sweep")


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are the project's one line, and whose options are whole."""

    def __init__(self, **about: Any) -> None:
        super().__init__(allow_abbrev=False, **about)
        self.register("action", None, _Once)

    def error(self, message: str) -> NoReturn:
        raise ClbenchError(f"{message}; see {self.prog} --help")


def command(words: Sequence[str]) -> int:
    """Run one of :data:`COMMANDS`; returns the exit code: 1 if a run of a suite failed.

    Raises:
        ClbenchError: for a mistake the user can mend.
    """
    name, *rest = words
    of = {
        "compare": _compare,
        "report": _report,
        "reproduce": _reproduce,
        "score": _score,
        "sweep": _sweep,
    }
    return of[name](rest)


class _Once(argparse.Action):
    """Stores an option's value, and refuses a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        given = vars(namespace).setdefault("_given", set())
        if option and self.dest in given:
            parser.error(f"{option} is given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def _folder(word: str) -> Path:
    """A path of the command line; ``~`` is the user's home."""
    if not word.strip() or "\0" in word:
        raise argparse.ArgumentTypeError(f"{shown(word)} is no path")
    return Path(home(word))


def _number(word: str) -> int:
    if not word.isascii() or not word.removeprefix("-").isdigit() or len(word) > 18:
        raise argparse.ArgumentTypeError(f"{shown(word)} is no whole number")
    return int(word)


def _compare(words: Sequence[str]) -> int:
    from clbench.launch.slurm import Settings

    parser = _Parser(
        prog="clbench compare",
        description="Run a suite (finished runs are reused, interrupted ones go on) and report.",
    )
    parser.add_argument("suite", help="a YAML file, or its name in suites/")
    parser.add_argument(
        "--jobs",
        type=_number,
        help="runs side by side (default: 1, on SLURM all that it has room for)",
    )
    parser.add_argument("--output", type=_folder, help="folder (default: runs/<suite>)")
    parser.add_argument("--report", type=_folder, help="folder of the report (default: in output)")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="show the grid and stop"
    )
    parser.add_argument("--launcher", default="local", help="local (the default) or slurm")
    cluster = parser.add_argument_group(
        "what to ask of SLURM for each run (texts as typed, other values as YAML)"
    )
    cluster.add_argument("--slurm", metavar="FILE", help="a YAML file of these, without slurm.")
    for name, info in Settings.model_fields.items():
        default = info.get_default(call_default_factory=True)
        about = f"{info.description}{f' [{default}]' if default else ''}".replace("%", "%%")
        cluster.add_argument(f"--slurm.{name}", metavar="VALUE", help=about)
    given = parser.parse_args(list(words))
    from clbench.suite import comparison
    from clbench.suite.suite import load

    if given.dry_run:
        suite = load(given.suite)
        for line in comparison.plan(suite, comparison.folder_of(suite, given.output)):
            print(line, flush=True)
        return 0
    # Runs are processes of their own: a command that is told to end takes them along.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        made = comparison.compare(
            given.suite, given.output, given.jobs, given.report, given.launcher, _slurm(given)
        )
    except KeyboardInterrupt:
        print("Stopped. Finished tasks are kept; the same command goes on.", flush=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    for name, reason in made.failures.items():
        print(f"failed: {name}: {reason}", flush=True)
    return 1 if made.failures else 0


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _slurm(given: argparse.Namespace) -> dict[str, Any]:
    """What was said about the cluster: the file, and the words on top."""
    from clbench.cli.words import value_of
    from clbench.launch.slurm import Settings
    from clbench.text.textfile import read_file
    from clbench.text.yamltext import read_text

    values: dict[str, Any] = {}
    if given.slurm is not None:
        path = Path(home(given.slurm))
        if not given.slurm:
            raise ClbenchError("--slurm needs a file: it is empty")
        if not path.exists():
            raise ClbenchError(f"--slurm: there is no file {path}")
        values = read_text(read_file(path), str(path)) or {}
        if not isinstance(values, dict):
            raise ClbenchError(f"{path} must be a mapping of keys to values")
    for name, info in Settings.model_fields.items():
        word = getattr(given, f"slurm.{name}")
        if word is not None:
            values[name] = value_of(f"--slurm.{name}", [word], [info.annotation])
    return values


def _report(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench report",
        description="Compare runs by their records alone: a page, tables and figures.",
    )
    parser.add_argument("runs", nargs="+", type=_folder, help="run folders, or folders of them")
    parser.add_argument("--output", type=_folder, default=Path("report"), help="default: report")
    parser.add_argument("--title", default="clbench report", help="heading of the page")
    given = parser.parse_args(list(words))
    from clbench.report.build import build
    from clbench.report.compare import compare

    comparison = compare(given.runs)
    page = build(comparison, given.output, given.title)
    for line in comparison.problems[:SHOWN]:
        print(f"warning: {line}", file=sys.stderr)
    if len(comparison.problems) > SHOWN:
        more = len(comparison.problems) - SHOWN
        print(f"warning: {more} more folders; the report names them", file=sys.stderr)
    warnings = len(comparison.warnings) + sum(len(s.warnings) for s in comparison.sections)
    print(f"{len(comparison.runs)} runs, {warnings} warnings. Report: {page}", flush=True)
    return 0


def _reproduce(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench reproduce",
        description="Run the configs of a paper that can run on this machine, and report.",
        epilog="Other options override fields of every recipe, as in --epochs 1 "
        "--stream.datasets '[cifar10]'; see clbench --help.",
    )
    parser.add_argument("paper", help="flow, mofo or sfa")
    parser.add_argument("--jobs", type=_number, default=1, help="runs side by side (default: 1)")
    parser.add_argument("--output", type=_folder, help="folder (default: runs/reproduce-<paper>)")
    parser.add_argument("--seeds", type=_number, nargs="+", default=[0], help="default: 0")
    parser.add_argument("--yes", action="store_true", help="do not ask before long runs")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="say what is needed, and stop"
    )
    given, others = parser.parse_known_args(list(words))
    more = read_arguments(others)
    if more.configs or more.flags or "seed" in more.given:
        raise ClbenchError("clbench reproduce takes fields of recipes, and --seeds; see --help")
    from clbench.suite.reproduce import reproduce

    def ask(question: str) -> bool:
        if given.yes or not sys.stdin.isatty():
            return True
        return input(question).strip().lower() in ("y", "yes")

    made = reproduce(
        given.paper, overrides(more), given.seeds, given.jobs, given.output, given.dry_run, ask
    )
    failed = [r for r in made.failures.values() if not r.startswith("skipped: ")] if made else []
    return 1 if failed else 0


def _score(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench score",
        description="Compute every score that follows from an accuracy matrix: a row for the time "
        "after each task, a column for each task, cells empty where nothing was measured. "
        "docs/scores.md says what each is.",
    )
    parser.add_argument("matrix", type=_folder, help="a CSV file, or a run folder")
    parser.add_argument(
        "--images", type=float, nargs="+", help="test images of each task, for scores over images"
    )
    parser.add_argument(
        "--baseline",
        type=float,
        nargs="+",
        help="accuracy on each task, or one for all, to measure forward transfer from",
    )
    parser.add_argument(
        "--reference",
        type=float,
        nargs="+",
        help="accuracy on each task of networks that had nothing to keep, for intransigence",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object, in fractions")
    given = parser.parse_args(list(words))
    from clbench.cli.score import score

    found = score(given.matrix, given.images, given.baseline, given.reference)
    print(found.as_json() if given.json else found.as_table())
    return 0


def _sweep(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench sweep",
        description="Evaluate a finished run with other settings of methods that only change "
        "weights after training. VALUES: start:stop:step, or a list with commas.",
    )
    parser.add_argument("run", type=_folder, help="the run folder, with its checkpoints")
    swept = parser.add_mutually_exclusive_group(required=True)
    swept.add_argument("--alpha", metavar="VALUES", help="share of the tuned weights in wise_ft")
    swept.add_argument("--scale", metavar="VALUES", help="λ of task_arithmetic or ties")
    swept.add_argument("--density", metavar="VALUES", help="of ties")
    parser.add_argument("--anchor", choices=("pretrained", "previous"), help="of wise_ft")
    parser.add_argument(
        "--by",
        choices=("task_incremental", "class_incremental"),
        default="task_incremental",
        help="whose validation accuracy picks (default: task_incremental)",
    )
    given = parser.parse_args(list(words))
    from clbench.sweep.sweeping import PARAMETERS, read_values, sweep
    from clbench.sweep.view import show, write_figure

    parameter = next(name for name in PARAMETERS if getattr(given, name) is not None)
    if given.anchor and parameter != "alpha":
        raise ClbenchError(f"--anchor is wise_ft's: it goes with --alpha, not --{parameter}")
    values = read_values(getattr(given, parameter))
    made = sweep(given.run, parameter, values, given.by, given.anchor)
    write_figure(made, given.run)
    show(made, given.run)
    return 0
