"""One process for all of these tests to fork their runs from."""

import os
import sys

import pytest
from crash.forks import Forks


@pytest.fixture(scope="session")
def forks():
    if not os.path.isdir("/proc/self/fd") or sys.version_info < (3, 11):
        pytest.skip("watches files by /proc, and pathlib as of Python 3.11")
    with Forks() as made:
        yield made
