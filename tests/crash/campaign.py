"""A run is cut off at many points, goes on by the same command, and is compared with a whole one.

``python -m crash.campaign`` in ``tests/`` does it at every point and counts what was lost.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from crash.forks import Ended, Forks
from crash.outcome import differences, outcome
from helpers import RECIPE

RECIPES = {
    "sfa": RECIPE | {"images": {"size": 16}, "methods": {"sfa": {"p": 0.5}}, "eval_every": 3},
    "replay": RECIPE
    | {"methods": {"replay": {"fraction": 0.25}}, "eval_every": 2, "checkpoints": "all"},
    "none": RECIPE | {"methods": {"sfa": {"p": 0.5}}, "eval_every": 2, "checkpoints": "none"},
}


@dataclass
class Campaign:
    """A recipe's whole run, and what came of those that were cut off.

    Args:
        forks: to run in.
        values: of the recipe.
        place: an empty folder for all of it.
    """

    forks: Forks
    values: dict
    place: Path
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = self.place / "recipe.yaml"
        self.config.write_text(yaml.safe_dump({"data_dir": str(self.place / "data")} | self.values))
        if self.values["model"]["weights"] == "pretrain":
            self._whole("first")  # fills the cache
        self.points = self._whole("whole")
        self.whole = outcome(self.place / "whole")

    def words(self, folder: Path) -> list[str]:
        return ["--config", str(self.config), "--output", str(folder)]

    def kill(self, numbers: Iterable[int], again: int | None = None) -> list[str]:
        """Kill before each of these points, resume; returns what was lost or different.

        Args:
            numbers: of points.
            again: the point before which the resumed run is killed once more.
        """
        found = []
        for number in numbers:
            folder = self.place / "cut"
            ended = self.forks.run(self.words(folder), folder, kill=number)
            assert ended.code in (-9, 0), ended.output
            if again is not None:
                self.forks.run([*self.words(folder), "--resume"], folder, kill=again)
            point = self.points[number] if number < len(self.points) else "the end"
            found += self._goes_on(folder, f"{number} ({point})")
        return found

    def fill(self, rooms: Iterable[int]) -> list[str]:
        """The same for runs whose folder has room for so many bytes, and later for all."""
        found = []
        for room in rooms:
            folder = self.place / "full"
            ended = self.forks.run(self.words(folder), folder, room=room)
            if not is_refused(ended):
                found.append(f"{room} bytes: exit {ended.code}: {ended.output[-2000:]}")
            found += self._goes_on(folder, f"{room} bytes")
        return found

    def _goes_on(self, folder: Path, what: str) -> list[str]:
        ended = self.forks.run([*self.words(folder), "--resume"], folder)
        told = [f"exit {ended.code}: {ended.output[-2000:]}"] if ended.code else []
        told += [] if ended.code else differences(folder, self.whole)
        shutil.rmtree(folder, ignore_errors=True)
        if told:
            print(f"{what}: {'; '.join(told)}", flush=True)
        return [f"{what}: {'; '.join(told)}"] if told else []

    def _whole(self, name: str) -> list[str]:
        ended = self.forks.run(self.words(self.place / name), self.place / name)
        assert ended.code == 0, ended.output
        assert not ended.past, f"not watched: {ended.past}"
        assert ended.points is not None
        return ended.points


def is_refused(ended: Ended) -> bool:
    """Whether a run had room, or ended in one line that says what is full, with exit code 2."""
    errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    one = len(errors) == 1 and "make room" in errors[0] and "Traceback" not in ended.output
    return ended.code == 0 or (ended.code == 2 and one)


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=["sfa", "replay"], help=", ".join(RECIPES))
    parser.add_argument("--every", type=int, default=1, help="every how many points")
    parser.add_argument("--board", type=int, default=1, help="the same, of TensorBoard's")
    parser.add_argument("--again", type=int, help="kill the resumed run before this point, too")
    given = parser.parse_args()
    with Forks() as forks:
        for name in given.recipes:
            memory = (
                "/dev/shm" if os.path.isdir("/dev/shm") else None
            )  # syncing costs nothing there
            with tempfile.TemporaryDirectory(dir=memory) as place:
                made = Campaign(forks, RECIPES[name], Path(place))
                chosen = [
                    number
                    for number, point in enumerate(made.points)
                    if number % (given.board if "tfevents" in point else given.every) == 0
                ]
                failures = made.kill(chosen, given.again)
            lost = sum(": lost" in line or ": exit" in line for line in failures)
            told = f"{len(chosen)} of {len(made.points)} points, {lost} lost"
            print(f"{name}: {told}, {len(failures) - lost} different", flush=True)


if __name__ == "__main__":
    main()
