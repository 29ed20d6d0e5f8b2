"""What a large study takes: the tables of docs/scale.md.

    python tools/scale.py                       # writes the tables of the page anew
    python tools/scale.py --rate 2e14 --gpus 8  # prints them for other assumptions, writes nothing

Images and FLOPs are counted by clbench; how much more than plain fine-tuning methods compute, and
which need no training of their own, is that of the 72 rows of docs/results/every_method.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import yaml

from clbench.data.datasets.sizes import SIZES
from clbench.methods import METHODS
from clbench.methods.posthoc import needs_training
from clbench.runner.flops import Flops
from clbench.runner.parts import Passes

ROOT = Path(__file__).parents[1]
PAGE, BASE = ROOT / "docs" / "scale.md", ROOT / "configs" / "field" / "base.yaml"
RECORDS = ROOT / "docs" / "results" / "every_method" / "records"
BEGIN, END = "<!-- tables: python tools/scale.py -->", "<!-- end of tables -->"
STREAMS = (
    *("cifar100", "food101", "tiny_imagenet", "imagenet_r", "imagenet_a", "cub200_pilot"),
    *("objectnet", "omnibenchmark", "vtab", "core50"),
)
METHOD_COUNT, SEEDS, TASKS = 100, 5, 10
BACKBONE, SIZE, CLASSES = "vit_base_patch16_224", 224, 100
TOOK = "GPU hours"
#: Share of the training images that is held out for validation, and tested as the test images are.
HELD_OUT = 0.1
#: docs/speed.md: a training step of the network on an H100 in bf16, of so many images, in seconds.
H100_STEP, H100_BATCH = 0.05305, 128
#: What a finished run leaves, in multiples of its weights, by the recipe's `checkpoints`.
KEPT = {"none": 1.0, "last": 2.0, "all": 1.0 + TASKS}


@dataclass(frozen=True)
class Assumed:
    """What nobody has measured here; final. Each is an option of the command."""

    rate: float = 0.0  # FLOP/s of ViT-B/16 on one GPU; 0: as measured on an H100
    gpus: int = 8  # that run side by side
    retained: int = 5000  # images of retention, looked at before the first task and after each
    task: float = 5.0  # seconds of a task beside its training and tests
    start: float = 60.0  # seconds of a run before its first task and after its last
    failures: float = 0.02  # share of the runs that somebody has to look at
    look: float = 0.25  # hours of such a look
    prepare: float = 40.0  # hours for data, suites and a pilot
    daily: float = 0.5  # hours of each day that it runs
    read: float = 40.0  # hours for the report


MEANS = {
    "rate": "FLOP/s of a training step on one GPU; 0: as `benchmarks/gpu.py steps --networks vit` "
    "measured it on an H100 in bf16",
    "gpus": "GPUs side by side",
    "retained": "images of retention, before the first task and after each",
    "task": "seconds of a task beside training and tests (docs/speed.md: 0.05 for 11 M weights on "
    "a CPU; ViT-B has 86 M). `seconds_by_part` of a first run tells",
    "start": "seconds of a run before its first task and after its last; 7 are imports",
    "failures": "share of the runs that somebody looks at",
    "look": "hours for each",
    "prepare": "hours for data, suites and a pilot",
    "daily": "hours a day while it runs",
    "read": "hours for the report",
}


class Cost(NamedTuple):
    """FLOPs of an image that is trained on, and of one that passes; numbers of the weights."""

    trained: float
    passed: float
    parameters: int


def counted(backbone: str) -> Cost:
    """What an image takes, as a run counts it; nothing is computed."""
    with torch.device("meta"):
        model = timm.create_model(backbone, num_classes=CLASSES)
    flops = Flops(Passes(model), SIZE)
    flops.look(model)

    def of(**images: int) -> float:
        found = flops.spent({"fit": {"trained": 0, "passed": 0} | images}, torch.device("cpu"))
        assert found is not None
        return found

    return Cost(of(trained=1), of(passed=1), sum(p.numel() for p in model.parameters()))


class Rows(NamedTuple):
    """The rows of a study."""

    count: int
    trainings: int  # that differ: rows that need none of their own are laid on another's run
    whole: float  # FLOPs of training of a row, on average, over those of plain fine-tuning
    shared: float  # where rows are laid on others' runs


def rows(folders: Sequence[Path], plain: str) -> Rows:
    """What a study's rows computed, and which of them needed a training of their own.

    Args:
        folders: of the runs of one seed.
        plain: how the name of plain fine-tuning's begins.
    """
    flops: dict[str, float] = {}
    groups: dict[str, list[tuple[str, bool, int]]] = {}  # by what is trained
    for folder in folders:
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        lines = (folder / "record.jsonl").read_text("utf-8").splitlines()
        tasks = [event for event in map(json.loads, lines) if event["event"] == "task"]
        methods = config.pop("methods")
        own = {n: s for n, s in methods.items() if needs_training(n, METHODS[n](**(s or {})))}
        flops[folder.name] = sum(event["flops"] for event in tasks)
        member = folder.name, own == methods, sum(event["steps"] for event in tasks)
        groups.setdefault(json.dumps([own, config | {"name": None}]), []).append(member)
    once = 0.0
    for members in groups.values():
        base = [flops[name] for name, alone, _ in members if alone]
        least = min(base or [flops[name] for name, _, _ in members])
        once += least
        for name, alone, steps in members:  # what is laid on the run computes only the rest
            once += 0 if alone else max(0.0, flops[name] - least * (steps > 0))
    one = next(found for name, found in flops.items() if name.startswith(plain))
    total = len(flops) * one
    return Rows(len(flops), len(groups), sum(flops.values()) / total, once / total)


class Stream(NamedTuple):
    """Images of a run of plain fine-tuning on a stream; final."""

    trained: int
    tested: int


def stream(name: str, epochs: int, given: Assumed) -> Stream:
    """What a run trains on, and what it looks at: all seen after each task, and retention."""
    size = SIZES[name]
    held = round(size.train * HELD_OUT)
    tested = (size.test + held) * (TASKS + 1) // 2  # all tasks alike
    return Stream((size.train - held) * epochs, tested + given.retained * (TASKS + 1))


def hours(found: Stream, cost: Cost, factor: float, rate: float, given: Assumed) -> float:
    """GPU hours of a run whose training computes so many times that of plain fine-tuning."""
    flops = found.trained * cost.trained * factor + found.tested * cost.passed
    return (flops / rate + TASKS * given.task + given.start) / 3600


def table(head: str, lines: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column is text, the others are numbers."""
    names = head.split(" | ")
    rule = " | ".join(["---", *["--:"] * (len(names) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, [rule], *lines))


class Study:
    """What is counted of the study under some assumptions, and its tables; final."""

    def __init__(self, given: Assumed) -> None:
        self.given, self.base = given, yaml.safe_load(BASE.read_text("utf-8"))
        self.cost = counted(BACKBONE)
        self.measured = H100_BATCH * self.cost.trained / H100_STEP
        self.rate = given.rate or self.measured
        self.rows = rows(sorted(RECORDS.glob("*-seed0-*")), "sequential-seed0-")
        self.streams = {name: stream(name, self.base["epochs"], given) for name in STREAMS}
        self.weights = 4e-9 * self.cost.parameters  # GB
        self.runs = METHOD_COUNT * SEEDS * len(STREAMS)
        self.trained = round(self.runs * self.rows.trainings / self.rows.count)

    def hours(self, factor: float) -> float:
        """GPU hours of all rows."""
        found = self.streams.values()
        of_all = sum(hours(one, self.cost, factor, self.rate, self.given) for one in found)
        return METHOD_COUNT * SEEDS * of_all

    def figures(self) -> str:
        """What the others are made of."""
        cost, found, base = self.cost, self.rows, self.base
        lines = [
            ["FLOPs of an image, trained on", f"{cost.trained / 1e9:.1f} · 10⁹", "counted"],
            ["FLOPs of an image, passing", f"{cost.passed / 1e9:.1f} · 10⁹", "counted"],
            ["weights of the network", f"{self.weights:.3f} GB", "counted"],
            ["FLOP/s of a step on an H100", f"{self.measured / 1e12:.0f} · 10¹²", "measured"],
            ["training of a row / of plain fine-tuning", f"{found.whole:.2f}", "measured"],
            ["the same, post-hoc rows laid on others", f"{found.shared:.2f}", "measured"],
            ["trainings that differ", f"{found.trainings} of {found.count} rows", "counted"],
            ["epochs; batch size", f"{base['epochs']}; {base['batch_size']}", "`field/base.yaml`"],
        ]
        for name, value in vars(self.given).items():
            if name != "rate" or value:
                lines.append([MEANS[name], f"{value:,g}", f"**assumed**, `--{name}`"])
        return table("what | figure | from", lines)

    def by_stream(self) -> str:
        """A run of plain fine-tuning on each stream."""
        lines = []
        for name, images in self.streams.items():
            pflop = images.trained * self.cost.trained + images.tested * self.cost.passed
            took = hours(images, self.cost, 1, self.rate, self.given)
            counts = (SIZES[name].train, *images, round(pflop / 1e15))
            lines.append([name, *(f"{x:,}" for x in counts), f"{took:.2f}"])
        head = "a run of plain fine-tuning | images | trained on | looked at | PFLOP"
        return table(f"{head} | {TOOK}", lines)

    def in_all(self) -> str:
        """GPU hours."""
        both = {"each row trained": self.rows.whole, "post-hoc rows laid on": self.rows.shared}
        lines = [[what, f"{self.hours(by):,.0f}"] for what, by in both.items()]
        return table(f"{self.runs:,} rows | {TOOK}", lines)

    def disk(self) -> str:
        """Terabytes."""
        own = [n for n in STREAMS if not SIZES[n].shape]
        caches = 3e-9 * SIZE**2 * sum(SIZES[n].train + SIZES[n].test for n in own)
        kept = {f"each trained, `checkpoints: {n}`": self.runs * x for n, x in KEPT.items()}
        kept[f"{self.trained:,} trained, `last`; the others laid on"] = self.trained * KEPT["last"]
        lines = [[what, f"{count * self.weights / 1000:.1f}"] for what, count in kept.items()]
        return table("disk | TB", [*lines, ["image caches, written once", f"{caches / 1000:.2f}"]])

    def people(self) -> str:
        """Hours of work."""
        given, days = self.given, self.hours(self.rows.shared) / self.given.gpus / 24
        failed = self.trained * given.failures
        work = {
            "data, suites, a pilot": given.prepare,
            f"looks on {days:.1f} days of {given.gpus} GPUs": days * given.daily,
            f"{failed:.0f} runs that fail": failed * given.look,
            "reading the report": given.read,
        }
        work["together"] = sum(work.values())
        return table("people | hours", [[what, f"{took:.0f}"] for what, took in work.items()])

    def tables(self) -> str:
        """All of them, as Markdown."""
        parts = (self.figures, self.by_stream, self.in_all, self.disk, self.people)
        return "\n\n".join(part() for part in parts)


def main() -> None:
    """Write the page's tables anew, or print others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, value in vars(Assumed()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=MEANS[name])
    given = Assumed(**vars(parser.parse_args()))
    made = Study(given).tables()
    print(made)
    if given == Assumed():
        head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        PAGE.write_text(f"{head}{BEGIN}\n\n{made}\n\n{END}{tail}", "utf-8")


if __name__ == "__main__":
    main()
