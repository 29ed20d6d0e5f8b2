"""Two versions of a stream never share a table."""

import pytest
from report.made_up import run_folder

from clbench.errors import ClbenchError
from clbench.record import trust
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.pooled import shared
from clbench.streams import STREAMS
from clbench.streams.base import VERSIONS


def test_versions_have_tables_of_their_own(tmp_path):
    for method in ({}, {"sfa": {}}):
        for version in (None, 1, 2):  # records before there were versions have none
            told = {} if version is None else {"stream_version": version}
            for seed in (0, 1):
                place = tmp_path / str(version) / str(seed)
                run_folder(place, method, seed + 5 * (version or 0), **told)
    made = compare([tmp_path])
    assert [s.stream for s in made.sections] == ["split_digits", "split_digits version 2"]
    assert [len(group.runs) for group in made.sections[0].groups] == [4, 4]
    assert [len(group.runs) for group in made.sections[1].groups] == [2, 2]
    told = [line for line in made.warnings if "several versions" in line]
    assert len(told) == 1
    assert told[0].startswith("split_digits is there in several versions, each with tables of its")
    assert shared(made) == []
    page = build(made, tmp_path / "report").read_text()
    assert told[0] in page
    assert "split_digits version 2, " in page
    assert len(compare([tmp_path / "1"]).sections) == 1


def test_a_version_is_a_number(tmp_path):
    folder = run_folder(tmp_path, stream_version=2)
    record = folder / "record.jsonl"
    text = record.read_text()
    assert '"stream_version": 2' in text
    record.write_text(text.replace('"stream_version": 2', '"stream_version": [2]'))
    with pytest.raises(ClbenchError, match="stream_version"):
        trust.record_of(folder)


def test_streams_that_were_not_changed_have_the_first(monkeypatch):
    config = STREAMS["split_digits"].model_validate({"name": "split_digits"})
    assert config.version == 1
    monkeypatch.setitem(VERSIONS, "split_digits", 3)
    assert config.version == 3
    assert set(VERSIONS) <= set(STREAMS)
