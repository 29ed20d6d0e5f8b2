"""Two versions of a stream never share a table."""

import pytest
from report.made_up import run_folder

import clbench
from clbench.errors import ClbenchError
from clbench.record import trust
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.pooled import shared
from clbench.runner.tasks import Run
from clbench.streams import STREAMS
from clbench.streams.base import VERSIONS
from clbench.suite.done import survey
from clbench.suite.suite import expand
from clbench.sweep import sweep


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


@pytest.fixture
def planned(recipe, tmp_path):
    """A suite of one run, which is finished."""
    stream = recipe["stream"] | {"pretrain_classes": [], "tasks": 5, "first_tasks": 2}
    model = recipe["model"] | {"weights": "none"}
    base = recipe | {"stream": stream, "model": model, "methods": {}}
    suite = {"base": base, "methods": {"averaged": {"wise_ft": {}}}, "seeds": [0]}
    runs = expand(suite, "suite").runs
    clbench.run(runs[0].recipe, tmp_path / "runs" / runs[0].name)
    return runs


def test_a_suite_runs_a_new_version_anew(planned, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "runs"
    assert [place.state for place in survey(planned, folder)] == ["finished"]
    monkeypatch.setitem(VERSIONS, "split_digits", 2)
    capsys.readouterr()
    [place] = survey(planned, folder)
    assert place.state == "new"
    assert place.folder == folder / f"version2-{planned[0].name}"
    told = capsys.readouterr().out
    assert told.startswith("1 runs on other versions of their streams are not reused, as ")
    assert "(version 1)." in told
    clbench.run(planned[0].recipe, place.folder)
    assert [one.state for one in survey(planned, folder)] == ["finished"]
    assert [s.stream for s in compare([folder]).sections] == [
        "split_digits",
        "split_digits version 2",
    ]


TOLD = r"rules of the stream of .* any more \(version 2, then 1\)"


def test_a_run_of_another_version_is_not_swept(planned, tmp_path, monkeypatch):
    monkeypatch.setitem(VERSIONS, "split_digits", 2)
    with pytest.raises(ClbenchError, match=TOLD):
        sweep(tmp_path / "runs" / planned[0].name, "alpha", [0.0])


def test_a_run_of_another_version_is_not_resumed(recipe, tmp_path, monkeypatch, no_pictures):
    prepare = Run._prepare

    def stop(run, recipe, task, clock):
        if task.index == 1:
            raise InterruptedError
        return prepare(run, recipe, task, clock)

    monkeypatch.setattr(Run, "_prepare", stop)
    with pytest.raises(InterruptedError):
        clbench.run(recipe, tmp_path / "run")
    monkeypatch.setattr(Run, "_prepare", prepare)
    monkeypatch.setitem(VERSIONS, "split_digits", 2)
    with pytest.raises(ClbenchError, match=TOLD):
        clbench.run(recipe, tmp_path / "run", resume=True)
    monkeypatch.delitem(VERSIONS, "split_digits")
    assert clbench.run(recipe, tmp_path / "run", resume=True).finished
