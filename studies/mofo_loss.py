"""MoFO's section 2.3 on digits: how far from the pretrained weights, at the same training loss?

    python studies/mofo_loss.py [--run]

Runs: ``suites/mofo_loss.yaml``, AdamW alone and with MoFO's rule, each at five numbers of steps.
The training loss is the mean cross-entropy over all training images with the final weights, computed
after the runs and kept beside them (``losses.json``): the loss of a mini-batch is too noisy for it.
Written down before they ran: the distance and the retention of a seed are read where the training
loss is 0.5, on the line between the two runs on either side of it (in the logarithm of the loss; the
level is one that all three sweeps cross in a trial run of a seed that is not used here); claims are
on the paired differences over ten seeds, decided by a paired t test, corrected over the page.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from page_claims import judge_numbers, row
from suite_page import RESULTS, keep, run

from clbench.report.verdicts import RULE

NAME = "mofo_loss"
LEVEL = 0.5
PAGE = """# MoFO: distance at the same training loss

Made by

```bash
python studies/mofo_loss.py
```

from the records in [`records/`](records); they by `python studies/mofo_loss.py --run`, which is
`clbench compare mofo_loss` and a copy of the records.

A small network, pretrained on four digits, learns the six others as one task with AdamW at one constant
rate (0.002), alone and with MoFO's rule at two update fractions, each for five numbers of steps. MoFO
needs more steps for the same training loss (mean cross-entropy over all training images); so distance to the pretrained weights (of the trunk) and
retention (accuracy on the four digits) are compared where the training loss is {level}: on the
line between the runs on either side of it, in the logarithm of the loss.

![Distance and retention against training loss](loss.png)

{table}

## Claims

{rule}

{claims}

Nearer it is, but to four fifths of Adam's distance, where the paper has one fifth (a language model, to
the end of its training): the order, not its size. That it keeps more of pretraining at the same training loss is
not seen here, on the line between runs that many steps apart; MoFO takes twice the steps for it.

Numbers: [`claims.json`](claims.json). Computed from: every `record.jsonl` of [`records/`](records).
"""


class Point(NamedTuple):
    """The end of a run: training loss, distance, retention (a fraction), and its steps."""

    loss: float
    distance: float
    retention: float
    steps: int


#: Every run, by method and seed, by falling loss.
Points = Mapping[str, Mapping[int, Sequence[Point]]]


def training_loss(folder: Path) -> float:
    """The mean cross-entropy of a finished run's weights over all images it was trained on."""
    import torch
    from safetensors.torch import load_file
    from torch.nn.functional import cross_entropy

    from clbench.runner.folder import recipe_of
    from clbench.runner.runner import Run

    with tempfile.TemporaryDirectory() as place:
        made = Run(recipe_of(folder), Path(place), resume=False, tries=False)
    model = made.network.model
    model.load_state_dict(load_file(folder / "model.safetensors"))
    (task,) = made.stream.tasks
    made.stream.open(task, past=False)
    with torch.inference_mode():
        images = task.train.images.take(task.train.index)
        inputs = made.meter.evaluator.transform.test(images)
        logits_NC = model.eval()(inputs)[:, task.classes.start : task.classes.stop]
        return float(cross_entropy(logits_NC, task.train.labels - task.classes.start))


def points(folder: Path) -> Points:
    """The end of every run, by method and seed, by falling loss."""
    found: dict[str, dict[int, list[Point]]] = defaultdict(lambda: defaultdict(list))
    losses = json.loads((folder.parent / "losses.json").read_text())
    for path in sorted(folder.glob("*/record.jsonl")):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        first = next(e for e in events if e["event"] == "run")
        task = [e for e in events if e["event"] == "task"][-1]
        method = first["title"].rsplit("-seed", 1)[0].rsplit("_s", 1)[0]
        end = task["distance"]["pretrained"], task["retention"]["top1"], task["steps"]
        found[method][first["seed"]].append(Point(losses[path.parent.name], *end))
    return {m: {s: sorted(p, reverse=True) for s, p in seeds.items()} for m, seeds in found.items()}


