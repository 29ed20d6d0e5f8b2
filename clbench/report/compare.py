"""Runs → sections of what may be compared, with warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from clbench.report.fonts import literal
from clbench.report.gather import Run, gather
from clbench.report.plots import PLOTS, POOLED_PLOTS
from clbench.report.section import Section
from clbench.report.sorting import sections_of
from clbench.report.tables import rows
from clbench.report.tuning import Tuned
from clbench.text.texts import cut_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    made = sections_of(runs, named, tuned)
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
