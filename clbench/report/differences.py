"""Differences from the baselines: what they could see, and what differs besides the methods."""

from __future__ import annotations

from statistics import fmean

from clbench.record.record import Scenario
from clbench.report.boards import leaderboard
from clbench.report.cells import NOTHING, Entry, Head, Table, versus
from clbench.report.confounds import MARK
from clbench.report.group import Group
from clbench.report.metrics import show
from clbench.report.section import Section
from clbench.report.verdicts import seen

NOTE = (
    f"Read from the recipes and the records, the method’s value first. {MARK}: more than the "
    "method differs, so that the difference is no test of it, and has no p."
)


def differences(section: Section, scenario: Scenario) -> Table | None:
    """Differences of overall performance from the baselines or the reference, with what else
    differs; None if there is none of them."""
    heads = [
        Head("Method"),
        Head("From", "the baseline that differs least besides the method"),
        Head("ΔOP", "paired difference of overall performance", 1),
        Head("Seeds", "pairs of runs with the same seed", 1),
        Head("Could see", "the smallest difference that so many show with 80 % power", -1),
        Head("p (Holm)", "two-sided, corrected over the methods of this column", -1),
        Head(
            "Scope",
            "how much the method could do, 0…1; of several, the least; below 0.1 next to nothing",
            1,
        ),
        Head("What differs besides the method"),
    ]
    metric, body = "overall_performance", []
    for name in section.baselines:
        for row in section.leaderboard(scenario):
            base, gap = section.baseline(name, row.group), row.versus[name].get(metric)
            if base is None or gap is None:
                continue
            least, p = seen(gap), row.p[name].get(metric)
            scope = scope_of(row.group)
            told = "; ".join(c.words for c in row.besides[name]) or "nothing"
            body.append(
                [
                    Entry(row.group.label, row.group.label, group=row.group.number),
                    Entry(base.label, base.label, group=base.number),
                    versus(row, name, metric, row.group.number),
                    Entry(str(gap.n) if gap.paired else f"{gap.n}, not paired", gap.n),
                    Entry(NOTHING) if least is None else Entry(show(least, "accuracy"), least),
                    Entry(NOTHING if p is None else p_value(p), p),
                    Entry(NOTHING) if scope is None else Entry(f"{scope:.2f}", scope),
                    Entry(told, told, words=True),
                ]
            )
    title = f"{leaderboard(section, scenario).title}: differences and what else differs"
    return Table(title, heads, body, NOTE) if body else None


def scope_of(group: Group) -> float | None:
    """How much the methods of a group could do, mean over seeds; of several methods, the least."""
    found = [s for run in group.finished for s in [run.summary["scope"].values()] if s]
    known = [min(s) for s in found if None not in s]
    return fmean(known) if known else None


def p_value(p: float) -> str:
    """A p value for people.

    >>> p_value(0.0004), p_value(0.0123), p_value(0.456)
    ('< 0.001', '0.012', '0.46')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