def at_level(runs: Sequence[Point]) -> tuple[float, float] | None:
    """Distance and retention where the loss is :data:`LEVEL`; None where no run is beyond it."""
    for above, below in pairwise(runs):
        if above.loss >= LEVEL >= below.loss:
            whole = math.log(above.loss / below.loss)
            way = math.log(above.loss / LEVEL) / whole if whole else 0.0
            return (
                above.distance + way * (below.distance - above.distance),
                above.retention + way * (below.retention - above.retention),
            )
    return None


def read_off(found: Points) -> dict[str, dict[int, tuple[float, float]]]:
    """Distance and retention at the level, by method and seed."""
    return {
        method: {seed: at for seed, runs in seeds.items() if (at := at_level(runs)) is not None}
        for method, seeds in found.items()
    }


def page(folder: Path) -> str:
    """The page, its figure and its numbers."""
    found = points(folder / "records")
    at = read_off(found)
    lines = [row(["method", "distance", "retention", "seeds"]), row(["---"] * 4)]
    for method in sorted(at):
        distance, kept = ([pair[i] for pair in at[method].values()] for i in (0, 1))
        cells = [spread(distance, 2), spread([100 * x for x in kept], 1, " %")]
        lines.append(row([method, *cells, f"{len(distance)} of {len(found[method])}"]))
    numbers = {}
    for name, percent in (("mofo_5", "5 %"), ("mofo_10", "10 %")):
        both = sorted(at[name].keys() & at["full"].keys())
        numbers[f"MoFO ({percent}) is nearer to the pretrained weights than AdamW"] = [
            at["full"][s][0] - at[name][s][0] for s in both
        ]
        numbers[f"MoFO ({percent}) keeps more of pretraining than AdamW (share of images)"] = [
            at[name][s][1] - at["full"][s][1] for s in both
        ]
    verdicts, table = judge_numbers(numbers)
    told = [
        {"claim": text, "numbers": numbers[text], "p_holm": v.p, "verdict": v.outcome}
        for text, v in verdicts.items()
    ]
    (folder / "claims.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    draw(found, folder / "loss.png")
    return PAGE.format(level=LEVEL, table="\n".join(lines), rule=RULE, claims=table)


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Mean and standard deviation, as far as so many values have them.

    >>> spread([], 1), spread([2.0], 1), spread([1.0, 3.0], 1, " %")
    ('–', '2.0', '2.0 ± 1.4 %')
    """
    if not values:
        return "–"
    error = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{error}{unit}"


def means(seeds: Mapping[int, Sequence[Point]]) -> list[Point]:
    """Means over the seeds that have a run of so many steps, by steps."""
    by_steps: dict[int, list[Point]] = defaultdict(list)
    for point in (point for runs in seeds.values() for point in runs):
        by_steps[point.steps].append(point)
    made = []
    for steps in sorted(by_steps):
        loss, distance, kept, _ = map(fmean, zip(*by_steps[steps], strict=True))
        made.append(Point(loss, distance, kept, steps))
    return made


def draw(found: Points, path: Path) -> None:
    """Distance and retention against the training loss, means over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for method in sorted(found):
        losses, distance, kept, _ = zip(*means(found[method]), strict=True)
        axes[0].plot(losses, distance, marker="o", label=method)
        axes[1].plot(losses, [100 * x for x in kept], marker="o", label=method)
    for axis, text in zip(
        axes, ("distance to the pretrained trunk", "retention in %"), strict=True
    ):
        axis.axvline(LEVEL, color="0.6", lw=1, ls=":")
        axis.set(xscale="log", xlabel="training loss", ylabel=text)
        axis.invert_xaxis()
        axis.set_xticks([1, 0.5, 0.2], labels=["1", "0.5", "0.2"])
        axis.minorticks_off()
        axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="MoFO: distance at the same training loss.")
    parser.add_argument("--run", action="store_true", help="run what is lacking, keep the records")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--output", type=Path, default=RESULTS / NAME)
    given = parser.parse_args(argv)
    if given.run:
        runs = run(NAME, {}, None, given.jobs)
        keep([runs], given.output)
        losses = {f.parent.name: training_loss(f.parent) for f in runs.glob("runs/*/record.jsonl")}
        (given.output / "losses.json").write_text(json.dumps(losses, indent=1) + "\n")
    (given.output / "README.md").write_text(page(given.output))
    print(given.output / "README.md")


if __name__ == "__main__":
    main()
