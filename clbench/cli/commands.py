"""What all commands but ``clbench train`` do with their words."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from clbench.cli.arguments import overrides
from clbench.cli.boards import make_board
from clbench.cli.imports import imports
from clbench.cli.options import Command, Given, Option, help_of, plugins_among, read_words
from clbench.cli.push import push
from clbench.cli.shared_tables import BOARD, PACK, PUSH, VERIFY
from clbench.cli.submissions import pack_runs, verify_files
from clbench.cli.tables import (
    COMPARE,
    DATA,
    EMBED,
    LIST,
    NEW,
    REFUSED,
    REPORT,
    REPRODUCE,
    SCORE,
    SOUP,
    SWEEP,
)
from clbench.errors import ClbenchError
from clbench.explain import nearest
from clbench.text.numbers import counted

#: Lines on folders that cannot be read; the report has all of them.
SHOWN = 20


def command(words: Sequence[str]) -> int:
    """Run one of :data:`COMMANDS`; returns the exit code: 1 if a run of a suite failed.

    Raises:
        ClbenchError: for a mistake the user can mend.
    """
    takes, act = COMMANDS[words[0]]
    if takes is SWEEP:
        takes = _with_parameters(words[1:])
    given = read_words(takes, words[1:])
    if given.get("help"):
        print(help_of(takes))
        return 0
    return act(given)


def _compare(given: Given, skips: bool = False) -> int:
    command = REPRODUCE if skips else COMPARE
    if {option.name for option in REFUSED} & given.values.keys() or "seed" in given.fields:
        raise ClbenchError(
            f"clbench {command.name} takes fields of recipes, and --seeds; {command.see}"
        )
    from clbench.launch.choose import check_launcher
    from clbench.plugins.recipes import admitted
    from clbench.recipe.known import classes
    from clbench.suite.suite import load

    known = classes().recipe.model_fields
    if strange := [name for name in given.fields if name.split(".")[0] not in known]:
        options = [f"--{option.name}" for option in command.options if option.about]
        near = nearest(f"--{strange[0]}", options)
        raise ClbenchError(f"there is no option or field --{strange[0]}{near}; {command.see}")

    launcher, jobs, wanted = given.get("launcher", "local"), given.get("jobs"), _slurm(given)
    check_launcher(launcher, jobs, wanted)  # before the imports that take seconds
    skips = skips or given.get("skip_missing", False)
    plugins = given.get("plugins", [])
    admitted({}, plugins)
    with imports():
        suite = load(given.get("suite"), overrides(given), given.get("seeds"), plugins)
        from clbench.suite import comparison, forecast
    folder = comparison.folder_of(suite, given.get("output"))
    dry = given.get("dry_run", False)
    asks = skips and not given.get("yes") and sys.stdin.isatty()
    for line in forecast.plan(suite, folder, skips) if dry or asks else ():
        print(line, flush=True)
    if dry or (asks and input("Run? [y/N] ").strip().lower() not in ("y", "yes")):
        return 0
    # Runs are processes of their own: a command that is told to end takes those here along.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        output, report = given.get("output"), given.get("report")
        made = comparison.compare(suite, output, jobs, report, launcher, wanted, skips)
    except KeyboardInterrupt:
        print("Stopped. Finished tasks are kept; the same command goes on.", flush=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    for name, reason in made.skipped.items():
        print(f"{name}: skipped: {reason}", flush=True)
    for name, reason in made.failures.items():
        print(f"failed: {name}: {reason}", flush=True)
    return 1 if made.failures else 0


def _interrupt(number: int, _: object) -> NoReturn:
    raise KeyboardInterrupt(number)  # Ctrl-C says none


def _slurm(given: Given) -> dict[str, Any]:
    """What was said about the cluster: the file, and the words on top."""
    from clbench.text.textfile import read_file
    from clbench.text.yamltext import read_text

    values: dict[str, Any] = {}
    path = given.get("slurm")
    if path is not None:
        if not path.exists():
            raise ClbenchError(f"--slurm: there is no file {path}")
        values = read_text(read_file(path), str(path)) or {}
        if not isinstance(values, dict):
            raise ClbenchError(f"{path} must be a mapping of keys to values")
    words = {name.partition("slurm.")[2]: value for name, value in given.values.items()}
    return values | {name: value for name, value in words.items() if name}


def _report(given: Given) -> int:
    from clbench.record.baselines import PLAIN
    from clbench.report.compare import compare

    comparison = compare(given.get("runs"), reference=given.get("reference", PLAIN))
    from clbench.report.build import build  # draws: matplotlib takes half a second

    output = given.get("output", Path("report"))
    page = build(comparison, output, given.get("title", "clbench report"))
    for line in comparison.problems[:SHOWN]:
        print(f"warning: {line}", file=sys.stderr)
    if len(comparison.problems) > SHOWN:
        more = len(comparison.problems) - SHOWN
        print(f"warning: {more} more folders; the report names them", file=sys.stderr)
    warnings = len(comparison.warnings) + sum(len(s.warnings) for s in comparison.sections)
    told = f"{counted(len(comparison.runs), 'run')}, {counted(warnings, 'warning')}"
    print(f"{told}. Report: {page}", flush=True)
    return 0


def _data(given: Given) -> int:
    from clbench.cli.data import tell
    from clbench.plugins.recipes import admitted

    admitted({}, given.get("plugins", []))
    return tell(
        given.get("names", []), given.get("data_dir", Path("data")), "fetch" in given.values
    )


def _embed(given: Given) -> int:
    from clbench.cli.embed import embed

    model, pretrained = given.get("model", "ViT-B-16"), given.get("pretrained")
    output, data = given.get("output", Path("texts.npz")), given.get("data_dir", Path("data"))
    print(
        embed(given.get("classes"), model, pretrained, given.get("templates", []), output, data),
        flush=True,
    )
    return 0


def _list(given: Given) -> int:
    from clbench.cli.listing import all_names, verified
    from clbench.methods import METHODS
    from clbench.plugins.recipes import admitted

    admitted({}, given.get("plugins", []))
    if given.get("verified"):
        verified(list(METHODS))
    else:
        print(all_names())
    return 0


def _new(given: Given) -> int:
    from clbench.cli.new import write_method

    what, *names = given.get("what")
    if what != "method" or len(names) != 1:
        raise ClbenchError(f"clbench new takes `method NAME`; {NEW.see}")
    made = write_method(names[0], given.get("output", Path()))
    print(f"Written: {' and '.join(map(str, made))}; python -m pytest {made[1]} checks it.")
    return 0


def _reproduce(given: Given) -> int:
    """A paper is a suite of its name."""
    return _compare(given, skips=True)


def _score(given: Given) -> int:
    from clbench.cli.score import score

    asked = (given.get(name) for name in ("images", "baseline", "reference"))
    found = score(given.get("matrix"), *asked)
    print(found.as_json() if "json" in given.values else found.as_table())
    return 0


def _with_parameters(words: Sequence[str]) -> Command:
    """What a sweep takes, with what methods, those of plugins too, let vary."""
    from clbench.plugins.recipes import admitted
    from clbench.recipe.known import classes, said
    from clbench.sweep.values import parameters

    admitted({}, plugins_among(words))
    rows, known = [], classes().methods
    for name, methods in said("swept", parameters).items():
        about = dict.fromkeys(known[one].model_fields[name].description for one in methods)
        told = f"of {' or '.join(methods)}: {'; '.join(filter(None, about))}"
        rows.append(Option(name, told, "VALUES"))
    return replace(SWEEP, options=(*rows, *SWEEP.options))


def _sweep(given: Given) -> int:
    from clbench.recipe.known import said
    from clbench.sweep.finished import finished_record
    from clbench.sweep.values import parameters, read_values

    run, known = given.get("run"), said("swept", parameters)
    swept = [name for name in known if name in given.values]
    if "methods" in given.values:
        return _lay(given, swept)
    if len(swept) != 1:
        every = ", ".join(f"--{name}" for name in known)
        got = " and ".join(f"--{name}" for name in swept) or "none"
        raise ClbenchError(f"clbench sweep needs one of {every}, got {got}; {SWEEP.see}")
    parameter = swept[0]
    values = read_values(given.get(parameter))
    finished_record(run)  # or it is refused, before the imports that take seconds
    with imports():
        from clbench.sweep.sweeping import sweep
        from clbench.sweep.view import show, write_figure

    made = sweep(run, parameter, values, given.get("by", "task_incremental"), given.get("anchor"))
    write_figure(made, run)
    show(made, run)
    return 0


def _soup(given: Given) -> int:
    from clbench.plugins.recipes import admitted
    from clbench.sweep.finished import finished_record

    admitted({}, given.get("plugins", []))
    runs = given.get("runs")
    for run in runs:
        finished_record(run)
    with imports():
        from clbench.sweep.soup import show, soup

    show(soup(runs, "greedy" in given.values, given.get("by", "task_incremental")), runs[0])
    return 0


def _lay(given: Given, swept: Sequence[str]) -> int:
    """Lay the rows of a suite on a finished run."""
    from clbench.suite.posthoc import rows_to_lay
    from clbench.sweep.finished import finished_record

    if other := [*swept, *(name for name in ("anchor", "by") if name in given.values)]:
        raise ClbenchError(f"--methods has settings of its own: leave --{other[0]} out")
    rows = rows_to_lay(given.get("methods"), given.get("plugins", []))
    finished_record(given.get("run"))
    with imports():
        from clbench.sweep.posthoc import lay
        from clbench.sweep.rows import show

    record, made, failed = lay(given.get("run"), rows, lambda line: print(line, flush=True))
    show(record, made, failed)
    return 1 if failed else 0


#: By name: what a command takes, and what it does.
COMMANDS: Mapping[str, tuple[Command, Callable[[Given], int]]] = {
    "board": (BOARD, make_board),
    "compare": (COMPARE, _compare),
    "data": (DATA, _data),
    "embed": (EMBED, _embed),
    "list": (LIST, _list),
    "new": (NEW, _new),
    "pack": (PACK, pack_runs),
    "push": (PUSH, push),
    "report": (REPORT, _report),
    "reproduce": (REPRODUCE, _reproduce),
    "score": (SCORE, _score),
    "soup": (SOUP, _soup),
    "sweep": (SWEEP, _sweep),
    "verify": (VERIFY, verify_files),
}
