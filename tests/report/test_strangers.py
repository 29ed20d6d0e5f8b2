"""Run folders that no run wrote: each is one line of warning, and the good ones are reported."""

import json
import os
import socket
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
import yaml
from records import measured
from report.made_up import run_folder

from clbench.cli.commands import command
from clbench.errors import ClbenchError
from clbench.record import reading, trust
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.gather import gather

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>${x}]]>-->\x1b[31m\u202e"


def set_(*path):
    """Sets a value deep in the events: the last of the path."""
    *keys, last, value = path

    def change(events):
        inner = events
        for key in keys:
            inner = inner[key]
        inner[last] = value

    return change


def drop(*path):
    *keys, last = path

    def change(events):
        inner = events
        for key in keys:
            inner = inner[key]
        del inner[last]

    return change


def as_of_version_0(events, evaluated):
    del events[0]["version"], events[3]["first"]
    events[3]["evaluated"] = evaluated


#: Events: 0 run, 1 pretrained, 2 and 3 tasks, 4 end.
RECORDS = {
    "title null": set_(0, "title", None),
    "title a list": set_(0, "title", ["a"]),
    "title of a million": set_(0, "title", "x" * 1_000_000),
    "half a character": set_(0, "title", "\ud800"),
    "stream null": set_(0, "stream", None),
    "methods a list": set_(0, "methods", ["sfa"]),
    "methods deep": set_(0, "methods", {"sfa": json.loads("[" * 90 + "]" * 90)}),
    "seed a text": set_(0, "seed", "0"),
    "seed a fraction": set_(0, "seed", 0.5),
    "seed true": set_(0, "seed", True),
    "seed huge": set_(0, "seed", 2**70),
    "no tasks": set_(0, "tasks", []),
    "tasks a number": set_(0, "tasks", 2),
    "too many tasks": set_(0, "tasks", ["x"] * 96_000),
    "other count of tasks": set_(0, "tasks", ["a", "b", "c"]),
    "tasks null": set_(0, "tasks", [None, None]),
    "weights a text": set_(0, "weights", "x"),
    "weights of numbers": set_(0, "weights", {"sha256": 1}),
    "no run": drop(0),
    "no parameters": drop(0, "parameters"),
    "no independent": drop(0, "independent"),
    "parameters infinite": set_(0, "parameters", float("inf")),
    "backbone a list": set_(0, "backbone", []),
    "no pretrained": drop(1),
    "retention a number": set_(1, "retention", 0.5),
    "retention above one": set_(1, "retention", "top1", 70.0),
    "retention only before": set_(2, "retention", None),
    "retained only before": set_(1, "retained", {"knn": 0.5}),
    "retained only after": set_(2, "retained", {"knn": 0.5}),
    "retained above one": set_(1, "retained", {"knn": 70.0}),
    "retained by too many": set_(1, "retained", {str(n): 0.5 for n in range(200)}),
    "retention NaN": set_(3, "retention", "top1", float("nan")),
    "end without tasks": drop(slice(2, 4)),
    "end without the last task": drop(3),
    "task twice": set_(3, "task", 0),
    "task negative": set_(3, "task", -1),
    "task beyond": set_(3, "task", 10**9),
    "accuracy NaN": set_(3, "task_incremental", [float("nan"), 0.5]),
    "accuracy infinite": set_(3, "class_incremental", [float("inf"), 0.5]),
    "accuracy in percent": set_(3, "task_incremental", [80.0, 70.0]),
    "accuracy negative": set_(3, "task_incremental", [-0.1, 0.5]),
    "accuracy true": set_(3, "task_incremental", [True, 0.5]),
    "accuracies too few": set_(3, "task_incremental", [0.5]),
    "evaluated beyond": set_(3, "first", 1),
    "evaluated far beyond": set_(3, "first", 10**8),
    "evaluated nothing": lambda events: events[3].update(task_incremental=[], class_incremental=[]),
    "validation unlike": set_(3, "validation", {"first": 0, "task_incremental": [0.5]}),
    "validation beyond": set_(3, "validation", measured(1, [0.5, 0.5])),
    "curve a mapping": set_(3, "curve", {}),
    "curve of nothing": set_(3, "curve", [{}]),
    "curve step infinite": set_(3, "curve", 0, "step", 1e400),
    "curve step a text": set_(3, "curve", 0, "step", "1"),
    "curve unlike": set_(3, "curve", 0, "class_incremental", [0]),
    "seconds zero": set_(3, "seconds", 0),
    "seconds negative": set_(3, "seconds", -1.0),
    "seconds null": set_(3, "seconds", None),
    "no seconds": drop(3, "seconds"),
    "step a float": set_(3, "last_step", 1.5),
    "memory negative": set_(3, "peak_memory_bytes", -1),
    "footprint null": set_(3, "footprint", None),
    "footprint lacks": set_(3, "footprint", {"sfa": {}}),
    "footprint infinite": set_(3, "footprint", "sfa", "stored_bytes", float("inf")),
    "methods unsaid": set_(3, "methods", {}),
    "active a text": set_(3, "methods", "sfa", "active", "yes"),
    "scope a text": set_(3, "methods", "sfa", "scope", "much"),
    "scope infinite": set_(3, "methods", "sfa", "scope", float("inf")),
    "remarks a text": set_(3, "remarks", "much"),
    "a remark a number": set_(3, "remarks", [3]),
    "a remark of nobody": set_(3, "remarks", [{"what": "noise", "detail": ""}]),
    "event a number": set_(2, 7),
    "event null": set_(2, None),
    "event a list": set_(2, []),
    "event unnamed": set_(2, {}),
    "version later": set_(0, "version", 2),
    "version negative": set_(0, "version", -1),
    "version true": set_(0, "version", True),
    "version of digits": set_(0, "version", 10**4000),
    "older, and out of order": lambda events: as_of_version_0(events, [1, 0]),
    "older, and twice": lambda events: as_of_version_0(events, [1, 1]),
    "older, and beyond": lambda events: as_of_version_0(events, [0, 10**8]),
    "older, and of nothing": lambda events: as_of_version_0(events, []),
    "older, and a text": lambda events: as_of_version_0(events, "01"),
    "run twice": lambda events: events.insert(1, events[0]),
}
#: Whole contents of record.jsonl.
TEXTS = {
    "no json": b"{",
    "deep": b"[" * 100_000,
    "deep mapping": b'{"event":' * 50_000,
    "utf-16": '{"event": "run"}\n'.encode("utf-16"),
    "zeros": b"\0" * 1000,
    "huge number": b'{"event": "run", "seed": ' + b"9" * 100_000 + b"}\n",
    "a list": b"[]\n",
    "a number": b"1\n2\n",
}
#: Whole contents of config.yaml.
CONFIGS = {
    "alias bomb": "a0: &a0 [x, x]\n"
    + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
    "merge bomb": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60)),
    "recursive": "a: &a [*a]\n",
    "deep flow": "a: " + "[" * 5000 + "]" * 5000,
    "deep block": "- " * 5000 + "x",
    "code": "a: !!python/object/apply:os.system ['touch marker']\n",
    "many keys": "\n".join(f"k{i}: 1" for i in range(60_000)),
    "long number": "a: " + "9" * 5000,
    "hexadecimal": "a: 0x" + "f" * 5000,
    "list": "[1, 2]\n",
    "text": "hello\n",
    "number keys": "1: 2\n",
    "broken": "a: [\n",
    "large": "a: " + "x" * 2_000_000,
}


