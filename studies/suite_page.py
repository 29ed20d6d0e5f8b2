"""Studies that are suites: methods compared over seeds, a page of tables, figures and claims.

Each such study is a file beside this one, with what its page says besides the numbers:

    python studies/imagenet_forgetting.py          the page anew, from the kept records
    python studies/imagenet_forgetting.py --run    run what is lacking, keep the records

``--stream '{name: image_folder, train: DIR, test: DIR, tasks: 5}'`` and ``--data_dir DIR`` let
other files stand in for the suite's data set. Runs go to ``runs/<suite>``; what the page needs of
them (records, recipes, the tries of tuning, one description of the machine) is kept with it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import clbench
from clbench.recipe import merge
from clbench.record import Scenario
from clbench.report.compare import Comparison, Group, Section, compare
from clbench.report.statistics import Difference, difference, estimate
from clbench.suite import PLACES
from clbench.yamlfile import find, read, read_text

RESULTS = Path("docs/results")
#: Metrics of the page's main table, with their headings.
COLUMNS = {
    "overall_performance": "OP",
    "backward_transfer": "BWT",
    "learning_accuracy": "learning accuracy",
    "retention": "retention",
    "average": "average",
}


@dataclass(frozen=True)
class Claim:
    """A paper's claim that one method beats another.

    Attributes:
        text: the claim.
        better, worse: names of methods in the suite.
        metric: in which the first is claimed to be higher.
        sign: -1 if it is claimed to be lower.
    """

    text: str
    better: str
    worse: str
    metric: str = "overall_performance"
    sign: int = 1


@dataclass(frozen=True)
class Study:
    """What a page says besides the numbers.

    Attributes:
        name: of the suite, and of the folder of results.
        title: of the page.
        about: paragraphs before the numbers.
        reading: paragraphs after them: what the numbers say, and why.
        claims: what is checked.
        scenario: of the accuracies.
        reference: the method that differences are taken from.
        figures: of the report.
        metrics: columns of the table, with their headings.
        more: suites whose runs stand on the page too.
    """

    name: str
    title: str
    about: str
    claims: tuple[Claim, ...]
    reading: str = ""
    scenario: Scenario = "task_incremental"
    reference: str = "sequential"
    figures: tuple[str, ...] = ("frontier",)
    metrics: dict[str, str] = field(default_factory=lambda: COLUMNS)
    more: tuple[str, ...] = ()


def verdict(gap: Difference | None) -> str:
    """What a paired difference says about the claim that it is above zero.

    Reproduced: its 95 % t interval lies above zero; not reproduced: below; else too noisy.
    """
    if gap is None or gap.within_noise is None or gap.within_noise:
        return "too noisy to say"
    return "reproduced" if gap.mean > 0 else "not reproduced"


def gap_of(section: Section, claim: Claim, scenario: Scenario) -> Difference | None:
    """The paired difference that decides a claim, positive where it holds."""
    groups = {group.label: group for group in section.groups}
    if claim.better not in groups or claim.worse not in groups:
        return None
    ours, theirs = (
        {seed: claim.sign * v for seed, v in scores(groups[name], claim.metric, scenario).items()}
        for name in (claim.better, claim.worse)
    )
    return difference(ours, theirs)


def scores(group: Group, metric: str, scenario: Scenario) -> dict[int, float]:
    """A metric of each seed's run; ``distance`` is that from θ_* after the last task."""
    if metric == "distance":
        return {r.seed: float(r.record.tasks[-1]["distance"]["pretrained"]) for r in group.finished}
    return group.by_seed(metric, scenario)


def heading(section: Section, study: Study, metric: str) -> str:
    """A metric's name; distances of older records are over all parameters, the head among them."""
    runs = [run for group in section.groups for run in group.finished]
    old = any("distance_over" not in run.record.tasks[-1] for run in runs)
    return study.metrics[metric] + ", head included" * (metric == "distance" and old)


