"""A small fixed sample of `make fuzz`, and that its judge finds what is at fault."""

import shutil
import time

import pytest
from fuzz.__main__ import run, try_kind
from fuzz.attempt import attempt
from fuzz.base import SUITE, prepare, written
from fuzz.case import Case
from fuzz.judge import fault
from fuzz.sane import unsound

SAMPLE = {
    "recipes": 24,
    "words": 12,
    "suites": 8,
    "trainers": 6,
    "folders": 4,
    "images": 4,
    "weights": 3,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("fuzz") / "base")


@pytest.mark.parametrize("kind", SAMPLE)
def test_a_sample_has_no_faults(base, tmp_path, kind):
    assert not try_kind(kind, 1, range(SAMPLE[kind]), base, tmp_path).faults


def test_what_is_spoilt_was_whole(base, tmp_path):
    """A suite or a recipe that is refused before it is spoilt would try nothing."""
    written({**SUITE, "base": base.recipe()}, tmp_path / "s.yaml")
    written(base.recipe() | {"methods": {}}, tmp_path / "r.yaml")
    suite = attempt(lambda: run(("*suite", "s.yaml")), tmp_path)
    assert (suite.code, len(suite.out.split())) == (0, 6)
    assert attempt(lambda: run(("--config", "r.yaml", "--output", "out")), tmp_path).code == 0
    assert unsound(tmp_path, {"s.yaml", "r.yaml"}, 0) is None


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("summary.json", '{"a": NaN}', "NaN is no JSON"),
        ("summary.json", '{"a": 1e999}', "1e999 is no JSON"),
        ("record.jsonl", '{"event": "run"}', "it has no end"),
        ("record.jsonl", '{"event": "end"}', "accuracies"),
        ("model.safetensors", "x", "SafetensorError"),
        ("../stray", "", "it wrote ['stray']"),
        (".x.partial", "", "it left out/.x.partial"),
        ("../page/report.html", "<p><b>a</p>", "</p>"),
        ("../page/report.html", "<div><p>a", "not closed"),
        ("../page/report.html", "<img onerror='x'>", "onerror"),
    ],
)
def test_what_is_unsound(base, tmp_path, name, content, wrong):
    shutil.copytree(base.run, tmp_path / "out")
    (tmp_path / "page").mkdir()
    (tmp_path / "out" / name).write_text(content)
    assert wrong in unsound(tmp_path, set(), 0)


def lines(count):
    def command():
        import sys

        sys.stderr.write("error: a\n" * count)
        return 2

    return command


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (lambda: 1 // 0, "traceback"),
        (lambda: 3, "exit code 3"),
        (lambda: time.sleep(60), "hangs"),
        (lines(0), "an error of 0 lines"),
        (lines(2), "an error of 2 lines"),
        (lambda: 0, "nonsense"),
    ],
)
def test_the_judge(monkeypatch, tmp_path, command, word):
    seconds = 1 if word == "hangs" else 60
    monkeypatch.setattr("fuzz.judge.SECONDS", seconds)
    refuse, take = Case((), "refuse"), Case((), "take")
    assert word in fault(attempt(command, tmp_path, seconds=seconds + 0.1), refuse)
    refused = attempt(lines(1), tmp_path)
    assert fault(refused, refuse) is None
    assert "sense is refused" in fault(refused, take)