def records(place):
    """Makes one folder for each kind of fault; returns their names."""
    for name, change in RECORDS.items():
        folder = run_folder(place, {"sfa": {"p": 0.5}}, 7, folder=name, config={})
        events = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
        change(events)
        (folder / "record.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    for name, content in TEXTS.items():
        folder = run_folder(place, folder=f"text {name}")
        (folder / "record.jsonl").write_bytes(content)
    for name, text in CONFIGS.items():
        folder = run_folder(place, {"sfa": {}}, folder=f"config {name}")
        (folder / "config.yaml").write_text(text)


def odd_files(place):
    """Makes folders in which something else stands in the place of a file."""
    for name in ("record.jsonl", "config.yaml"):
        for kind in ("link", "folder", "pipe", "socket", "dangling"):
            folder = run_folder(place, {"sfa": {}}, 8, folder=f"{kind} {name}", config={})
            path = folder / name
            text = path.read_text()
            path.unlink()
            if kind == "link":
                (folder / "other").write_text(text)
                path.symlink_to(folder / "other")
            elif kind == "dangling":
                path.symlink_to("/nowhere")
            elif kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                here = os.getcwd()
                os.chdir(folder)  # a socket's path is short
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(name)
                os.chdir(here)


def test_every_broken_folder_is_one_line_and_the_good_ones_are_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "runs"
    records(place)
    odd_files(place)
    broken = {path.name for path in place.iterdir()}
    assert len(broken) > 90
    for seed in range(2):
        run_folder(place, {"sfa": {}}, seed, folder=f"good {seed}", config={})
    began = time.process_time()
    comparison = compare([place])
    page = build(comparison, tmp_path / "report").read_text()
    assert time.process_time() - began < 10
    assert {run.folder.name for run in comparison.runs} == {"good 0", "good 1"}
    named = {name for name in broken for line in comparison.problems if line.startswith(name + " ")}
    assert named == broken
    assert len(comparison.problems) == len(broken)
    assert all("\n" not in line and len(line) <= 400 for line in comparison.problems)
    assert all(line.startswith(tuple(broken)) for line in comparison.problems)
    assert not (tmp_path / "marker").exists()
    assert "good 0" in page


@pytest.mark.parametrize("events", [0, 1])
def test_a_run_that_has_just_begun_is_one_line(tmp_path, events):
    run_folder(tmp_path, folder="good")
    path = run_folder(tmp_path, folder="new") / "record.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:events]))
    runs, problems = gather([tmp_path])
    assert len(runs) == 1
    assert problems == ["new has only just begun: nothing is measured yet."]


def test_a_record_of_a_gigabyte_is_not_read(tmp_path):
    folder = run_folder(tmp_path / "big")
    with (folder / "record.jsonl").open("r+b") as file:
        file.truncate(1 << 30)
    run_folder(tmp_path, folder="good")
    began = time.process_time()
    runs, problems = gather([tmp_path])
    assert time.process_time() - began < 2
    assert len(runs) == 1
    assert "record.jsonl has 1,073.7 MB, more than 67" in problems[0]


def test_a_record_of_too_many_values_is_not_parsed(tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text("[" + "[]," * 3_000_000 + "0]")
    with pytest.raises(ClbenchError, match="over 5,000,000 values"):
        reading.content_of(path)


def test_an_unreadable_file_is_one_line(tmp_path):
    run_folder(tmp_path, folder="good")
    folder = run_folder(tmp_path, folder="shut")
    (folder / "record.jsonl").chmod(0)
    if os.access(folder / "record.jsonl", os.R_OK):
        pytest.skip("root reads everything")
    assert "shut is left out: record.jsonl: Permission denied." in gather([tmp_path])[1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("environment.json", b"{"),
        ("environment.json", b"[1]"),
        ("environment.json", b'{"packages": {"torch": 1}}'),
        ("environment.json", b'{"python": ["x"]}'),
        ("environment.json", b"[" * 10_000),
        ("environment.json", b"\xff\xfe"),
        ("sweep-alpha.json", b"{}"),
        ("sweep-alpha.json", b'{"rows": []}'),
        ("sweep-alpha.json", b'{"rows": [{"value": 1e999}]}'),
        ("sweep-alpha.json", b'{"rows": [{"value": {}}]}'),
        ("sweep-alpha.json", b'{"rows": [{"value": 1, "retention": NaN}]}'),
        ("sweep-alpha.json", b'{"rows": [{"value": ' + b"9" * 400 + b"}]}"),
        ("sweep-alpha.json", b'{"rows": [{"value": 1, "overall_performance": {"x": 1}}]}'),
    ],
)
def test_what_lies_beside_a_record_is_passed_over_with_a_line(tmp_path, name, content):
    folder = run_folder(tmp_path, folder="one")
    (folder / name).write_bytes(content)
    runs, problems = gather([tmp_path])
    assert len(runs) == len(problems) == 1
    assert problems[0].startswith(f"one counts, but not all of its files: {name}")


@pytest.mark.parametrize(
    "cells",
    [
        {"tries": [{"value": 1e999}]},
        {"tries": [{"value": 70}]},
        {"tries": [{"value": True}]},
        {"tries": [{"number": 10**400}]},
        {"tries": [{"settings": [1]}]},
        {"tries": 3},
        {"tries": None},
        3,
    ],
)
def test_a_broken_tuning_is_one_line(tmp_path, cells):
    run_folder(tmp_path, folder="one")
    cells = {"name": "x"} | cells if isinstance(cells, dict) else cells
    (tmp_path / "tuning.json").write_text(json.dumps({"cells": [cells]}))
    (line,) = compare([tmp_path]).problems
    assert "tuning.json cannot be read" in line
    assert "\n" not in line


def test_the_screen_names_what_is_left_out(tmp_path, capsys):
    run_folder(tmp_path / "runs", folder="good")
    for number in range(25):
        (tmp_path / "runs" / f"bad{number}").mkdir()
        (tmp_path / "runs" / f"bad{number}" / "record.jsonl").write_text('{"event": "run"}\n')
    assert command(["report", str(tmp_path / "runs"), "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 21
    path = tmp_path / "runs" / "bad0" / "record.jsonl"
    assert lines[0].startswith(f"warning: bad0 is left out: {path}, line 1 (run): title")
    assert lines[-1] == "warning: 5 more folders; the report names them"
    assert shown.out.startswith("1 run, ")


def test_only_broken_folders_are_one_line(tmp_path):
    for number in range(30):
        (tmp_path / f"bad{number}").mkdir()
        (tmp_path / f"bad{number}" / "record.jsonl").write_text("[]\n")
    with pytest.raises(ClbenchError, match=r"there are no runs in .*And 27 more\.$") as caught:
        compare([tmp_path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["seconds zero", "end without tasks", "task twice"])
def test_what_goes_on_with_a_folder_refuses_it_in_one_line(tmp_path, change):
    folder = run_folder(tmp_path, {"sfa": {}}, config={})
    events = [json.loads(line) for line in (folder / "record.jsonl").read_text().splitlines()]
    RECORDS[change](events)
    (folder / "record.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    with pytest.raises(ClbenchError, match=r"cannot be gone on with: .*record\.jsonl") as caught:
        trust.whole_record(folder)
    assert "\n" not in str(caught.value)


def test_a_sweep_of_a_bomb_is_refused_in_one_line(tmp_path):
    folder = run_folder(tmp_path, {"sfa": {}})
    (folder / "config.yaml").write_text(CONFIGS["alias bomb"])
    from clbench.sweep.sweeping import sweep

    with pytest.raises(ClbenchError, match="alias") as caught:
        sweep(folder, "alpha", [0.5])
    assert "\n" not in str(caught.value)


class Tags(HTMLParser):
    """Collects the tags and attributes of a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_no_text_of_a_folder_becomes_markup(tmp_path):
    evil = EVIL
    for seed in range(2):
        folder = run_folder(
            tmp_path / "runs",
            {f"sfa{evil}": {"p": evil}},
            seed,
            folder=f"{evil.replace('/', '')}{seed}",
            title=f"{evil}-seed{seed}",
            stream=evil,
            backbone=evil,
            names=[evil, f"{evil}2"],
            source=evil,
            weights=evil + str(seed),
            manifest=evil + str(seed),
            torch=evil + str(seed),
            active=0.0,
            config={"note": evil, evil: evil},
        )
        row = {"value": evil[:90], "overall_performance": 0.5, "retention": 0.5}
        sweep = {"parameter": evil, "rows": [row, row]}
        (folder / f"sweep-{evil.replace('/', '')}.json").write_text(json.dumps(sweep))
    tries = [
        {"settings": {evil: evil}, "value": 0.5, "state": evil, "reason": evil, "folder": evil}
    ]
    cell = {"name": evil, "method": evil, "space": {evil: [evil]}, "tries": tries, "chosen": 0}
    (tmp_path / "runs" / "tuning.json").write_text(json.dumps({"cells": [cell], "scenario": evil}))
    output = tmp_path / "out"
    page = build(compare([tmp_path / "runs"], failures={evil: evil}), output, evil)
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    assert [tag for tag, _ in tags.found].count("script") == 1  # the page's own
    assert not any(tag == "img" for tag, _ in tags.found)
    assert not any(name.startswith("on") for _, attrs in tags.found for name in attrs)
    for path in output.rglob("*.*"):
        content = path.read_text()
        assert "\x1b" not in content
        assert "\u202e" not in content
        assert path.resolve().is_relative_to(output.resolve())
        assert len(path.name) < 160
        if path.suffix == ".svg":
            names = {element.tag.split("}")[1] for element in ElementTree.parse(path).iter()}
            assert not names & {"script", "img", "image", "foreignObject"} - {"image"}


def test_a_stream_of_3000_characters_is_reported(tmp_path):
    long = "стрим " * 500
    run_folder(
        tmp_path / "runs", {"sfa": {}}, stream=long, title=long, backbone=long, names=[long, "b"]
    )
    page = build(compare([tmp_path / "runs"]), tmp_path / "out")
    assert max(len(path.name) for path in page.parent.rglob("*")) < 160
    assert len(page.read_text()) < 3_000_000


def test_aliases_are_what_no_run_writes(tmp_path):
    shared = ["a"]
    assert "*" not in yaml.safe_dump({"one": list(shared), "two": list(shared)})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"one": shared, "two": shared}))
    with pytest.raises(ClbenchError, match="alias"):
        reading.yaml_of(path)
