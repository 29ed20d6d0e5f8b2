"""Studies that are suites: methods compared over seeds, a page of tables, figures and claims.

Each such study is a file beside this one, with what its page says besides the numbers:

    python studies/imagenet_forgetting.py          the page anew, from the kept records
    python studies/imagenet_forgetting.py --run    run what is lacking, keep the records

``--stream '{name: image_folder, train: DIR, test: DIR, tasks: 5}'`` and ``--data_dir DIR`` let
other files stand in for the suite's data set (of a suite with several streams: for that which the
key names, ``--stream '{split_cifar10: {name: image_folder, …}}'``). Runs go to ``runs/<suite>``; what the page needs of
them (records, recipes, the tries of tuning, one description of the machine) is kept with it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from page_claims import (
    ALL,
    MORE,
    Claim,
    Judged,
    as_json,
    claims_part,
    difference_cell,
    judge_claims,
    row,
    scores,
    without_effect,
)

import clbench
from clbench.recipe.merging import merge
from clbench.recipe.yamlfile import find, read_text
from clbench.record.record import Scenario
from clbench.report.compare import Comparison, compare
from clbench.report.confounds import MARK
from clbench.report.group import Group
from clbench.report.section import Section
from clbench.report.statistics import difference, mean_of
from clbench.report.tuning import Tuned
from clbench.suite.values import PLACES, base_of
from clbench.text.texts import slug

__all__ = ["ALL", "COLUMNS", "Claim", "Study", "main"]
RESULTS = Path("docs/results")
#: Metrics of what a method costs: heading and digits.
COSTS = {
    "stored_samples": ("stored images", 0),
    "weight_copies": ("copies", 0),
    "extra_passes_per_step": ("extra passes", 1),
    "seconds": ("s a run", 0),
}
#: Metrics of the page's main table, with their headings.
COLUMNS = {
    "overall_performance": "OP",
    "backward_transfer": "BWT",
    "learning_accuracy": "learning accuracy",
    "retention": "retention",
    "average": "average",
}


@dataclass(frozen=True)
class Study:
    """What a page says besides the numbers.

    Attributes:
        name: of the folder of results, and of the suite if ``only`` names none.
        title: of the page.
        about: paragraphs before the numbers.
        reading: paragraphs after them: what the numbers say, and why.
        claims: what is checked, decided before the runs.
        scenario: of the accuracies, where a claim names none.
        reference: the method that differences are taken from. If it is plain fine-tuning, each
            method's is that run of it which differs in nothing else, if there is one.
        figures: of the report, for each stream.
        metrics: columns of the table, with their headings.
        more: suites whose runs stand on the page too.
        only: the suites, if none has the study's name.
        scenarios: of the tables and figures; ``scenario`` by default.
        looks: how often the claims were judged while seeds were being added; the head says when.
        streams: names of the streams, in the page's order, by what tells them: one of several
            suites, or part of the title that a report gives them. All, by their titles, if empty.
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
    only: tuple[str, ...] = ()
    scenarios: tuple[Scenario, ...] = ()
    looks: int = 1
    streams: dict[str, str] = field(default_factory=dict)

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites whose runs stand on the page."""
        return self.only or (self.name, *self.more)

    @property
    def tables(self) -> tuple[Scenario, ...]:
        """The scenarios of the tables and figures."""
        return self.scenarios or (self.scenario,)


def sections_of(study: Study, made: Comparison) -> dict[str, Section]:
    """The streams of a page by name.

    Raises:
        ValueError: if a name stands for no stream, or for several.
    """
    if not study.streams:
        return {section.title: section for section in made.sections}
    found = {}
    for name, text in study.streams.items():
        held = [s for s in made.sections if text in suites_of(s)]
        held = held or [s for s in made.sections if text in s.title]
        if len(held) != 1:
            titles = ", ".join(repr(s.title) for s in made.sections)
            raise ValueError(f"{text!r} stands for {len(held)} of the streams {titles}")
        found[name] = held[0]
    return found


def suites_of(section: Section) -> set[str]:
    """The suites whose runs are in a section, as far as the folders tell."""
    return {run.folder.parent.name for group in section.groups for run in group.runs}


def heading(section: Section, study: Study, metric: str) -> str:
    """A metric's name; distances of older records are over all parameters, the head among them."""
    runs = [run for group in section.groups for run in group.finished]
    old = any(run.record.tasks[-1].distance_over != "trunk" for run in runs)
    return study.metrics[metric] + ", head included" * (metric == "distance" and old)


