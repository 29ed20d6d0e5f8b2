"""``clbench compare``, ``clbench report`` and ``clbench sweep``: their words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from clbench.errors import ClbenchError

COMMANDS = ("compare", "report", "sweep")


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are the project's one line."""

    def error(self, message: str) -> NoReturn:
        raise ClbenchError(f"{message}; see {self.prog} --help")


def command(words: Sequence[str]) -> int:
    """Run one of :data:`COMMANDS`; returns the exit code: 1 if a run of a suite failed.

    Raises:
        ClbenchError: for a mistake the user can mend.
    """
    name, *rest = words
    return {"compare": _compare, "report": _report, "sweep": _sweep}[name](rest)


def _compare(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench compare",
        description="Run a suite (finished runs are reused, interrupted ones go on) and report.",
    )
    parser.add_argument("suite", help="a YAML file, or its name in suites/")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default: 1)")
    parser.add_argument("--output", type=Path, help="folder (default: runs/<suite>)")
    parser.add_argument("--report", type=Path, help="folder of the report (default: in output)")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="show the grid and stop"
    )
    given = parser.parse_args(list(words))
    from clbench import comparison
    from clbench.suite import load

    if given.dry_run:
        suite = load(given.suite)
        print(comparison.plan(suite, comparison.folder_of(suite, given.output)))
        return 0
    try:
        made = comparison.compare(given.suite, given.output, given.jobs, given.report)
    except KeyboardInterrupt:
        print("Stopped. Finished tasks are kept; the same command goes on.", flush=True)
        raise
    for name, reason in made.failures.items():
        print(f"failed: {name}: {reason}", flush=True)
    return 1 if made.failures else 0


def _report(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench report",
        description="Compare runs by their records alone: a page, tables and figures.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders of them")
    parser.add_argument("--output", type=Path, default=Path("report"), help="default: report")
    parser.add_argument("--title", default="clbench report", help="heading of the page")
    given = parser.parse_args(list(words))
    from clbench.report.build import build
    from clbench.report.compare import compare

    comparison = compare(given.runs)
    page = build(comparison, given.output, given.title)
    warnings = len(comparison.warnings) + sum(len(s.warnings) for s in comparison.sections)
    print(f"{len(comparison.runs)} runs, {warnings} warnings. Report: {page}", flush=True)
    return 0


def _sweep(words: Sequence[str]) -> int:
    parser = _Parser(
        prog="clbench sweep",
        description="Evaluate a finished run with other settings of methods that only change "
        "weights after training. VALUES: start:stop:step, or a list with commas.",
    )
    parser.add_argument("run", type=Path, help="the run folder, with its checkpoints")
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
    from clbench.sweep import PARAMETERS, read_values, sweep
    from clbench.sweepview import show, write_figure

    parameter = next(name for name in PARAMETERS if getattr(given, name) is not None)
    if given.anchor and parameter != "alpha":
        raise ClbenchError(f"--anchor is wise_ft's: it goes with --alpha, not --{parameter}")
    values = read_values(getattr(given, parameter))
    made = sweep(given.run, parameter, values, given.by, given.anchor)
    write_figure(made, given.run)
    show(made, given.run)
    return 0
