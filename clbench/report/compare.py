"""Runs → sections of what may be compared, with warnings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.errors import ClbenchError
from clbench.record.baselines import BOUND, PLAIN
from clbench.record.events import VERSION
from clbench.record.record import Scenario
from clbench.report import tuning as tunings
from clbench.report.checks import warnings_of
from clbench.report.comparison import Compared
from clbench.report.confounds import complete
from clbench.report.fonts import literal
from clbench.report.gather import Run, gather
from clbench.report.group import Group, set_aside
from clbench.report.names import in_order, title
from clbench.report.plots import PLOTS, POOLED_PLOTS
from clbench.report.section import Section
from clbench.report.tables import rows
from clbench.report.tuning import Tuned
from clbench.text.texts import cut_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Longer names are cut.
LABEL = 100


@dataclass(frozen=True)
class Comparison(Compared):
    """Methods over seeds, from records alone, with their table and figures."""

    def table(self) -> Any:
        """The leaderboards as one pandas frame: a row for each section, scenario and method.

        Scores are fractions; ``<metric>`` is the mean, beside it ``_std``, ``_low``, ``_high`` and
        ``_interval``: how that was made, or why there is none.

        Raises:
            ClbenchError: if pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped,unused-ignore]
        except ImportError as error:
            raise ClbenchError("tables need pandas: pip install 'clbench[pandas]'") from error
        return pd.DataFrame(list(rows(self)))

    def figure(
        self, name: str, scenario: Scenario = "task_incremental", section: int = 0
    ) -> Figure:
        """One of the report's figures, for matplotlib.

        Args:
            name: a figure of a stream (``bars``, ``trade_off``, ``frontier``,
                ``frontier_over_tasks``, ``over_tasks``, ``curves``, ``matrices``) or of all streams
                (``all_bars``).
            scenario: which accuracies to show.
            section: which stream and backbone.

        Raises:
            ClbenchError: if there is no such figure, or nothing to draw in it.
        """
        if name not in PLOTS and name not in POOLED_PLOTS:
            known = ", ".join([*PLOTS, *POOLED_PLOTS])
            raise ClbenchError(f"there is no figure {name!r}; there are {known}")
        told = self.scenarios if name in POOLED_PLOTS else self.sections[section].scenarios
        if scenario not in told:
            raise ClbenchError(
                f"{name} has no {scenario} accuracies: the tasks share their labels, so that "
                "task_incremental are all there are"
            )
        shown = [s.title for s in self.sections]
        shown += [text for s in self.sections for text in s.tasks]
        shown += [group.label for s in self.sections for group in s.groups]
        with literal(shown):
            if name in POOLED_PLOTS:
                made = POOLED_PLOTS[name](self, scenario)
            else:
                made = PLOTS[name](self.sections[section], scenario)
        if made is None:
            raise ClbenchError(f"{name} has nothing to show: no finished run measured it")
        return made[0]

    def _repr_html_(self) -> str:
        """What a notebook shows: the methods of each stream, and the first one's frontier."""
        from clbench.report.notebook import comparison_html

        return comparison_html(self)


def compare(
    places: Iterable[Path | str],
    labels: Mapping[Path, str] | None = None,
    failures: Mapping[str, str] | None = None,
    tuning: Tuned | Mapping[str, Any] | Path | None = None,
    skipped: Mapping[str, str] | None = None,
    reference: str = PLAIN,
) -> Comparison:
    """Read runs and sort them by what may be compared.

    Args:
        places: run folders, or folders that hold some.
        labels: names of methods by run folder, where they are known better than from the record.
        failures: runs that failed, with the reason.
        tuning: how the methods were tuned, its values or its file; by default, the files
            ``tuning.json`` in ``places`` and above the runs.
        skipped: what a suite left out, with the reason.
        reference: the method that the others are compared with, as tables name it.

    Raises:
        ClbenchError: if there are no runs, or none of the reference.
    """
    roots = [Path(place) for place in places]
    found, problems = gather(roots)
    runs = [run for run in found if not run.is_try]
    if not runs:
        raise ClbenchError(
            f"all {len(found)} runs are tries, scored on validation data; name a folder with runs "
            "that were tested"
        )
    tuned, unread = _tunings(tuning, roots, runs)
    notes = []
    if len(found) > len(runs):
        left = len(found) - len(runs)
        many = "runs are tries" if left > 1 else "run is a try"
        notes.append(f"{left} {many}, scored on validation data, and in no table of results.")
    if older := Counter(v for run in runs if (v := run.record.run.version) < VERSION):
        told = ", ".join(f"{count} of version {v}" for v, count in sorted(older.items()))
        notes.append(
            f"Records of an older version than {VERSION}: {told}; what they do not say is unknown."
        )
    named = {folder.resolve(): label for folder, label in (labels or {}).items()}
    sections: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        about = run.record.run
        # Where tasks share labels, accuracies are others under the same names.
        key = run.stream, tuple(about.tasks), about.backbone, about.shared_labels
        sections[key].append(run)
    numbers = iter(range(len(runs)))
    made = [_section(key[:3], found, named, numbers, tuned) for key, found in sections.items()]
    titles = Counter(section.title for section in made)
    if any(count > 1 for count in titles.values()):
        made = [
            replace(s, title=f"{s.title} ({in_order(s.tasks, shared)})")
            if titles[s.title] > 1
            else s
            for s, (*_, shared) in zip(made, sections, strict=True)
        ]
    if reference != PLAIN:
        made = _against(reference, made)
        notes.append(f"Differences are from {reference}, and from {BOUND} where it was run.")
    return Comparison(
        tuple(made),
        (*problems, *unread, *warnings_of(runs, everywhere=True)),
        dict(failures or {}),
        tuned,
        tuple(notes),
        (*problems, *unread),
        dict(skipped or {}),
        reference,
    )


def _against(reference: str, sections: Sequence[Section]) -> list[Section]:
    """The sections with another reference than plain fine-tuning.

    Raises:
        ClbenchError: if none of them has it.
    """
    if not reference or not any(section.bases(reference) for section in sections):
        known = dict.fromkeys(group.label for section in sections for group in section.groups)
        raise ClbenchError(
            cut_line(f"--reference: there are no runs of {reference}; there are {', '.join(known)}")
        )
    lacks = (f"There are no runs of {reference} to compare with.",)
    return [
        replace(s, reference=reference, warnings=s.warnings + lacks * (not s.bases(reference)))
        for s in sections
    ]


def _tunings(
    given: Tuned | Mapping[str, Any] | Path | None, places: Sequence[Path], runs: Sequence[Run]
) -> tuple[tuple[Tuned, ...], list[str]]:
    """How the methods were tuned, and a line for each file that cannot be read."""
    if isinstance(given, Tuned):
        return (given,), []
    if isinstance(given, Mapping):
        return (tunings.parse_tuning(given),), []
    if given is not None:
        return (tunings.tuning_in(given),), []
    made, problems = [], []
    for path in tunings.tuning_files(places, (run.folder for run in runs)):
        try:
            made.append(tunings.tuning_in(path))
        except ClbenchError as error:
            problems.append(str(error))
    return tuple(made), problems


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