def page(
    study: Study,
    sections: Mapping[str, Section],
    judged: Sequence[Judged],
    tunings: Sequence[Tuned] = (),
) -> str:
    """The page, as Markdown."""
    name = study.name
    suites = ", ".join(f"`clbench compare {suite}`" for suite in study.suites)
    parts = [
        f"# {study.title}",
        f"Made by\n\n```bash\npython studies/{name}.py\n```\n\nfrom the records in "
        f"[`records/`](records); they by `python studies/{name}.py --run`, which is "
        f"{suites} and a copy of the records.",
        study.about.strip(),
    ]
    for title, section in sections.items():
        parts += [f"## {title}"] * (len(sections) > 1)
        parts += [
            f"![{figure}]({file}.png)"
            for figure, (stream, _), file in figures_of(study, sections)
            if stream == title
        ]
        parts += [_table(section, study, scenario) for scenario in study.tables]
    if judged:
        parts.append(claims_part(judged))
    parts.append(study.reading.strip())
    parts += map(_tries, tunings)
    parts.append(
        "Numbers: [`table.csv`](table.csv), [`claims.json`](claims.json). Every number of a method is "
        "computed from the records that [`sources.csv`](sources.csv) names for it, with their SHA-256."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def sources(sections: Mapping[str, Section], folder: Path) -> str:
    """The records that each method's numbers are computed from, as CSV."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["stream", "method", "seed", "record", "sha256"])
    for title, section in sections.items():
        for group in section.groups:
            for run in sorted(group.runs, key=lambda run: run.seed):
                record = run.folder / "record.jsonl"
                digest = hashlib.sha256(record.read_bytes()).hexdigest()
                place = record.relative_to(folder.resolve())
                lines.writerow([title, group.label, run.seed, place, digest])
    return text.getvalue()


def figures_of(
    study: Study, sections: Mapping[str, Section]
) -> Iterator[tuple[str, tuple[str, Scenario], str]]:
    """The figures of a page: name, stream and scenario, and the file without its ending."""
    for title in sections:
        own = f"-{slug(title, 60).lower()}" if len(sections) > 1 else ""
        for figure in study.figures:
            for scenario in study.tables:
                apart = f"-{scenario}" if len(study.tables) > 1 else ""
                yield figure, (title, scenario), f"{figure}{apart}{own}"


def _table(section: Section, study: Study, scenario: Scenario) -> str:
    """The main table of a stream, with differences from the reference nearest to each method."""
    references = _references(section, study)
    versus = [m for m in ("overall_performance", "retention") if m in study.metrics]
    versus = versus if references else []
    heads = [
        "method",
        *(heading(section, study, metric) for metric in study.metrics),
        *(f"Δ {study.metrics[metric]}" for metric in versus),
        *(heading for heading, _ in COSTS.values()),
    ]
    lines = [row(heads), row(["---"] * len(heads))]
    nearest, besides = dict[str, list[str]](), dict[str, list[str]]()
    for line in section.leaderboard(scenario):
        group = line.group
        reference = section.nearest(references, group)
        found = () if reference is None else section.confounds(group, reference)
        if reference is not None:
            nearest.setdefault(reference.label, []).append(group.label)
        if found:
            told = f"from {reference.label if reference else ''}: "
            besides.setdefault(told + "; ".join(c.words for c in found), []).append(group.label)
        lost = len(group.runs) - len(group.finished)
        cells = [group.label + f" ({lost} of {len(group.runs)} runs diverged)" * (lost > 0)]
        little = without_effect(group, scenario == "class_incremental")
        cells[0] += "".join(f" ({told})" for told in little)
        for metric in study.metrics:
            values = list(scores(group, metric, scenario).values())
            cells.append(_spread(values, 1 if metric in MORE else 100))
        for metric in versus:
            if reference is None:
                cells.append("–")
                continue
            gap = difference(*(scores(g, metric, scenario) for g in (group, reference)))
            cells.append(difference_cell(gap) + f" {MARK}" * bool(found))
        for metric, (_, digits) in COSTS.items():
            cost = group.estimate(metric, scenario)
            cells.append("–" if cost is None else f"{cost.mean:.{digits}f}")
        lines.append(row(cells))
    text = f"In %, {section.scenarios[scenario]}, mean ± standard deviation over seeds."
    if versus:
        text += (
            " Δ: paired difference with its 95 % t interval, **bold** where that excludes zero "
            f"(not corrected); {_compared(nearest, study.reference)}."
        )
    parts = [text, "\n".join(lines)]
    if besides and versus:
        told = "".join(f"\n* {', '.join(of)}: {text}" for text, of in besides.items())
        parts.append(f"{MARK} More than the method differs, so that Δ is no test of it:\n{told}")
    return "\n\n".join(parts)


def _references(section: Section, study: Study) -> list[Group]:
    """The groups that differences are taken from: all that use the same methods as the reference,
    so that each method finds one which differs in nothing else."""
    own = next((g for g in section.groups if g.label == study.reference), None)
    if own is None:
        return []
    return [g for g in section.groups if g.runs[0].methods == own.runs[0].methods == [] or g is own]


def _compared(nearest: Mapping[str, Sequence[str]], usual: str) -> str:
    others = {label: of for label, of in nearest.items() if label != usual}
    told = f"from {usual}"
    if others:
        told += ", but, as less else differs, from " + " and from ".join(
            f"{label} for {', '.join(of)}" for label, of in others.items()
        )
    return told


def _tries(tuning: Tuned) -> str:
    lines = [row(["method", "tries: setting → validation accuracy; the choice in bold"])]
    lines.append(row(["---"] * 2))
    for cell in tuning.cells:
        told = []
        for made in cell.tries:
            settings = ", ".join(f"{k.split('.')[-1]} {v}" for k, v in made.settings.items())
            value = "failed" if made.value is None else f"{100 * made.value:.1f}"
            text = f"{settings} → {value}"
            told.append(f"**{text}**" if made.number == cell.chosen else text)
        lines.append(row([cell.method, "; ".join(told)]))
    return (
        f"## Tries\n\n{tuning.budget} for every method, each on the first {tuning.tasks} "
        "tasks, scored by the mean accuracy on their validation parts; the first of equals is "
        "taken. No test data was read.\n\n" + "\n".join(lines)
    )


def _spread(values: Sequence[float], scale: float = 100) -> str:
    found = mean_of(values)
    if found is None:
        return "–"
    if scale * found.mean >= 1000:
        return f"{scale * found.mean:.0e}"
    if found.std is None:
        return f"{scale * found.mean:.1f}"
    return f"{scale * found.mean:.1f} ± {scale * found.std:.1f}"


def write(study: Study, folder: Path) -> Path:
    """The page and its files, from the records kept in the folder.

    Raises:
        ValueError: if a claim or the study names a stream that is not there.
    """
    from clbench.report.tables import leaderboard_csv

    labels = {
        config.parent: yaml.safe_load(config.read_text())["name"].rsplit("-seed", 1)[0]
        for config in (folder / "records").rglob("config.yaml")
    }
    made = compare([folder / "records"], labels)
    sections = sections_of(study, made)
    judged = judge_claims(study.claims, sections, study.scenario, study.looks)
    told = [as_json(one) for one in judged]
    (folder / "claims.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    (folder / "table.csv").write_text(leaderboard_csv(made))
    (folder / "sources.csv").write_text(sources(sections, folder))
    for figure, (title, scenario), file in figures_of(study, sections):
        number = made.sections.index(sections[title])
        drawn = made.figure(figure, scenario, number)
        drawn.savefig(folder / f"{file}.png", dpi=110, bbox_inches="tight")
    (folder / "README.md").write_text(page(study, sections, judged, made.tunings))
    return folder / "README.md"


def keep(suites: Sequence[Path], folder: Path) -> None:
    """Copy what the page needs of the runs of suites, each into a folder of its name if several."""
    shutil.rmtree(folder / "records", ignore_errors=True)
    for runs in suites:
        place = folder / "records" / (runs.name if len(suites) > 1 else "")
        place.mkdir(parents=True)
        for record in sorted(runs.glob("runs/*/record.jsonl")):
            (place / record.parent.name).mkdir()
            for name in ("record.jsonl", "config.yaml"):
                shutil.copy(record.parent / name, place / record.parent.name / name)
        if (runs / "tuning.json").is_file():
            shutil.copy(runs / "tuning.json", place if len(suites) > 1 else folder)
    about = json.loads(next(iter(suites[0].glob("runs/*/environment.json"))).read_text())
    about.pop("command", None)
    (folder / "environment.json").write_text(json.dumps(about, indent=1) + "\n")


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
        made = [run(name, stream, given.data_dir, given.jobs) for name in study.suites]
        keep(made, given.output)
    elif not (given.output / "records").is_dir():
        parser.error(f"there are no records in {given.output}: --run makes them")
    print(write(study, given.output))


def run(name: str, stream: dict[str, Any], data_dir: str | None, jobs: int) -> Path:
    """Run what is lacking of a suite; returns the folder of the runs."""
    path = find(name, PLACES, "suite")
    suite = dict(read_text(path.read_text(), str(path)))
    changes = {"data_dir": data_dir} if data_dir else {}
    if "streams" in suite:
        names = [s if isinstance(s, str) else s.get("name") for s in suite["streams"]]
        suite["streams"] = [
            stream.get(name, given) for name, given in zip(names, suite["streams"], strict=True)
        ]
    else:
        changes |= {"stream": stream}
    suite |= {"name": name, "base": merge(base_of(suite), changes)}
    made = clbench.compare(suite, Path("runs") / name, jobs)
    for failed, reason in made.failures.items():
        if "loss is" not in reason:  # what diverged is a result
            raise SystemExit(f"{failed} failed: {reason}")
    return Path("runs") / name