def page(study: Study, made: Comparison, tuning: dict[str, Any] | None) -> str:
    """The page, as Markdown."""
    name = study.name
    (section,) = made.sections
    parts = [
        f"# {study.title}",
        f"Made by\n\n```bash\npython studies/{name}.py\n```\n\nfrom the records in "
        f"[`records/`](records); they by `python studies/{name}.py --run`, which is "
        f"`clbench compare {name}` and a copy of its records.",
        study.about.strip(),
        *(f"![{figure}]({figure}.png)" for figure in study.figures),
        _table(section, study),
        "## Claims\n\nThe number is the paired difference over seeds, in the claim's favour if "
        "positive, with its 95 % t interval; a claim is too noisy to say where that holds "
        "zero.\n\n" + _claims(section, study),
        study.reading.strip(),
    ]
    if tuning:
        parts.append(_tries(tuning))
    parts.append("Numbers: [`table.csv`](table.csv), [`claims.json`](claims.json).")
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(section: Section, study: Study) -> str:
    versus = [m for m in ("overall_performance", "retention") if m in study.metrics]
    reference = next(g for g in section.groups if g.label == study.reference)
    heads = [
        "method",
        *(heading(section, study, metric) for metric in study.metrics),
        *(f"Δ {study.metrics[metric]}" for metric in versus),
        "stored images",
        "copies",
        "extra passes",
        "s a run",
    ]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for row in section.leaderboard(study.scenario):
        group = row.group
        lost = len(group.runs) - len(group.finished)
        cells = [group.label + f" ({lost} of {len(group.runs)} runs diverged)" * (lost > 0)]
        for metric in study.metrics:
            found = scores(group, metric, study.scenario)
            cells.append(_spread(list(found.values()), 1 if metric == "distance" else 100))
        for metric in versus:
            own, base = (scores(g, metric, study.scenario) for g in (group, reference))
            cells.append("–" if group is reference else _difference(difference(own, base)))
        for metric, digits in (
            ("stored_samples", 0),
            ("weight_copies", 0),
            ("extra_passes_per_step", 1),
            ("seconds", 0),
        ):
            cost = group.estimate(metric, study.scenario)
            cells.append("–" if cost is None else f"{cost.mean:.{digits}f}")
        lines.append(_row(cells))
    return (
        f"In %, mean ± standard deviation of {len(reference.finished)} seeds; Δ: paired difference "
        f"from {study.reference} with its 95 % t interval, **bold** where that excludes zero.\n\n"
        + "\n".join(lines)
    )


def _claims(section: Section, study: Study) -> str:
    lines = [_row(["claim", "number", "verdict"]), _row(["---"] * 3)]
    for claim in study.claims:
        gap = gap_of(section, claim, study.scenario)
        percent = 1 if claim.metric == "distance" else 100
        lines.append(_row([claim.text, _difference(gap, percent, bold=False), verdict(gap)]))
    return "\n".join(lines)


def _tries(tuning: dict[str, Any]) -> str:
    lines = [_row(["method", "tries: setting → validation accuracy; the choice in bold"])]
    lines.append(_row(["---"] * 2))
    for cell in tuning["cells"]:
        told = []
        for made in cell["tries"]:
            settings = ", ".join(f"{k.split('.')[-1]} {v}" for k, v in made["settings"].items())
            value = "failed" if made["value"] is None else f"{100 * made['value']:.1f}"
            text = f"{settings} → {value}"
            told.append(f"**{text}**" if made["number"] == cell["chosen"] else text)
        lines.append(_row([cell["method"], "; ".join(told)]))
    return (
        f"## Tries\n\n{tuning['tries']} for every method, each on the first {tuning['tasks']} "
        "tasks, scored by the mean accuracy on their validation parts; the first of equals is "
        "taken. No test data was read.\n\n" + "\n".join(lines)
    )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _spread(values: Sequence[float], scale: float = 100) -> str:
    found = estimate(values)
    if found is None:
        return "–"
    if scale * found.mean >= 1000:
        return f"{scale * found.mean:.0e}"
    if found.std is None:
        return f"{scale * found.mean:.1f}"
    return f"{scale * found.mean:.1f} ± {scale * found.std:.1f}"


