"""A small fixed sample of `make fuzz`, and that its judge finds what is at fault."""

import shutil
import time

import pytest
from fuzz.__main__ import try_one
from fuzz.attempt import attempt
from fuzz.base import prepare
from fuzz.judge import fault

SAMPLE = {
    "recipes": 30,
    "words": 15,
    "suites": 8,
    "trainers": 6,
    "folders": 8,
    "images": 4,
    "weights": 4,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("fuzz") / "base")


@pytest.mark.parametrize("kind", SAMPLE)
def test_a_sample_has_no_faults(base, tmp_path, kind):
    reasons = []
    for number in range(SAMPLE[kind]):
        folder = tmp_path / str(number)
        reasons.append(try_one(kind, 1, number, base, folder))
        shutil.rmtree(folder, ignore_errors=True)
    assert not [f"{number}: {reason}" for number, reason in enumerate(reasons) if reason]


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
    assert word in fault(attempt(command, tmp_path, seconds=seconds + 0.1), refuse=True)
    assert fault(attempt(lines(1), tmp_path), refuse=True) is None
