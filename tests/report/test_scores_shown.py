"""Average incremental accuracy and the scores over images in a report's tables."""

import csv
import io
import json

import pytest
import records
from report import made_up

from clbench.report import tables
from clbench.report.boards import leaderboard
from clbench.report.compare import compare


def runs(place, sizes, ahead=False):
    """Two methods, three seeds: accuracies 0.8, then 0.4 and 0.8, then all of it a little more."""
    for seed in range(3):
        for number, methods in enumerate((None, {"sfa": {}})):
            folder = made_up.run_folder(place, methods, seed, 0.8, test_images=sizes)
            lines = [json.loads(x) for x in (folder / "record.jsonl").read_text().splitlines()]
            gain = 0.1 * number + 0.01 * seed
            lines[2] |= {"task_incremental": [0.8 + gain]}
            lines[3] |= {"task_incremental": [0.4 + gain, 0.8 + gain]}
            if ahead:
                lines[1]["ahead"] = records.measured(0, [0.1, 0.1], [0.1, 0.1])
                lines[2]["ahead"] = records.measured(1, [0.3 + gain], [0.3 + gain])
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "record.jsonl").write_text(text)
    return compare([place])


def heads(comparison):
    (section,) = comparison.sections
    return [head.text for head in leaderboard(section, "task_incremental").heads]


def test_scores_over_images_are_shown_where_they_differ(tmp_path):
    shown = heads(runs(tmp_path / "equal", [20, 20]))
    assert shown[2:5] == ["OP", "ΔOP sequential", "Ā"]
    assert "ΔĀ sequential" in shown
    assert not [head for head in shown if "micro" in head or head in ("FWT", "Transfer", "Avg")]
    assert {"OP micro", "Ā micro"} <= set(heads(runs(tmp_path / "unequal", [30, 10])))
    assert not [head for head in heads(runs(tmp_path / "old", None)) if "micro" in head]


def test_values_and_differences_are_in_the_csv(tmp_path):
    comparison = runs(tmp_path, [30, 10], ahead=True)
    rows = list(csv.DictReader(io.StringIO(tables.leaderboard_csv(comparison))))
    sfa, plain = (
        next(r for r in rows if r["method"] == m and r["scenario"] == "task_incremental")
        for m in ("sfa", "sequential")
    )
    wanted = {
        "overall_performance": 0.61,
        "overall_performance_micro": (0.4 * 3 + 0.8) / 4 + 0.01,
        "average_incremental_accuracy": 0.71,
        "average_incremental_accuracy_micro": (0.8 + 0.5) / 2 + 0.01,
        "forward_transfer": 0.21,
        "mtil_transfer": 0.31,
        "mtil_average": (0.8 + 0.3 + 0.4 + 0.8) / 4 + 0.01,
        "min_accuracy": 0.41,
        "worst_case_accuracy": 0.61,
        "kept": 1.0,
    }
    assert {name: float(plain[name]) for name in wanted} == pytest.approx(wanted)
    for name in wanted.keys() - {"kept"}:
        assert float(sfa[f"{name}_minus_sequential_mean"]) == pytest.approx(0.1)
    assert {"FWT", "Transfer", "Avg", "min-ACC", "√(OP·kept)"} <= set(heads(comparison))
    assert "Ā" in tables.markdown(comparison)
    assert "Ā" in tables.latex(comparison)
