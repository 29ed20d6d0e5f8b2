import importlib.util
import json
from pathlib import Path

import pytest

from clbench.errors import ClbenchError
from clbench.report.compare import compare
from clbench.report.sweeps import sweeps

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)


def test_groups_that_differ_in_one_number_are_a_sweep(tmp_path):
    for p, op in ((1.0, 0.6), (0.5, 0.8), (0.9, 0.7)):
        for seed in range(2):
            made_up.run_folder(
                tmp_path, {"sfa": {"p": p, "beta": 0.5}}, seed, op + seed / 100,
                folder=f"{p}-{seed}", retention=1 - op,
            )  # fmt: skip
    made_up.run_folder(tmp_path, None)
    comparison = compare([tmp_path])
    (found,) = sweeps(comparison.sections[0], "task_incremental")
    assert found.label == "sfa, p"
    assert [point.text for point in found.points] == ["0.5", "0.9", "1"]
    assert [p.scores["overall_performance"] for p in found.points] == pytest.approx(
        [0.805, 0.705, 0.605]
    )
    assert found.points[0].scores["retention"] == pytest.approx(0.2)
    retention, transfer = comparison.figure("trade_off").axes
    assert sorted(text.get_text() for text in retention.texts) == ["0.5", "0.9", "1"]
    assert (retention.get_ylabel(), transfer.get_ylabel()) == (
        "retention of pretraining",
        "BWT (points)",
    )


def test_a_grid_is_a_curve_for_each_line(tmp_path):
    for p in (0.5, 0.9):
        for beta in (0.1, 0.2):
            made_up.run_folder(tmp_path, {"sfa": {"p": p, "beta": beta}}, folder=f"{p}-{beta}")
    found = sweeps(compare([tmp_path]).sections[0], "task_incremental")
    assert {sweep.label for sweep in found} == {
        "sfa, p (beta=0.1)",
        "sfa, p (beta=0.2)",
        "sfa, beta (p=0.5)",
        "sfa, beta (p=0.9)",
    }


def test_other_differences_are_no_sweep(tmp_path):
    made_up.run_folder(tmp_path, {"sfa": {"p": 0.5, "beta": 0.1}}, folder="a")
    made_up.run_folder(tmp_path, {"sfa": {"p": 0.9, "beta": 0.2}}, folder="b")
    made_up.run_folder(tmp_path, {"hft": {"redraw": True}}, folder="c")
    made_up.run_folder(tmp_path, {"hft": {"redraw": False}}, folder="d")
    comparison = compare([tmp_path])
    assert sweeps(comparison.sections[0], "task_incremental") == []
    with pytest.raises(ClbenchError, match="trade_off has nothing to show"):
        comparison.figure("trade_off")


def row(value, op, retention=None):
    scenario = {"task_incremental": op, "class_incremental": op / 2}
    return {
        "value": value,
        "validation": op,
        "overall_performance": scenario,
        "backward_transfer": {"task_incremental": -0.1, "class_incremental": None},
        "retention": retention,
    }


def test_sweeps_after_training_with_choice_and_oracle(tmp_path):
    for seed, (chosen, oracle) in enumerate(((0, 1), (1, 1))):
        folder = made_up.run_folder(tmp_path, {"wise_ft": {"alpha": 0.5}}, seed)
        rows = [row(0.2, 0.5 + seed / 10), row(0.4, 0.7 + seed / 10)]
        told = {"parameter": "methods.wise_ft.alpha", "rows": rows}
        told |= {"chosen": chosen, "oracle": oracle}
        (folder / "sweep-alpha.json").write_text(json.dumps(told))
    comparison = compare([tmp_path])
    (found,) = sweeps(comparison.sections[0], "task_incremental")
    assert found.label == "wise_ft, alpha after training"
    assert [p.scores["overall_performance"] for p in found.points] == pytest.approx([0.55, 0.75])
    # Each seed chose for itself: 0.5 at seed 0 and 0.8 at seed 1.
    assert found.chosen.scores["overall_performance"] == pytest.approx((0.5 + 0.8) / 2)
    assert (found.chosen.text, found.oracle.text) == ("0.2, 0.4", "0.4")
    assert found.oracle.scores["overall_performance"] == pytest.approx(0.75)
    (axis,) = comparison.figure("trade_off").axes
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xdata()[0] for line in hollow] == pytest.approx([0.75])
    legend = [text.get_text() for text in comparison.figure("trade_off").legends[0].get_texts()]
    assert "best on test (oracle)" in legend


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        '{"rows": []}',
        '{"rows": [{"no": 1}]}',
        '{"rows": [{"value": 1}], "chosen": 7, "oracle": null}',
        '{"rows": [{"value": "auto", "overall_performance": 3}]}',
    ],
)
def test_strange_files_do_not_stop_the_report(tmp_path, text):
    folder = made_up.run_folder(tmp_path, None)
    (folder / "sweep-x.json").write_text(text)
    comparison = compare([tmp_path])
    for found in sweeps(comparison.sections[0], "class_incremental"):
        assert found.chosen is None
    with pytest.raises(ClbenchError, match="nothing to show"):
        comparison.figure("trade_off")
