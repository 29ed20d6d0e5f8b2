"""``clbench pack`` and ``clbench verify``: what they print."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from itertools import groupby
from typing import TYPE_CHECKING

from clbench import __version__
from clbench.cli.imports import imports
from clbench.cli.options import Given
from clbench.cli.shared_tables import PACK, VERIFY
from clbench.errors import ClbenchError
from clbench.text.numbers import counted
from clbench.text.texts import cut, writable

if TYPE_CHECKING:
    from rich.console import Console

    from clbench.submission.submission import Submission
    from clbench.submission.verdicts import Judgement, RowVerdict

#: Packages whose versions decide numbers.
PACKAGES = ("torch", "torchvision", "lightning", "timm", "numpy", "scikit-learn")
#: Characters of a row's label.
WIDTH = 40
STYLES: dict[Judgement, str] = {
    "verified": "bold green",
    "self-reported": "",
    "disputed": "bold red",
}


def pack_runs(given: Given) -> int:
    """Pack runs, and say what is in the file and what was taken out of it.

    Raises:
        ClbenchError: as :func:`~clbench.submission.packing.pack`, or for an option that is lacking.
    """
    asked = ("output", "title", "authors")
    if lacking := [f"--{name}" for name in asked if name not in given.values]:
        raise ClbenchError(f"clbench pack needs {' and '.join(lacking)}; {PACK.see}")
    with imports():
        from clbench.submission.packing import pack
    optional = ("contact", "license", "link", "with_plugins", "skip_unfinished")
    made = pack(
        given.get("runs"),
        given.get("output"),
        given.get("title"),
        given.get("authors"),
        **{name: given.get(name) for name in optional if name in given.values},
    )
    for line in made.about.taken_out:
        print(f"Taken out: {line}.")
    hashes = {name for run in made.runs for name in run.recipe.get("plugins_sha256") or ()}
    if hashes and not made.plugins:
        print(f"The code of {', '.join(sorted(hashes))} is not in it: --with_plugins puts it in.")
    size = made.path.stat().st_size
    runs = counted(len(made.runs), "run")
    print(f"{runs}, {size / 1e3:,.0f} kB, SHA-256 {made.sha256}: {made.path}")
    return 0


def verify_files(given: Given) -> int:
    """Check submissions; returns 1 if a row is disputed.

    Raises:
        ClbenchError: if one is no submission.
    """
    reruns = given.get("rerun", False)
    for name in ("rows", "output", "plugins"):
        if name in given.values and not reruns:
            raise ClbenchError(f"--{name} is about what is run again: add --rerun; {VERIFY.see}")
    from clbench.submission.submission import opened

    found = [opened(path) for path in given.get("files")]
    with imports():
        from clbench.submission.verdicts import (
            RERUN,
            refuse_loss,
            run_again,
            verdict_path,
            write_verdicts,
        )
        from clbench.submission.verifying import Rerun, refuse_taken, verify
    rows, output = given.get("rows"), given.get("output")
    rows = None if rows is None else tuple(rows)
    places = [output / one.stem if output and len(found) > 1 else output for one in found]
    if output and len(set(places)) < len(places):
        raise ClbenchError("--output: two of the files have one name: verify them apart")
    for one, place in zip(found, places, strict=True):  # all, before the first takes hours
        if reruns or given.get("write"):
            refuse_loss(one, rows if reruns else ())
        if place:
            refuse_taken(place)
    disputed = False
    for one, place in zip(found, places, strict=True):
        how = Rerun(place, tuple(given.get("plugins", ())), rows)
        verdicts = verify(one, given.get("data_dir", "data"), found, how if reruns else None)
        show(one, verdicts)
        disputed = disputed or any(row.verdict == "disputed" for row in verdicts)
        if not reruns and not given.get("write"):
            continue
        failed = [row.method for row in verdicts if RERUN in row.not_made]
        if lost := [label for label in run_again(one) if label in failed]:
            print(
                f"Not written: {verdict_path(one.path)} has a rerun of {cut(lost[0], 100)}, which "
                "could not be made now"
            )
            continue
        today = datetime.now(timezone.utc).date().isoformat()
        print(f"Written: {write_verdicts(one, verdicts, __version__, today, machine())}")
    return 1 if disputed else 0


def machine() -> dict[str, str]:
    """Versions and hardware; nothing that names a host or a person."""
    import torch

    found = {"python": platform.python_version(), "platform": platform.platform()}
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def show(one: Submission, verdicts: Sequence[RowVerdict], console: Console | None = None) -> None:
    """Print the verdicts on a submission."""
    from rich.console import Console

    console = console or Console(soft_wrap=True, highlight=False)

    def line(text: str, style: str = "") -> None:
        console.print(writable(text), style=style or None, markup=False)

    counts = Counter(row.verdict for row in verdicts)
    line(f"{one.path.name}: {one.title}, by {', '.join(one.authors)}", "bold")
    line(
        f"{counted(len(one.runs), 'run')} in {counted(len(verdicts), 'row')}, SHA-256 {one.sha256}"
    )
    for section, rows in groupby(verdicts, key=lambda row: row.section):
        line(f"\n{section}")
        for row in rows:
            seeds = f"{len(row.seeds)} seed{'s' * (len(row.seeds) != 1)}"
            many = f"{len(row.made)} of {len(row.made) + len(row.not_made)} checks"
            line(
                f"  {cut(row.method, WIDTH):<{WIDTH}} {seeds:>9}  {row.verdict:<13}  {many}",
                STYLES[row.verdict],
            )
            for reason in row.reasons:
                line(f"      {reason}")
    lacking = Counter((name, why) for row in verdicts for name, why in row.not_made.items())
    if lacking:
        line("\nNot checked:")
    for (name, why), count in lacking.items():
        line(f"  {name} ({count} row{'s' * (count > 1)}): {why}")
    told = ", ".join(f"{counts[name]} {name}" for name in STYLES if counts[name])
    line(f"\n{told}. What no check can find: docs/submissions.md")
