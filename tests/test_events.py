"""The lines of a record: their versions, their published schema, and how much room they take.

PYTHONPATH=.:tests python tests/test_events.py         writes docs/record.schema.json anew
"""

import json
from pathlib import Path
from typing import Annotated

import pytest
import records
from pydantic import Field, TypeAdapter
from report.made_up import run_folder

from clbench.errors import ClbenchError
from clbench.record import trust
from clbench.record.events import VERSION, EndEvent, PretrainedEvent, RunEvent, TaskEvent
from clbench.record.record import Record
from clbench.report.compare import compare

ROOT = Path(__file__).parents[1]
SCHEMA = ROOT / "docs" / "record.schema.json"


def schema():
    kinds = RunEvent | PretrainedEvent | TaskEvent | EndEvent
    made = TypeAdapter(Annotated[kinds, Field(discriminator="event")]).json_schema()
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of record.jsonl",
        "version": VERSION,
    }
    return json.loads(json.dumps(about | made))


def test_the_schema_that_is_published_is_that_of_the_models():
    assert json.loads(SCHEMA.read_text()) == schema(), "see the top of this file"


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/results/*/"))[:20], ids=lambda p: p.name)
def test_records_that_were_kept_are_read(path):
    for kept in sorted(path.rglob("record.jsonl"))[::10]:
        record = trust.record_of(kept.parent)
        assert record.run.version in range(VERSION + 1)
        assert record.finished
        assert not any(event.unknown for event in record.events)
        lines = kept.read_text().splitlines(keepends=True)
        assert [event.text for event in record.events] == lines
        last = json.loads(lines[-2])
        known = last["evaluated"] if "evaluated" in last else [last["first"]]
        assert record.tasks[-1].evaluated[0] == known[0]
        assert record.tasks[-1].task_incremental == last["task_incremental"]


def as_of_version_0(folder):
    """Take out what the first records did not say, and say what they said otherwise."""

    def change(event):
        if event["event"] == "run":
            for key in ("version", "shared_labels", "recipe", "warnings", "test_on"):
                del event[key]
            event["weights"] = None
        if event["event"] == "task":
            for key in ("validation", "remarks", "distance", "distance_over", "modes", "loss"):
                del event[key]
            for part in (event, *event["curve"]):
                first = part.pop("first")
                part["evaluated"] = list(range(first, first + len(part["task_incremental"])))

    records.edit(folder, change)


def test_a_record_of_version_0_is_as_one_of_today(tmp_path):
    new, old = (run_folder(tmp_path, {"sfa": {}}, 1, folder=name) for name in ("new", "old"))
    as_of_version_0(old)
    before, now = trust.record_of(old), trust.record_of(new)
    assert before.run.version == 0
    assert before.summary() == now.summary()
    assert list(before.curves()) == list(now.curves())
    assert before.run.weights.sha256 is None
    assert before.tasks[0].distance_over == "all"
    # What goes on with it writes lines of today to it.
    path = old / "record.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], now.tasks[1].text, lines[-1]]))
    assert trust.record_of(old).summary() == now.summary()


def test_reports_say_which_older_versions_they_read(tmp_path):
    folders = [run_folder(tmp_path, {"sfa": {}}, seed, config={}) for seed in range(3)]
    assert not compare([tmp_path]).notes
    for folder in folders[1:]:
        as_of_version_0(folder)
    (note,) = compare([tmp_path]).notes
    assert note.startswith("Records of an older version than 1: 2 of version 0;")


def test_a_later_version_is_refused_in_one_line(tmp_path):
    folder = run_folder(tmp_path, folder="one")
    records.edit(folder, lambda event: event.update(version=VERSION + 1))
    with pytest.raises(ClbenchError, match="is of version 2, and this clbench reads") as caught:
        Record.load(folder)
    assert "\n" not in str(caught.value)


def test_fields_and_events_that_no_run_writes_are_kept_and_named(tmp_path):
    folder = run_folder(tmp_path, folder="one", config={})
    records.edit(folder, lambda event: event.update(mine=[{"deep": [1]}]))
    path = folder / "record.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines.insert(2, '{"event": "note", "text": "x"}\n')
    path.write_text("".join(lines))
    assert [event.text for event in Record.load(folder).events] == lines
    comparison = compare([tmp_path])
    assert len(comparison.runs) == 1
    (problem,) = comparison.problems
    assert "record.jsonl has events note, mine, which no run writes" in problem


def test_what_no_record_holds_is_not_written():
    with pytest.raises(ClbenchError, match=r"the event task: seconds = -1.0: Input should be"):
        records.task_event(0, seconds=-1.0)
    with pytest.raises(AssertionError, match="secondes"):
        records.task_event(0, secondes=1.0)


def size(count):
    """Bytes of the record of a stream of ``count`` tasks, and of the accuracies in it."""
    methods = {"sfa": {"active": 1.0, "scope": 0.5}}
    made, accuracies = 0, 0
    for task in range(count):
        row = [0.9444444444444444] * (task + 1)
        told = records.measured(0, row)
        event = records.task_event(
            task,
            told,
            validation=told,
            curve=[told | {"step": 5}],
            methods=methods,
            footprint={"sfa": records.FOOTPRINT},
        )
        made += len(event.text)
        accuracies += 6 * len(json.dumps(row))
    names = [f"task {task}" for task in range(count)]
    about = records.run_event(tasks=names, class_names=names)
    return made + len(about.text), accuracies


def test_a_record_grows_with_its_tasks_but_for_their_accuracies():
    """One accuracy for each task that is tested is all that may grow by the square."""
    rest = {count: whole - accuracies for count, (whole, accuracies) in
            ((count, size(count)) for count in (10, 100, 1000))}  # fmt: skip
    assert rest[100] < 10.5 * rest[10]
    assert rest[1000] < 10.5 * rest[100]


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
