"""Try mutations and count the faults: `make fuzz`, or `python -m fuzz [KIND ...] [--count N]`."""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from random import Random

from fuzz.attempt import attempt
from fuzz.base import Base, prepare
from fuzz.judge import fault
from fuzz.kinds import KINDS
from fuzz.sane import unsound


@dataclass
class Tally:
    """What came of the cases of a kind."""

    kind: str
    cases: int
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)


def run(words: tuple[str, ...]) -> int:
    """What a command line does; ``*suite FILE`` reads a suite and names its runs."""
    from clbench.cli.cli import main

    if words[0:1] != ("*suite",):
        # Processes that a run starts for itself are this program again, by its words.
        here = sys.modules["__main__"]
        here.__spec__ = find_spec("clbench.__main__")
        sys.argv = ["clbench", *words]
        return main(list(words))
    from clbench.suite import forecast, suite

    def plan(*_: object, **__: object) -> list[str]:
        return [planned.name for planned in suite.load(words[1]).runs]

    forecast.plan = plan  # its estimates take their time
    return main(["compare", words[1], "--dry_run"])


def try_one(kind: str, seed: int, number: int, base: Base, folder: Path) -> tuple[int, str | None]:
    """Make a case in ``folder``, run it; its exit code, and why it is at fault, or None."""
    folder.mkdir(parents=True)
    make, _ = KINDS[kind]
    case = make(Random(f"{kind} {seed} {number}"), folder, base)
    text = f"{shlex.join(case.words)}\n{case.must}\n"
    (folder / "words.txt").write_text(text, encoding="utf-8", errors="replace")
    before = {path.name for path in folder.iterdir()}
    began = time.time()
    outcome = attempt(lambda: run(case.words), folder)
    reason = fault(outcome, case) or unsound(folder, before, outcome.code, began)
    return outcome.code, reason


def try_kind(kind: str, seed: int, numbers: range, base: Base, root: Path) -> Tally:
    """Try cases of a kind; the folders of those at fault are left to look at."""
    tally, began = Tally(kind, len(numbers)), time.monotonic()
    for number in numbers:
        folder = root / f"{kind}-{seed}-{number:04}"
        shutil.rmtree(folder, ignore_errors=True)
        code, reason = try_one(kind, seed, number, base, folder)
        tally.codes[code] += 1
        if reason is None:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        tally.faults.append(reason)
        print(f"{folder}: {reason}", flush=True)
    tally.seconds = time.monotonic() - began
    return tally


def table(tallies: list[Tally], seed: int) -> str:
    """The counts for people: exit code 0 is what was taken, 2 what was refused."""
    lines = [f"{'kind':<10}{'cases':>7}{'taken':>7}{'refused':>9}{'faults':>8}{'seconds':>9}"]
    for t in [*tallies, _sum(tallies)] if len(tallies) > 1 else tallies:
        lines.append(
            f"{t.kind:<10}{t.cases:>7}{t.codes[0]:>7}{t.codes[2]:>9}{len(t.faults):>8}"
            f"{t.seconds:>9.0f}"
        )
    return "\n".join([*lines, f"seed {seed}"])


def _sum(tallies: list[Tally], kind: str = "all") -> Tally:
    return Tally(
        kind,
        sum(t.cases for t in tallies),
        sum(t.seconds for t in tallies),
        [reason for t in tallies for reason in t.faults],
        sum((t.codes for t in tallies), Counter()),
    )


def split(kind: str, seed: int, count: int, base: Base, root: Path, jobs: int) -> Tally:
    """Try cases in several processes, each of which takes every so-many-th one."""
    import pickle

    if jobs == 1:
        return try_kind(kind, seed, range(count), base, root)
    began, ends = time.monotonic(), []
    for job in range(jobs):
        end, other = os.pipe()
        if not os.fork():
            made = try_kind(kind, seed, range(job, count, jobs), base, root)
            with open(other, "wb") as pipe:
                pickle.dump(made, pipe)
            os._exit(0)
        os.close(other)
        ends.append(end)
    parts = []
    for end in ends:
        with open(end, "rb") as pipe:
            parts.append(pickle.load(pipe))
    for _ in ends:
        os.wait()
    whole = _sum(parts, kind)
    whole.seconds = time.monotonic() - began
    return whole


def main() -> int:
    """Count the faults; 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--count", type=int, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--output", type=Path, help="folder; default: a temporary one")
    given = parser.parse_args()
    if wrong := [kind for kind in given.kinds if kind not in KINDS]:
        parser.error(f"there is no kind {wrong[0]}: of {', '.join(KINDS)}")
    root = (given.output or Path(tempfile.mkdtemp(prefix="fuzz-"))).absolute()
    shutil.rmtree(root / "base", ignore_errors=True)
    with redirect_stdout(StringIO()):
        base = prepare(root / "base")
    tallies = []
    for kind in given.kinds or KINDS:
        count = given.count or KINDS[kind][1]
        if given.only is None:
            tallies.append(split(kind, given.seed, count, base, root, given.jobs))
        else:
            one = range(given.only, given.only + 1)
            tallies.append(try_kind(kind, given.seed, one, base, root))
    print(table(tallies, given.seed))
    if any(t.faults for t in tallies):
        print(f"folders of the faults are in {root}")
        return 1
    if given.output is None:
        shutil.rmtree(root, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
