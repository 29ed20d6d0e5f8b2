"""All figures of a comparison as SVG."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from clbench.machine import cores
from clbench.processes.parent import follow_pool
from clbench.record.record import SCENARIOS, Scenario
from clbench.report.comparison import Compared
from clbench.report.plots import PLOTS, POOLED_PLOTS
from clbench.report.svg import styled, to_svg

#: Section (None: all of them), scenario and name of a figure.
FigureKey = tuple[int | None, Scenario, str]
#: SVG and description of each figure.
Pictures = dict[FigureKey, tuple[str, str]]
#: Processes at most.
MOST = 8


def draw(comparison: Compared) -> Pictures:
    """All figures that have something to show, drawn by as many processes as there are cores."""
    places: list[FigureKey] = [
        (None, s, name) for s in comparison.scenarios for name in POOLED_PLOTS
    ]
    for number, section in enumerate(comparison.sections):
        places += [(number, s, name) for s in section.scenarios for name in PLOTS]
        section.leaderboard(SCENARIOS[0])  # computed once, before there are several processes
    found = _together(comparison, places) if _may_fork() else _draw(comparison, places)
    return {place: made for place, made in zip(places, found, strict=True) if made is not None}


def _may_fork() -> bool:
    """Whether copies of this process can draw: not if they would hold torch's threads.

    Fresh processes would have to import everything, which takes as long as a dozen figures.
    """
    return sys.platform == "linux" and "torch" not in sys.modules and cores() > 1


def _together(
    comparison: Compared, places: Sequence[FigureKey]
) -> Sequence[tuple[str, str] | None]:
    workers = min(cores(), MOST)
    try:
        with ProcessPoolExecutor(workers, get_context("fork"), _keep, (comparison,)) as pool:
            return list(pool.map(_draw_kept, places))
    except BrokenProcessPool:  # one was killed; this process is still there
        return _draw(comparison, places)


_kept: Compared


def _keep(comparison: Compared) -> None:
    global _kept
    follow_pool()
    _kept = comparison


def _draw_kept(place: FigureKey) -> tuple[str, str] | None:
    (made,) = _draw(_kept, [place])
    return made


def _draw(comparison: Compared, places: Iterable[FigureKey]) -> list[tuple[str, str] | None]:
    """SVG and description of each figure; None of those that have nothing to show."""
    made: list[tuple[str, str] | None] = []
    # A figure is ten thousands of small objects; looking for garbage among them takes time.
    gc.disable()
    try:
        with styled():
            for number, scenario, name in places:
                if number is None:
                    drawn = POOLED_PLOTS[name](comparison, scenario)
                else:
                    drawn = PLOTS[name](comparison.sections[number], scenario)
                made.append((to_svg(drawn[0]), drawn[1]) if drawn else None)
    finally:
        gc.enable()
    return made
