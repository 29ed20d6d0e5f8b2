"""Runs sorted by what may be compared: by stream and backbone, then by method over seeds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clbench.record.baselines import PLAIN
from clbench.report import tuning as tunings
from clbench.report.checks import warnings_of
from clbench.report.confounds import complete
from clbench.report.gather import Run
from clbench.report.group import Group, set_aside
from clbench.report.names import in_order, title
from clbench.report.section import Section
from clbench.report.tuning import Tuned
from clbench.text.texts import cut_line

#: Longer names are cut.
LABEL = 100


def sections_of(
    runs: Sequence[Run], named: Mapping[Path, str] | None = None, tuned: Sequence[Tuned] = ()
) -> list[Section]:
    """The methods of each stream and backbone; nothing is read from the disk.

    Args:
        runs: none of them a try of tuning.
        named: names of methods by run folder, where they are known better than from the record.
        tuned: how the methods were tuned.
    """
    sections: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        about = run.record.run
        # Where tasks share labels, accuracies are others under the same names.
        key = run.stream, tuple(about.tasks), about.backbone, about.shared_labels
        sections[key].append(run)
    numbers = iter(range(len(runs)))
    made = [
        _section(key[:3], found, named or {}, numbers, tuned) for key, found in sections.items()
    ]
    titles = Counter(section.title for section in made)
    if any(count > 1 for count in titles.values()):
        made = [
            replace(s, title=f"{s.title} ({in_order(s.tasks, shared)})")
            if titles[s.title] > 1
            else s
            for s, (*_, shared) in zip(made, sections, strict=True)
        ]
    return made


def _section(
    key: tuple[str, tuple[str, ...], str],
    runs: Sequence[Run],
    named: Mapping[Path, str],
    numbers: Iterator[int],
    tuned: Sequence[Tuned],
) -> Section:
    stream, tasks, backbone = key
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run, settings in zip(runs, _settings(runs), strict=True):
        groups[tuple(sorted((k, str(v)) for k, v in settings.items()))].append(run)
    found, twice = [], []
    for members in groups.values():
        by_seed: dict[int, Run] = {}
        for run in sorted(members, key=lambda run: (not run.finished, run.folder.name)):
            if run.seed in by_seed:
                twice.append((run, by_seed[run.seed]))
            else:
                by_seed[run.seed] = run
        found.append([by_seed[seed] for seed in sorted(by_seed)])
    names = _names(found, named)
    made = set_aside(
        [
            Group(
                text,
                tuple(members),
                next(numbers),
                tunings.tries_of(tuned, members[0], name),
                name if names.count(name) == 1 else text,
            )
            for name, text, members in zip(names, _labels(found, named), found, strict=True)
        ]
    )
    warnings = [
        f"{run.folder.name} repeats the recipe and the seed of {first.folder.name}; only the "
        "latter counts."
        for run, first in twice
    ]
    for count, text in (
        (1, "one seed only, so nothing tells noise from effect"),
        (2, "two seeds only, so no score has an interval"),
    ):
        names = [group.label for group in made if len(group.finished) == count]
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            warnings.append(f"{', '.join(names[:5])}{more}: {text}.")
    shown = cut_line(stream, LABEL), cut_line(backbone, LABEL)
    title = f"{shown[0]}, {len(tasks)} task{'s' * (len(tasks) != 1)}, {shown[1]}"
    return Section(title, made, tasks, (*warnings_of(runs), *warnings))


def _settings(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    """The runs' settings; where runs of the same methods have other keys, with the defaults."""
    keys: dict[Any, set[frozenset[str]]] = defaultdict(set)
    for run in runs:
        keys[run.settings["methods"]].add(frozenset(run.settings))
    return [complete(r) if len(keys[r.settings["methods"]]) > 1 else r.settings for r in runs]


def _names(groups: Sequence[Sequence[Run]], named: Mapping[Path, str]) -> list[str]:
    """A name for each group: the suite's, the recipe's or the methods'."""
    names = []
    for runs in groups:
        told = {named.get(run.folder) or run.name for run in runs}
        name = told.pop() if len(told) == 1 else None
        names.append(name or "+".join(runs[0].methods) or PLAIN)
    return [cut_line(name, LABEL) for name in names]


def _labels(groups: Sequence[Sequence[Run]], named: Mapping[Path, str]) -> list[str]:
    """The names, with what penalties stay near, made unique."""
    names = [
        cut_line(title(name, runs[0].record.run.methods, runs[0].having("anchored")), LABEL)
        for name, runs in zip(_names(groups, named), groups, strict=True)
    ]
    for name in [name for name, count in Counter(names).items() if count > 1]:
        same = [i for i, other in enumerate(names) if other == name]
        settings = [groups[i][0].settings for i in same]
        keys = sorted({key for s in settings for key in s})
        differ = [k for k in keys if len({str(s.get(k, "–")) for s in settings}) > 1]
        for i, values in zip(same, settings, strict=True):
            shown = [f"{_key(k, groups[i][0])}={values.get(k, '–')}" for k in differ[:4]]
            names[i] = cut_line(f"{name} ({', '.join(shown)})", 2 * LABEL)
    for name in [name for name, count in Counter(names).items() if count > 1]:
        for number, i in enumerate([i for i, other in enumerate(names) if other == name], 1):
            names[i] = f"{name} #{number}"
    return names


def _key(key: str, run: Run) -> str:
    """A setting as a label shows it: that of the only method needs no method's name."""
    only = f"methods.{run.methods[0]}." if len(run.methods) == 1 else "methods."
    return key.removeprefix(only).removeprefix("methods.")
