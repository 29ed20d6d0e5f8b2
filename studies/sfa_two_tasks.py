"""SFA's Fig. 9, Fig. 10 and Table 2 in their own setting, on small data.

    python studies/sfa_two_tasks.py [--output docs/results/sfa_two_tasks] [--run]

Even digits, then odd ones, with one head of five outputs (:mod:`two_tasks`). Written before the run:

* **Seeds**: 0 to 9: first weights and batches. Task A is learned once a seed.
* **Sweeps** (:mod:`two_tasks_sweeps`): eight values each, laid out by validation accuracy on seeds 100
  and 101 so that the points lie evenly between the two ends, as far as a strength reaches: SFA over β
  (averages every 20 batches), SFA over the interval at β 0.1, and at β 0.5 as a second, ℓ2 to θ_o over
  λ, EWC over λ.
* **Score** of a sweep, within a seed: the area of the union of the rectangles between (0, 0) and its
  front, in test accuracy on A and on B. The front is chosen on the validation parts. The network
  after A and that of sequential training belong to every front: they need no method.
* **Claims** of the paper: SFA over β, and over the interval, is outside ℓ2 and outside EWC; ℓ2 is
  outside EWC; the smaller p, the nearer to θ_o (over the trunk) and the better A is kept (Spearman's
  rank correlation within a seed, β 0.5). The interval is judged at both β, as the paper does not
  say its β there; at 0.5 one average goes halfway to θ_o, so that the sweep cannot span. EWC is judged
  with the Fisher information of [0], appendix A.3, and with what the program takes for it which comes
  with the tasks: the paper does not say which it has.
* **Rule**: :mod:`clbench.report.verdicts`, Holm over all twelve claims of the page, n = 10.
* Beside the claims: EWC with the Fisher information averaged over each kernel's inputs, as that program
  averages. On the seeds of the layout EWC's own does not reach A's accuracy at any λ up to 1e10, as
  pixels that are blank in A have none; averaged, it should. (It does; but pixels blank in A are blank
  in B. What the weights without Fisher information do is measured on the page.)

After the run, and said so on the page: areas by straight lines, and why EWC does not reach.

[0] Kleiman et al., *Soup to go: mitigating forgetting during continual learning with model
    averaging*, Fig. 9 (section 6), Fig. 10 and Table 2 (appendix).
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from page_claims import HEADS, difference_cell, row, verdict_cells
from two_tasks import STEPS, TwoTasks, data
from two_tasks_figures import distance_figure, trade_off_figure
from two_tasks_scores import above, area, area_by_lines, best, rank_correlation, score
from two_tasks_sweeps import (
    AVERAGED,
    BETA,
    BLOG,
    EWC,
    FAST,
    L2,
    NUMBERS,
    SINGLE,
    SLOW,
    SWEEPS,
    Run,
    of,
    run_seed,
    seeds_of,
)

import clbench
from clbench.report.statistics import difference, mean_of
from clbench.report.verdicts import RULE, Question, Verdict, judge

NAME = "sfa_two_tasks"
COMMAND = f"python studies/{NAME}.py"
SEEDS = tuple(range(10))


#: The first is outside the second.
OUTSIDE = (
    *((BETA, L2), (FAST, L2), (SLOW, L2)),
    *((L2, EWC), (BETA, EWC), (FAST, EWC), (SLOW, EWC)),
    *((L2, BLOG), (BETA, BLOG), (FAST, BLOG)),
)
#: Differences that are shown and are no claims.
BESIDE = ((AVERAGED, EWC), (BLOG, AVERAGED), (BETA, AVERAGED), (L2, AVERAGED))


@dataclass(frozen=True)
class Judged:
    """A claim, what it compares, its paired numbers (times ``scale`` for people) and verdict."""

    claim: str
    compared: str
    numbers: tuple[float, ...]
    scale: float
    verdict: Verdict


def judged(runs: Sequence[Run]) -> list[Judged]:
    """The paper's claims with their verdicts."""
    seeds = seeds_of(runs)
    areas = {sweep.name: [score(runs, sweep.name, seed) for seed in seeds] for sweep in SWEEPS}
    asked = []
    for better, worse in OUTSIDE:
        gaps = tuple(x - y for x, y in zip(areas[better], areas[worse], strict=True))
        asked.append(
            (f"{better} is outside {worse}", f"{better} − {worse}, area by rectangles", gaps, 100.0)
        )
    for claim, compared, key, sign in (
        ("the smaller p, the nearer to θ_o", "p with the trunk's distance", "distance", 1),
        ("the smaller p, the better A is kept", "p with the accuracy lost on A", "test_A", -1),
    ):
        swept = [of(runs, SLOW, seed) for seed in seeds]
        ranks = tuple(
            rank_correlation([r["value"] for r in one], [sign * r[key] for r in one])
            for one in swept
        )
        asked.append((f"{claim} (SFA, β 0.5)", f"rank correlation of {compared}", ranks, 1.0))
    verdicts = judge([Question(numbers) for *_, numbers, _ in asked])
    return [Judged(*one, verdict) for one, verdict in zip(asked, verdicts, strict=True)]


