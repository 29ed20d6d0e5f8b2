import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from clbench.errors import ClbenchError
from clbench.files.lock import NAME, alone

#: Holds a folder until it is killed; a forked child lives on, as a worker of a data loader may.
HOLDER = """
import os, pathlib, sys, time
from clbench.files.lock import alone
with alone(pathlib.Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = int(process.stdout.readline())
    yield process
    for pid in (process.pid, child):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_a_second_process_is_kept_out_until_the_first_is_killed(holder, tmp_path):
    with pytest.raises(ClbenchError, match="another process is at work in"), alone(tmp_path):
        pass
    holder.kill()
    with alone(tmp_path, wait=10):
        pass


def test_in_the_same_process_too(tmp_path):
    with alone(tmp_path), pytest.raises(ClbenchError, match="another process"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_leaves_nothing_behind(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with alone(tmp_path):
        pass
    assert "cannot be locked" in capsys.readouterr().out
    with alone(tmp_path):  # as after a kill: no stale marker is in the way
        left = {path.name for path in tmp_path.iterdir()} - {NAME}
    assert not left
