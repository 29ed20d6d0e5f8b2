"""What several tests share: a small recipe, and one cache for the session."""

import copy
import os
import signal
import sys
import tracemalloc  # noqa: F401  (pytest asks it who left a file open, even while it is imported)

import pytest
from helpers import RECIPE
from hub import hub  # noqa: F401
from packaged import dist, installed  # noqa: F401
from plugins import leash, place  # noqa: F401


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def recipe(data_dir):
    """Values of a recipe that runs in about a second."""
    return copy.deepcopy(RECIPE) | {"data_dir": str(data_dir)}


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs end without their plots and tables, which have their own tests."""
    monkeypatch.setattr("clbench.runner.outputs.write", lambda *_: None)
    monkeypatch.setattr("clbench.runner.screen.show", lambda *_: None)


@pytest.fixture
def ctrl_c():
    """Presses it. It is the usual one meanwhile, which need not be there in a shell's &."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def pytest_unconfigure():
    """Leave nothing behind, whichever process this is."""
    if "clips" in sys.modules:
        sys.modules["clips"].forget()
