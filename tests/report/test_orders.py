"""Class orders: the parts of a score's spread, and which runs are one stream in several orders."""

import csv
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.orders import orders_csv, orders_of, orders_tables, spread

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)

OP = {  # by order and seed
    "sequential": [[0.5, 0.52], [0.6, 0.66], [0.4, 0.41]],
    "sfa": [[0.7, 0.7], [0.71, 0.72], [0.69, 0.7]],
}


def orders(place, stream=None, left_out=()):
    for order in range(3):
        for name, scores in OP.items():
            for seed, op in enumerate(scores[order]):
                if (name, order, seed) in left_out:
                    continue
                methods = {} if name == "sequential" else {name: {}}
                own = {"name": "split_digits", "order_seed": order} | (stream or {})
                made_up.run_folder(
                    place,
                    methods,
                    seed,
                    op,
                    config={"stream": own},
                    names=[f"{order}a", f"{order}b"],
                    folder=f"{name}{order}{seed}",
                )
    return compare([place])


def slow_parts(x):
    """The variances by loops, as Searle, Casella and McCulloch write them."""
    n, m = len(x), len(x[0])
    mean = sum(map(sum, x)) / (n * m)
    rows = [sum(row) / m for row in x]
    columns = [sum(row[s] for row in x) / n for s in range(m)]
    rest = order = seed = 0.0
    for o in range(n):
        order += m * (rows[o] - mean) ** 2 / (n - 1)
        for s in range(m):
            rest += (x[o][s] - rows[o] - columns[s] + mean) ** 2 / ((n - 1) * (m - 1))
    for s in range(m):
        seed += n * (columns[s] - mean) ** 2 / (m - 1)
    return (order - rest) / m, (seed - rest) / n, rest


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (6, 2)])
def test_parts_of_the_spread(shape):
    g = np.random.default_rng(shape[1])
    x = (
        0.5
        + g.normal(0, 0.1, (shape[0], 1))
        + g.normal(0, 0.05, shape[1])
        + g.normal(0, 0.02, shape)
    )
    found = spread(x.tolist())
    wanted = [max(0.0, v) ** 0.5 for v in slow_parts(x.tolist())]
    assert [found.order, found.seed, found.rest] == pytest.approx(wanted)


def test_they_are_the_variances_that_the_scores_were_drawn_with():
    g = np.random.default_rng(0)
    drawn = np.zeros(3)
    for _ in range(400):
        x = g.normal(0, 3, (20, 1)) + g.normal(0, 2, 20) + g.normal(0, 1, (20, 20))
        found = spread(x.tolist())
        drawn += np.array([found.order, found.seed, found.rest]) ** 2 / 400
    assert drawn == pytest.approx([9, 4, 1], rel=0.06)


def test_one_seed_leaves_the_rest_with_the_orders():
    found = spread([[0.5], [0.7]])
    assert found.order == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert found.seed is found.rest is None


def test_the_report_has_them(tmp_path):
    found = orders(tmp_path / "runs")
    (sections,) = orders_of(found)
    assert len(sections) == 3
    task, _ = orders_tables(found)
    assert task.title == "split_digits, tiny_cnn, 3 class orders, task-incremental"
    rows = {line[0].text: [cell.text for cell in line[1:]] for line in task.body}
    assert list(rows) == ["sfa", "sequential"]
    parts = spread(OP["sequential"])
    shown = [f"{100 * value:.1f}" for value in (parts.order, parts.seed, parts.rest)]
    assert rows["sequential"][0] == "3 × 2"
    assert rows["sequential"][1].startswith(f"{100 * np.mean(OP['sequential']):.1f} ± ")
    assert rows["sequential"][2:5] == shown
    lines = list(csv.DictReader(io.StringIO(orders_csv(found))))
    plain = next(
        x for x in lines if (x["method"], x["scenario"]) == ("sequential", "task_incremental")
    )
    assert float(plain["overall_performance_std_of_order"]) == pytest.approx(parts.order)
    page = build(found, tmp_path / "report", "x").read_text()
    assert '<h2 id="orders">Class orders</h2>' in page
    assert (tmp_path / "report" / "class_orders.csv").read_text() == orders_csv(found)


def test_only_seeds_and_methods_that_all_orders_have_count(tmp_path):
    found = orders(tmp_path, left_out={("sfa", 1, 0), ("sfa", 1, 1), ("sequential", 2, 1)})
    task, _ = orders_tables(found)
    assert [(line[0].text, line[1].text) for line in task.body] == [("sequential", "3 × 1")]


def test_lists_of_classes_and_other_streams_are_no_orders(tmp_path):
    assert not orders_of(orders(tmp_path / "a", {"classes": [[1], [2]]}))
    assert not orders_tables(orders(tmp_path / "c", {"classes": [[1], [2]]}))
    one, other = tmp_path / "b" / "one", tmp_path / "b" / "other"
    for place, first in ((one, 2), (other, 3)):
        made_up.run_folder(
            place,
            config={"stream": {"name": "split_digits", "order_seed": 0, "first": first}},
            names=[f"{first}", "x"],
        )
    assert not orders_of(compare([tmp_path / "b"]))
