import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

from clbench.errors import ClbenchError
from clbench.report import tables
from clbench.report.build import build
from clbench.report.compare import compare

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)

TUNING = {
    "tries": 2,
    "tasks": 3,
    "scenario": "class_incremental",
    "seed": 5,
    "cells": [
        {
            "name": "digits-cnn-sfa",
            "method": "sfa",
            "space": {"methods.sfa.beta": {"low": 0.1, "high": 0.9}},
            "tries": [
                {
                    "number": 0,
                    "settings": {"methods.sfa.beta": 0.4},
                    "value": 0.91,
                    "state": "finished",
                    "reason": "",
                    "folder": "tries/0",
                },
                {
                    "number": 1,
                    "settings": {"methods.sfa.beta": 0.8},
                    "value": None,
                    "state": "failed",
                    "reason": "<b>the loss is not finite</b>",
                    "folder": "tries/1",
                },
            ],
            "chosen": 0,
        }
    ],
}


@pytest.fixture
def suite(tmp_path):
    made_up.run_folder(tmp_path / "runs", {"sfa": {}})
    for number in range(2):
        made_up.run_folder(
            tmp_path / "tries", {"sfa": {}}, op=0.1, folder=str(number), test_on="validation"
        )
    (tmp_path / "tuning.json").write_text(json.dumps(TUNING))
    return tmp_path


@pytest.mark.parametrize("place", ["", "runs", "runs/sfa-seed0"])
def test_found_in_the_suite_and_from_its_runs(suite, place):
    (tuning,) = compare([suite / place]).tunings
    assert (tuning.budget, tuning.tasks, tuning.seed) == (2, 3, 5)
    assert tuning.cells[0].tries[1].value is None


def test_tries_are_in_no_result(suite):
    comparison = compare([suite])
    (row,) = comparison.sections[0].leaderboard("task_incremental")
    assert row.scores["overall_performance"].mean == pytest.approx(0.8)
    assert comparison.notes == (
        "2 runs are tries, scored on validation data, and in no table of results.",
    )
    with pytest.raises(ClbenchError, match="all 2 runs are tries"):
        compare([suite / "tries"])


def test_the_page_shows_every_try(suite):
    comparison = compare([suite])
    text = build(comparison, suite / "report").read_text()
    assert "2 runs are tries" in text
    assert "Every method had 2 tries, no more and no less." in text
    assert "first 3 tasks of the stream with seed 5" in text
    assert "class-incremental accuracy on their validation data" in text
    assert "<strong>digits-cnn-sfa</strong>, 2 tries; chosen: sfa.beta = 0.4" in text
    assert "failed: &lt;b&gt;the loss is not finite" in text
    rows = list(csv.DictReader(io.StringIO(tables.tuning_csv(comparison))))
    assert [(r["try"], r["validation"], r["chosen"]) for r in rows] == [
        ("0", "0.91", "True"),
        ("1", "", "False"),
    ]
    assert (suite / "report" / "tuning.csv").is_file()


def test_given_from_python(tmp_path):
    made_up.run_folder(tmp_path, {"sfa": {}})
    assert compare([tmp_path]).tunings == ()
    (tuning,) = compare([tmp_path], tuning=TUNING).tunings
    assert compare([tmp_path], tuning=tuning).tunings == (tuning,)
    with pytest.raises(ClbenchError, match="no tuning"):
        compare([tmp_path], tuning={"cells": [{"tries": 3}]})


def test_a_broken_file_is_a_warning(suite):
    (suite / "tuning.json").write_text('{"cells": 3')
    comparison = compare([suite])
    assert comparison.tunings == ()
    assert any("tuning.json cannot be read" in line for line in comparison.warnings)


def test_the_choice_is_in_markdown_and_latex(suite):
    comparison = compare([suite])
    text = tables.markdown(comparison)
    assert "### Tuning" in text
    assert "| digits-cnn-sfa | 2 | sfa.beta = 0.4 | 91.0 |" in text
    assert "test data were never read" in text
    assert r"digits-cnn-sfa & 2 & sfa.beta = 0.4 & 91.0 \\" in tables.latex(comparison)


def test_nothing_of_an_earlier_report_stays(suite, tmp_path):
    output = tmp_path / "report"
    (output / "figures").mkdir(parents=True)
    (output / "figures" / "mine.svg").write_text("")
    (output / "figures" / "bars-task_incremental-3-other.svg").write_text("")
    build(compare([suite]), output)
    before = {path.name for path in (output / "figures").iterdir()}
    assert "mine.svg" in before
    assert "bars-task_incremental-3-other.svg" not in before
    (suite / "tuning.json").unlink()
    build(compare([suite]), output)
    assert not (output / "tuning.csv").exists()
    assert {path.name for path in (output / "figures").iterdir()} == before
