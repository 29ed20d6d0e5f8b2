"""The project's own records are submissions like any other: none of them is disputed."""

from pathlib import Path

import pytest

from clbench.submission import pack, verify

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDIES = sorted(folder.parent.name for folder in RESULTS.glob("*/records"))


def check(study, tmp_path):
    made = pack([RESULTS / study / "records"], tmp_path / "own.clbench.zip", study, ["clbench"])
    assert len(made.runs) == len(list((RESULTS / study / "records").rglob("record.jsonl")))
    assert not made.about.taken_out  # what is public says nothing of a machine
    rows = verify(made, data_dir=tmp_path / "no data")
    assert not [row for row in rows if row.verdict != "self-reported"]
    assert all(run.environment["of"] == "the study" for run in made.runs)


def test_a_small_study(tmp_path):
    check("retention_measures", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_every_study(study, tmp_path):
    check(study, tmp_path)
