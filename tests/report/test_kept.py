import csv
import importlib.util
import io
from pathlib import Path

import pytest
import records

from clbench.report import tables
from clbench.report.compare import compare
from clbench.report.kept import kept_lines

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)


def independent(place, methods, seed, op, kept, before, **more):
    """A run of two independent tasks with their own retention each."""
    folder = made_up.run_folder(place, methods, seed, op, independent=True, **more)

    def change(event):
        if event["event"] == "pretrained":
            event["retention"]["top1"] = before
        if event["event"] == "task":
            event["retention"] = {"top1": kept[event["task"]], "top5": 1.0}
            event |= records.measured(event["task"], [op]) | {"curve": []}

    records.edit(folder, change)


def transfer(place, backbone="small", better=0.0):
    for seed in range(2):
        more = {"backbone": backbone, "stream": "transfer"}
        for name, methods, op, kept in (
            ("sequential", None, 0.9, (0.2, 0.4)),
            ("flow", {"flow": {}}, 0.85, (0.6, 0.7)),
        ):
            independent(
                place, methods, seed, op + better + seed / 100, kept, 0.7 + better,
                folder=f"{backbone}-{name}-{seed}", title=f"transfer-{name}-seed{seed}", **more,
            )  # fmt: skip


def test_the_columns_of_flows_table(tmp_path):
    transfer(tmp_path)
    (section,) = compare([tmp_path]).sections
    start, plain, flow = kept_lines(section, "task_incremental")
    assert [line.label for line in (start, plain, flow)] == ["pretrained", "sequential", "flow"]
    assert (start.retention.mean, start.change.mean, start.target) == (0.7, 0, None)
    # Every data set has a model of its own, so retention is their mean.
    assert plain.retention.mean == pytest.approx(0.3)
    assert plain.change.mean == pytest.approx(-0.4)
    assert (plain.target.mean, plain.gap.mean) == (pytest.approx(0.905), 0)
    assert flow.gap.mean == pytest.approx(-0.05)
    assert flow.average.mean == pytest.approx((0.855 + 0.65) / 2)


def test_a_block_for_each_backbone(tmp_path):
    transfer(tmp_path)
    transfer(tmp_path, "large", 0.05)
    comparison = compare([tmp_path])
    text = tables.markdown(comparison)
    assert "| Backbone | Method | Retention |" in text
    assert "| large | flow | " in text
    rows = list(csv.DictReader(io.StringIO(tables.kept_csv(comparison))))
    assert len(rows) == 2 * 2 * 3
    found = next(r for r in rows if (r["backbone"], r["method"]) == ("large", "flow"))
    assert float(found["retention_minus_pretrained"]) == pytest.approx(0.65 - 0.75)
    assert float(found["target_minus_sequential"]) == pytest.approx(-0.05)
    assert r"$\Delta$ standard FT" in tables.latex(comparison)


def test_in_a_stream_the_last_models_retention_counts(tmp_path):
    made_up.run_folder(tmp_path, None, retention=0.4)
    (section,) = compare([tmp_path]).sections
    assert kept_lines(section, "task_incremental")[1].retention.mean == 0.4


def test_without_retention_there_is_no_table(tmp_path):
    made_up.run_folder(tmp_path, None, retention=None)
    comparison = compare([tmp_path])
    assert kept_lines(comparison.sections[0], "task_incremental") == []
    assert "retention and target" not in tables.markdown(comparison)
