"""What a record must be to be read, and what is made of one that a crash or a person damaged."""

import json

import pytest
from records import end, pretrained, run_event, task_event

from clbench.errors import ClbenchError
from clbench.record.record import Record
from clbench.record.recorder import Recorder

EVENTS = [run_event(), pretrained(), task_event(0), task_event(1), end()]
LINES = [event.text[:-1] for event in EVENTS]


def load(folder, *lines, last="\n"):
    text = "\n".join(lines) + last
    (folder / "record.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(Record.load(folder).events)


def test_the_last_line_may_be_unfinished(tmp_path):
    assert load(tmp_path, *LINES) == EVENTS
    for length in range(1, len(LINES[3])):
        assert load(tmp_path, *LINES[:3], LINES[3][:length], last="") == EVENTS[:3]
    assert load(tmp_path, *LINES[:4], last="") == EVENTS[:4]  # all but its newline is there
    assert load(tmp_path, *LINES[:3], "\0" * 99, last="") == EVENTS[:3]  # as after a power cut
    assert load(tmp_path, "", last="") == []


@pytest.mark.parametrize(
    ("line", "number", "reason"),
    [
        ("", 3, "an empty line"),
        ('{"event": "ta', 3, "Unterminated string"),
        ("[1]", 3, "no event"),
        ('{"task": 1}', 3, "no event"),
        ('{"event": "task", "task": 0, "loss": NaN}', 3, "NaN is no number"),
        ('{"event": "task", "task": 0, "loss": -Infinity}', 3, "-Infinity is no number"),
        (LINES[3], 4, "task 1 twice"),
        ('{"event": "task", "task": null}', 3, "or no task"),
        ('{"event": "task"}', 3, "or no task"),
        (LINES[0], 3, "'run' out of its place"),
        ('{"event": "end"}', 4, "'task' out of its place"),
        ("[" * 100_000, 3, "recursion"),
        ("1" * 5000, 3, "digits"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, number, reason):
    lines = [*LINES[:2], line, LINES[3]]
    with pytest.raises(ClbenchError) as caught:
        load(tmp_path, *lines)
    assert str(caught.value).startswith(f"{tmp_path}/record.jsonl, line {number}, is damaged (")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_record_that_is_not_utf_8_or_lacks_its_beginning(tmp_path):
    (tmp_path / "record.jsonl").write_bytes(LINES[0].encode() + b'\n{"event": "\xff"}\n')
    with pytest.raises(ClbenchError, match=r"line 2, is damaged \('utf-8' codec"):
        Record.load(tmp_path)
    with pytest.raises(ClbenchError, match=r"line 1, is damaged \('pretrained' out of its place"):
        load(tmp_path, *LINES[1:])


def test_what_is_no_number_is_recorded_as_null(tmp_path):
    recorder = Recorder(tmp_path, EVENTS[:2])
    nothing = float("nan")
    activity = {"sfa": {"active": 1, "norm": nothing}}
    event = task_event(0, loss=nothing, distance={"previous": float("inf")}, methods=activity)
    recorder.add(event)
    assert Record.load(tmp_path).tasks == (event,) == recorder.record.tasks
    assert (event.loss, event.distance) == (None, {"previous": None})
    assert json.loads(event.text)["methods"] == {"sfa": {"active": 1, "norm": None}}


def test_what_is_recorded_is_read_again(tmp_path):
    recorder = Recorder(tmp_path, EVENTS[:2])
    recorder.add(EVENTS[2])
    assert Record.load(tmp_path).events == tuple(EVENTS[:3]) == recorder.record.events
    again = Recorder(tmp_path, recorder.record.until_task(0))
    assert again.sha256 == recorder.sha256 != Recorder(tmp_path, EVENTS[:2]).sha256
    assert recorder.record.until_task(1) == ()