def _difference(gap: Difference | None, scale: float = 100, bold: bool = True) -> str:
    if gap is None:
        return "–"
    if gap.low is None or gap.high is None:
        return f"{scale * gap.mean:+.1f}"
    text = f"{scale * gap.mean:+.1f} [{scale * gap.low:+.1f}, {scale * gap.high:+.1f}]"
    return f"**{text}**" if bold and not gap.within_noise else text


def write(study: Study, folder: Path) -> Path:
    """The page and its files, from the records kept in the folder."""
    from clbench.report.tables import leaderboard_csv

    labels = {
        config.parent: yaml.safe_load(config.read_text())["name"].rsplit("-seed", 1)[0]
        for config in (folder / "records").glob("*/config.yaml")
    }
    made = compare([folder / "records"], labels)
    tries = folder / "tuning.json"
    tuning = json.loads(tries.read_text()) if tries.is_file() else None
    (section,) = made.sections
    found = [
        {
            "claim": claim.text,
            "difference": None if gap is None else [gap.mean, gap.low, gap.high],
            "verdict": verdict(gap),
        }
        for claim in study.claims
        for gap in (gap_of(section, claim, study.scenario),)
    ]
    (folder / "claims.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (folder / "table.csv").write_text(leaderboard_csv(made))
    for figure in study.figures:
        made.figure(figure, study.scenario).savefig(
            folder / f"{figure}.png", dpi=110, bbox_inches="tight"
        )
    text = page(study, made, tuning)
    (folder / "README.md").write_text(text)
    return folder / "README.md"


def keep(suites: Sequence[Path], folder: Path) -> None:
    """Copy what the page needs of the runs of suites; tuning and machine are those of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "records", ignore_errors=True)
    for record in sorted(path for runs in suites for path in runs.glob("runs/*/record.jsonl")):
        place = folder / "records" / record.parent.name
        place.mkdir(parents=True)
        for name in ("record.jsonl", "config.yaml"):
            shutil.copy(record.parent / name, place / name)
    about = json.loads(next(iter(suites[0].glob("runs/*/environment.json"))).read_text())
    about.pop("command", None)
    (folder / "environment.json").write_text(json.dumps(about, indent=1) + "\n")
    if (suites[0] / "tuning.json").is_file():
        shutil.copy(suites[0] / "tuning.json", folder / "tuning.json")


def main(study: Study, argv: Sequence[str] | None = None) -> None:
    """The command of a study."""
    parser = argparse.ArgumentParser(description=study.title)
    parser.add_argument("--run", action="store_true", help="run what is lacking, keep the records")
    parser.add_argument("--stream", default="{}", help="as YAML, in place of the suite's stream")
    parser.add_argument("--data_dir", help="where data sets and caches live")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--output", type=Path, default=RESULTS / study.name)
    given = parser.parse_args(argv)
    if given.run:
        stream = read_text(given.stream, "--stream")
        names = (study.name, *study.more)
        keep([run(name, stream, given.data_dir, given.jobs) for name in names], given.output)
    print(write(study, given.output))


def run(name: str, stream: dict[str, Any], data_dir: str | None, jobs: int) -> Path:
    """Run what is lacking of a suite; returns the folder of the runs."""
    path = find(name, PLACES, "suite")
    suite = dict(read_text(path.read_text(), str(path)))
    changes = {"stream": stream} | ({"data_dir": data_dir} if data_dir else {})
    base = suite["base"] if isinstance(suite["base"], dict) else read(suite["base"])
    suite |= {"name": name, "base": merge(base, changes)}
    made = clbench.compare(suite, Path("runs") / name, jobs)
    for failed, reason in made.failures.items():
        if "loss is" not in reason:  # what diverged is a result
            raise SystemExit(f"{failed} failed: {reason}")
    return Path("runs") / name