def means(runs: Sequence[Run]) -> list[Run]:
    """One row for each setting: mean, and half of the 95 % t interval, over seeds."""
    rows = []
    settings = dict.fromkeys((run["sweep"], run["value"]) for run in runs)
    for sweep, value in settings:
        those = [run for run in of(runs, sweep) if run["value"] == value]
        one: Run = {"sweep": sweep, "value": value, "runs": len(those)}
        for key in NUMBERS:
            gap = difference({r["seed"]: r[key] for r in those}, {r["seed"]: 0.0 for r in those})
            assert gap is not None
            low = gap.mean if gap.low is None else gap.low
            one |= {key: gap.mean, f"{key}_half": gap.mean - low}
        rows.append(one)
    return rows


def write(runs: Sequence[Run], about: dict[str, Any], output: Path) -> list[Judged]:
    """Write records, tables, figures and the page; returns the claims."""
    output.mkdir(parents=True, exist_ok=True)
    rows, claims = means(runs), judged(runs)
    _csv(output / "runs.csv", runs)
    _csv(output / "means.csv", rows)
    (output / "about.json").write_text(json.dumps(about, indent=1) + "\n")
    found = [
        {
            "claim": one.claim,
            "compared": one.compared,
            "seeds": [round(x, 6) for x in one.numbers],
            "p_holm": _short(one.verdict.p),
            "could_see": _short(one.verdict.could_see),
            "verdict": one.verdict.outcome,
        }
        for one in claims
    ]
    (output / "claims.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    swept = {sweep.name: sweep for sweep in SWEEPS}
    left, right = ((BETA, L2, EWC, BLOG), (FAST, SLOW, L2, EWC))
    panels = [[swept[name] for name in names] for names in (left, right)]
    trade_off_figure(rows, panels).savefig(output / "trade_off.png", dpi=110)
    intervals = [swept[name] for name in (FAST, SLOW)]
    distance_figure(rows, intervals, STEPS["B"]).savefig(output / "distance.png", dpi=110)
    (output / "README.md").write_text(page(runs, rows, claims, about))
    return claims


def page(
    runs: Sequence[Run], rows: Sequence[Run], claims: Sequence[Judged], about: dict[str, Any]
) -> str:
    """The study's README.md."""
    seeds = seeds_of(runs)
    single = {name: next(r for r in rows if r["sweep"] == name) for name in SINGLE}
    areas = [row(["sweep", "values", "area × 100", "best", "reaches on A", "reaches on B"])]
    areas.append(row(["---"] * 6))
    for sweep in SWEEPS:
        ours = [r for r in rows if r["sweep"] == sweep.name]
        ranges = [[100 * r[f"test_{task}"] for r in ours] for task in STEPS]
        areas.append(
            row(
                [
                    sweep.name,
                    f"{sweep.symbol} {min(sweep.values):g} … {max(sweep.values):g}",
                    _spread([score(runs, sweep.name, seed) for seed in seeds]),
                    _spread([best(runs, sweep.name, seed) for seed in seeds]),
                    *(f"{min(r):.0f} … {max(r):.0f}" for r in ranges),
                ]
            )
        )
    beside = [row(["area × 100", "by rectangles", "by lines"]), row(["---"] * 3)]
    for better, worse in (*OUTSIDE, *BESIDE):
        cells = []
        for rule in (area, area_by_lines):
            pairs = ({s: score(runs, name, s, rule) for s in seeds} for name in (better, worse))
            cells.append(difference_cell(difference(*pairs)))
        beside.append(row([f"{better} − {worse}", *cells]))
    gaps = {
        name: {r["seed"]: above(runs, r, name) for r in of(runs, SLOW) if r["value"] == STEPS["B"]}
        for name in (L2, EWC, BLOG)
    }
    distances = [row(["p", "batches", "distance from θ_o", "accuracy on A", "accuracy on B"])]
    distances.append(row(["---"] * 5))
    for r in [r for r in rows if r["sweep"] == SLOW] + [single["sequential"]]:
        value = r["value"]
        first = ["sequential", "–"] if value is None else [f"{value / STEPS['B']:g}", f"{value:g}"]
        length = f"{r['distance']:.2f} ± {r['distance_half']:.2f}"
        distances.append(row([*first, length, _pm(r, "test_A"), _pm(r, "test_B")]))
    table = [row(HEADS), row(["---"] * len(HEADS))]
    for one in claims:
        cells = verdict_cells(one.verdict, one.scale, len(one.numbers))
        table.append(row([one.claim, one.compared, *cells]))
    text = (Path(__file__).parent / f"{NAME}.md").read_text()
    for name, value in {
        "command": COMMAND,
        "seeds": len(seeds),
        "share": f"{100 * about['unimportant']['share']:.0f}",
        "moved": f"{100 * about['unimportant']['moved']:.1f}",
        "seconds": f"{about['cpu_seconds']:.0f}",
        "single": "; ".join(
            f"{name} {_pm(r, 'test_A')} on A and {_pm(r, 'test_B')} on B"
            for name, r in single.items()
        ),
        "areas": "\n".join(areas),
        "beside": "\n".join(beside),
        "above": ", ".join(
            f"{difference_cell(difference(gap, dict.fromkeys(gap, 0.0)), bold=False)} over {name}"
            for name, gap in gaps.items()
        ),
        "distances": "\n".join(distances),
        "rule": RULE,
        "claims": "\n".join(table),
    }.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _spread(values: Sequence[float]) -> str:
    found = mean_of(values)
    assert found is not None
    return f"{100 * found.mean:.1f} ± {100 * (found.std or 0):.1f}"


def _pm(r: Run, key: str) -> str:
    return f"{100 * r[key]:.1f} ± {100 * r[key + '_half']:.1f}"


def _csv(path: Path, rows: Sequence[Run]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for one in rows:
            writer.writerow({k: f"{v:.9g}" if isinstance(v, float) else v for k, v in one.items()})


def read(path: Path) -> list[Run]:
    """The runs of an earlier study."""
    with path.open(newline="") as file:
        return [
            {
                "sweep": one["sweep"],
                "value": float(one["value"]) if one["value"] else None,
                "seed": int(one["seed"]),
            }
            | {key: float(one[key]) for key in NUMBERS}
            for one in csv.DictReader(file)
        ]


def run_all(seeds: Sequence[int]) -> tuple[list[Run], dict[str, Any]]:
    """All networks, in this process, and how they were made."""
    torch.set_num_threads(1)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        tasks = data(Path(folder))
    runs = [run for seed in seeds for run in run_seed(tasks, seed)]
    about = {"clbench": clbench.__version__, "torch": torch.__version__}
    about |= {"cpu_seconds": round(time.process_time() - started)}
    return runs, about | {"unimportant": unimportant(tasks, seeds)}


def unimportant(tasks: Any, seeds: Sequence[int]) -> dict[str, float]:
    """Means of :meth:`TwoTasks.unimportant`, rounded."""
    found = [TwoTasks(tasks, seed).unimportant() for seed in seeds]
    return {key: round(fmean(one[key] for one in found), 4) for key in found[0]}


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the page from the kept runs, or with --run make them anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/results") / NAME)
    parser.add_argument("--run", action="store_true", help="train all networks anew")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    arguments = parser.parse_args(argv)
    output = arguments.output
    if arguments.run:
        runs, about = run_all(arguments.seeds)
    else:
        runs, about = read(output / "runs.csv"), json.loads((output / "about.json").read_text())
    for one in write(runs, about, output):
        print(f"{one.claim}: {one.verdict.outcome}")
    print(f"Written to {output}")


if __name__ == "__main__":
    main()
