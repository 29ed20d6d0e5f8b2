"""Class orders of one stream: how much of a score's spread is the order's, and how much the seed's.

A score of order o and seed s is taken as μ + order o + seed s + rest (both drawn at random, each
pair run once). The variances are those of the two-way analysis of variance [0]: with x̄ the means,

    rest  = Σ (x_os − x̄_o − x̄_s + x̄)² / ((O − 1)(S − 1))
    order = (S·Σ (x̄_o − x̄)² / (O − 1) − rest) / S,    seed likewise,

and those that come out below 0 are 0. With one seed the order's has the rest in it. As the orders
are what a new draw would change, the interval of the mean is over the means of orders.

[0] Searle, Casella & McCulloch, *Variance Components*, 1992, section 4.4.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clbench.record.record import Scenario
from clbench.report.cells import Entry, Head, Table, score_cell
from clbench.report.comparison import Compared
from clbench.report.formats import csv_text
from clbench.report.metrics import METRICS, bounds, show
from clbench.report.section import Section
from clbench.report.statistics import Mean, mean_of

#: What is shown of all orders; the first with the parts of its spread.
SHOWN = ("overall_performance", "average_incremental_accuracy", "backward_transfer", "retention")
NOTE = (
    "Means over class orders, with 95 % intervals over the means of orders (of two orders: their "
    "two means); a score's spread is "
    "split into standard deviations of the orders, of the seeds and of the rest (two-way "
    "analysis of variance); with one seed the orders' has the rest in it."
)
#: Settings of a stream that decide the order of its classes.
ORDERS = ("stream.order", "stream.order_seed", "stream.run")


@dataclass(frozen=True)
class Spread:
    """A score's spread, as standard deviations in the score's own unit.

    Attributes:
        order: of the orders; with one seed, of orders and rest together.
        seed: of the seeds; None with one seed.
        rest: of what neither explains; None with one seed.
    """

    order: float
    seed: float | None
    rest: float | None


@dataclass(frozen=True)
class OrdersRow:
    """A method over the class orders of a stream.

    Attributes:
        label: the method, named alike for all orders.
        number: of its first group in the report.
        orders: how many there are.
        seeds: that all of them have.
        scores: by metric, the mean, with its interval over orders.
        parts: by metric, the spread.
    """

    label: str
    number: int
    orders: int
    seeds: int
    scores: Mapping[str, Mean | None]
    parts: Mapping[str, Spread | None]


def orders_of(comparison: Compared) -> list[tuple[Section, ...]]:
    """Sections that are one stream on one backbone in two class orders or more."""
    found: dict[Any, list[Section]] = defaultdict(list)
    for section in comparison.sections:
        run = section.groups[0].runs[0]
        settings = run.settings
        if not run.recipe or settings.get("stream.classes") is not None:
            continue  # nobody knows, or its own lists of classes
        rest = {k: str(v) for k, v in settings.items() if k.startswith("stream.")}
        rest = {k: v for k, v in rest.items() if k not in ORDERS}
        key = run.stream, section.backbone, len(section.tasks), tuple(sorted(rest.items()))
        found[key].append(section)
    return [tuple(sections) for sections in found.values() if len(sections) > 1]


def over_orders(
    sections: Sequence[Section], scenario: Scenario, metrics: Sequence[str] = SHOWN
) -> list[OrdersRow]:
    """The methods that all orders have, by their mean of the first metric.

    Args:
        sections: of one stream, see :func:`orders_of`.
        scenario: which accuracies to read.
        metrics: keys of :data:`clbench.report.metrics.METRICS`.
    """
    rows = []
    for group in sections[0].groups:
        mates = [next((g for g in s.groups if g.label == group.label), None) for s in sections]
        there = [mate for mate in mates if mate is not None]
        seeds = set.intersection(*({run.seed for run in g.finished} for g in there))
        if len(there) < len(sections) or not seeds:
            continue
        scores, parts = dict[str, Mean | None](), dict[str, Spread | None]()
        for metric in metrics:
            values = [g.by_seed(metric, scenario) for g in there]
            common = sorted(set.intersection(*(set(v) for v in values)))
            table = [[v[seed] for seed in common] for v in values]
            means = [float(np.mean(row)) for row in table if row]
            scores[metric] = mean_of(means, within=bounds(metric)) if common else None
            parts[metric] = spread(table) if common else None
        rows.append(OrdersRow(group.label, group.number, len(there), len(seeds), scores, parts))

    def place(row: OrdersRow) -> tuple[float, str]:
        first = row.scores[metrics[0]]
        return (-first.mean if first else 1.0, row.label)

    return sorted(rows, key=place)


def spread(table: Sequence[Sequence[float]]) -> Spread:
    """The parts of a score's spread.

    Args:
        table: (O, S), a row for each order, two at least, and a column for each seed.

    >>> found = spread([[0.5, 0.7], [0.1, 0.3]])  # orders 0.4 apart, seeds 0.2, and no rest
    >>> round(found.order, 3), round(found.seed, 3), round(found.rest, 3)
    (0.283, 0.141, 0.0)
    """
    x = np.asarray(table, dtype=np.float64)
    orders, seeds = x.shape
    by_order = float(x.mean(1).var(ddof=1))
    if seeds == 1:
        return Spread(math.sqrt(by_order), None, None)
    rest = x - x.mean(1, keepdims=True) - x.mean(0, keepdims=True) + x.mean()
    left = float((rest**2).sum()) / ((orders - 1) * (seeds - 1))
    by_seed = float(x.mean(0).var(ddof=1))
    return Spread(
        math.sqrt(max(0.0, by_order - left / seeds)),
        math.sqrt(max(0.0, by_seed - left / orders)),
        math.sqrt(left),
    )


def orders_table(sections: Sequence[Section], scenario: Scenario) -> Table | None:
    """The methods over the class orders of a stream; None if no method has all orders."""
    rows = over_orders(sections, scenario)
    if not rows:
        return None
    first, *others = (m for m in SHOWN if any(row.scores[m] for row in rows))
    heads = [
        Head("Method"),
        Head("Orders × seeds"),
        Head(METRICS[first].label, METRICS[first].about, METRICS[first].better, True),
        *(
            Head(f"± of {part}", f"standard deviation of the {part}")
            for part in ("orders", "seeds")
        ),
        Head("± rest", "standard deviation that neither explains"),
        *(Head(METRICS[m].label, METRICS[m].about, METRICS[m].better) for m in others),
    ]
    body = [
        [
            Entry(row.label, row.label, group=row.number),
            Entry(f"{row.orders} × {row.seeds}"),
            score_cell(row.scores[first], METRICS[first].unit),
            *map(_spread_cell, _each(row.parts[first])),
            *(score_cell(row.scores[m], METRICS[m].unit) for m in others),
        ]
        for row in rows
    ]
    section, scenarios = sections[0], sections[0].scenarios
    title = f"{section.stream}, {section.backbone}, {len(sections)} class orders"
    return Table(f"{title}, {scenarios[scenario]}", heads, body, NOTE)


def orders_tables(comparison: Compared) -> list[Table]:
    """Those of all streams that were run in several class orders."""
    made = (
        orders_table(sections, scenario)
        for sections in orders_of(comparison)
        for scenario in sections[0].scenarios
    )
    return [table for table in made if table]


def _each(parts: Spread | None) -> tuple[float | None, ...]:
    return (parts.order, parts.seed, parts.rest) if parts else (None, None, None)


def _spread_cell(value: float | None) -> Entry:
    return Entry(show(value, "accuracy"), value)


def orders_csv(comparison: Compared) -> str:
    """Every method over the class orders of every stream."""

    def lines() -> Iterator[dict[str, Any]]:
        for sections in orders_of(comparison):
            for scenario in sections[0].scenarios:
                for row in over_orders(sections, scenario):
                    flat: dict[str, Any] = {
                        "stream": sections[0].stream,
                        "backbone": sections[0].backbone,
                        "scenario": scenario,
                        "method": row.label,
                        "orders": row.orders,
                        "seeds": row.seeds,
                    }
                    for metric, found in row.scores.items():
                        flat[metric] = found.mean if found else None
                        flat[f"{metric}_low"] = found.low if found else None
                        flat[f"{metric}_high"] = found.high if found else None
                        names = ("order", "seed", "rest")
                        parts = zip(names, _each(row.parts[metric]), strict=True)
                        flat |= {f"{metric}_std_of_{name}": value for name, value in parts}
                    yield flat

    return csv_text(lines())
