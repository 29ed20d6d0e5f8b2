"""``clbench compare`` and ``clbench report``: their words."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from clbench.errors import ClbenchError

COMMANDS = ("compare", "report")


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are the project's one line."""

    def error(self, message: str) -> NoReturn:
        raise ClbenchError(f"{message}; see {self.prog} --help")


def command(words: Sequence[str]) -> int:
    """Run ``compare`` or ``report``; returns the exit code: 1 if a run of a suite failed.

    Raises:
        ClbenchError: for a mistake the user can mend.
    """
    name, *rest = words
    return _compare(rest) if name == "compare" else _report(rest)


def _compare(words: Sequence[str]) -> int:
    from clbench.slurm import Settings

    parser = _Parser(
        prog="clbench compare",
        description="Run a suite (finished runs are reused, interrupted ones go on) and report.",
    )
    parser.add_argument("suite", help="a YAML file, or its name in suites/")
    parser.add_argument(
        "--jobs", type=int, help="runs side by side (default: 1, on SLURM all that it has room for)"
    )
    parser.add_argument("--output", type=Path, help="folder (default: runs/<suite>)")
    parser.add_argument("--report", type=Path, help="folder of the report (default: in output)")
    parser.add_argument(
        "--dry_run", "--dry-run", action="store_true", help="show the grid and stop"
    )
    parser.add_argument("--launcher", default="local", help="local (the default) or slurm")
    cluster = parser.add_argument_group("what to ask of SLURM for each run (values are YAML)")
    cluster.add_argument("--slurm", metavar="FILE", help="a YAML file of these, without slurm.")
    for name, info in Settings.model_fields.items():
        default = info.get_default(call_default_factory=True)
        shown = f"{info.description}{f' [{default}]' if default else ''}"
        cluster.add_argument(f"--slurm.{name}", metavar="VALUE", help=shown)
    given = parser.parse_args(list(words))
    from clbench import comparison
    from clbench.suite import load

    if given.dry_run:
        suite = load(given.suite)
        print(comparison.plan(suite, comparison.folder_of(suite, given.output)))
        return 0
    try:
        made = comparison.compare(
            given.suite, given.output, given.jobs, given.report, given.launcher, _slurm(given)
        )
    except KeyboardInterrupt:
        print("Stopped. Finished tasks are kept; the same command goes on.", flush=True)
        raise
    for name, reason in made.failures.items():
        print(f"failed: {name}: {reason}", flush=True)
    return 1 if made.failures else 0


def _slurm(given: argparse.Namespace) -> dict[str, Any]:
    """What was said about the cluster: the file, and the words on top."""
    from clbench.slurm import Settings
    from clbench.yamlfile import read_text

    values: dict[str, Any] = {}
    if given.slurm is not None:
        if not Path(given.slurm).is_file():
            raise ClbenchError(f"--slurm: there is no file {given.slurm}")
        values = read_text(Path(given.slurm).read_text(), given.slurm) or {}
        if not isinstance(values, dict):
            raise ClbenchError(f"{given.slurm} must be a mapping of keys to values")
    for name in Settings.model_fields:
        text = getattr(given, f"slurm.{name}")
        if text is not None:
            values[name] = read_text(text, f"--slurm.{name}")
    return values


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
