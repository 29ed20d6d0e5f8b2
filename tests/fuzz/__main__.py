"""Try mutations and count the faults: `python -m fuzz [KIND ...] [--count N] [--seed S]`."""

import argparse
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from fuzz.attempt import attempt
from fuzz.base import Base, prepare
from fuzz.judge import fault
from fuzz.kinds import KINDS


def run(words: tuple[str, ...]) -> int:
    """What a command line does; ``*suite FILE`` reads a suite and names its runs."""
    from clbench.cli import main

    if words[0] != "*suite":
        return main(list(words))
    from clbench import comparison, suite

    def plan(*_: object, **__: object) -> list[str]:
        return [planned.name for planned in suite.load(words[1]).runs]

    comparison.plan = plan  # its estimates take their time
    return main(["compare", words[1], "--dry_run"])


def try_one(kind: str, seed: int, number: int, base: Base, folder: Path) -> str | None:
    """Make a case in ``folder``, run it; why it is at fault, or None."""
    folder.mkdir(parents=True)
    make, _ = KINDS[kind]
    case = make(Random(f"{kind} {seed} {number}"), folder, base)
    (folder / "words.txt").write_text(shlex.join(case.words), encoding="utf-8", errors="replace")
    return fault(attempt(lambda: run(case.words), folder), case.refuse)


def main() -> int:
    """Count the faults; a folder of each is left to look at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--count", type=int, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--output", type=Path, help="folder; default: a temporary one")
    given = parser.parse_args()
    root = given.output or Path(tempfile.mkdtemp(prefix="fuzz-"))
    base = prepare(root / "base")
    faults = 0
    for kind in given.kinds or KINDS:
        began, found = time.monotonic(), Counter[str]()
        count = given.count or KINDS[kind][1]
        for number in range(count) if given.only is None else [given.only]:
            folder = root / f"{kind}-{number:04}"
            reason = try_one(kind, given.seed, number, base, folder)
            if reason is None:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            found[reason[:60]] += 1
            print(f"{folder}: {reason}", flush=True)
        faults += sum(found.values())
        seconds = time.monotonic() - began
        print(f"{kind}: {count} cases, {sum(found.values())} faults, {seconds:.0f} s", flush=True)
    print(f"{faults} faults; seed {given.seed}; folders in {root}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
