"""Files that are whole or not there, links that lead nowhere else, and disks that refuse."""

import errno
import os
import platform
import signal

import pytest

from clbench.errors import ClbenchError
from clbench.files import disk
from clbench.files.abandoned import own_side, write_apart
from clbench.files.disk import (
    append,
    atomic,
    refuse_links,
    to_json,
    write_atomic,
    writing_to,
)


def fails(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_link_in_the_place_of_the_side_file_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("mine")
    for name in ("a", ".a.partial"):
        (tmp_path / name).symlink_to(tmp_path / "precious")
    write_atomic(tmp_path / "a", "new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "a").read_text() == "new"
    assert not (tmp_path / "a").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "precious"}


def test_a_side_file_that_a_kill_left_is_no_obstacle(tmp_path):
    (tmp_path / ".a.partial").write_text("half")
    write_atomic(tmp_path / "a", "ä")
    assert (tmp_path / "a").read_bytes() == "ä".encode()
    assert not (tmp_path / ".a.partial").exists()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_cannot_be_finished_is_removed_and_the_old_file_stays(tmp_path, monkeypatch, call):
    write_atomic(tmp_path / "a", "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails(errno.ENOSPC))
        with pytest.raises(OSError, match="No space left") as caught:
            write_atomic(tmp_path / "a", "new")
    assert caught.value.filename == str(tmp_path / "a")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old"}


def test_the_folder_is_synced_after_the_file_took_its_place(tmp_path, monkeypatch):
    said = []
    for call in ("fsync", "replace"):
        real = getattr(os, call)
        monkeypatch.setattr(
            os, call, lambda *a, call=call, real=real: (said.append(call), real(*a))[1]
        )
    write_atomic(tmp_path / "a", "new")
    assert said == ["fsync", "replace", "fsync"]


def test_a_file_system_that_cannot_sync_folders_is_one_to_write_on(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fails(errno.EINVAL))
    disk.sync(tmp_path)
    monkeypatch.setattr(os, "fsync", fails(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        disk.sync(tmp_path)


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "a"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_line_is_appended_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("one\n")
    append(path, "two\n")
    real = os.write

    def short(descriptor, data):
        if len(data) < 5:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return real(descriptor, data[:3])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        with pytest.raises(OSError, match="quota"):
            append(path, "three\n")
    assert path.read_text() == "one\ntwo\n"


def test_nothing_is_appended_through_a_link_or_to_what_was_removed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to("precious")
    with pytest.raises(OSError):  # noqa: PT011  (its words are the system's)
        append(tmp_path / "a", "x")
    with pytest.raises(FileNotFoundError):
        append(tmp_path / "b", "x")
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["record.jsonl", ".lock", "checkpoints", "hparams.yaml"])
def test_links_out_of_a_run_folder_are_refused(tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    (run / "own").touch()
    (run / "link").symlink_to("own")
    refuse_links(run)  # these lead nowhere else
    (run / name).symlink_to("../elsewhere")
    with pytest.raises(ClbenchError, match=rf"run/{name} is a link to .*elsewhere.*remove the"):
        refuse_links(run)


def test_links_among_the_checkpoints_and_links_in_a_ring(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "ring").symlink_to("ring")
    refuse_links(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "task_001.pt").symlink_to("../../task.pt")
    with pytest.raises(ClbenchError, match=r"task_001\.pt is a link"):
        refuse_links(tmp_path / "run")


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EFBIG, "raise the largest size of a file (ulimit -f)"),
        (errno.EROFS, "make it writable"),
        (errno.EACCES, "make it writable"),
        (errno.ENOENT, "put the folder back"),
        (errno.ESTALE, "put the folder back"),
        (errno.EIO, "see to the disk"),
    ],
)
def test_what_a_disk_refuses_is_one_line(tmp_path, number, way):
    error = OSError(number, os.strerror(number), str(tmp_path / "record.jsonl"))
    with pytest.raises(ClbenchError) as caught, writing_to(tmp_path, "go on with --resume"):
        raise error
    reason = os.strerror(number)
    assert str(caught.value) == (
        f"{tmp_path}/record.jsonl: {reason}: {way}, then go on with --resume; or choose another "
        "--output"
    )


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (FileNotFoundError(errno.ENOENT, "No such file", "/elsewhere"), OSError("odd")):
        with pytest.raises(OSError) as caught, writing_to(tmp_path, ""):  # noqa: PT011
            raise error
        assert caught.value is error
    with pytest.raises(ClbenchError, match="No space"), writing_to(tmp_path, ""):
        raise OSError(errno.ENOSPC, "No space left on device")  # a write names no file


def test_numbers_that_are_none_are_not_written():
    assert to_json({"a": [1, 0.1, None]}) == '{"a": [1, 0.1, null]}'
    with pytest.raises(ClbenchError, match=r"distance\.b\.1 = inf is no number"):
        to_json({"a": 1.0, "distance": {"b": [0.0, float("inf")]}})


def test_two_writers_of_one_file_leave_a_whole_one_and_what_was_killed_is_removed(tmp_path):
    path = tmp_path / "a"
    dead = os.fork()
    if dead == 0:  # killed in the middle: its name is left
        own_side(path).write_text("ha")
        os._exit(0)
    alive = os.fork()
    if alive == 0:
        signal.pause()
    try:
        os.waitpid(dead, 0)
        node = platform.node()
        others = {f".a.{node}.{alive}.partial", f".a.{node}.mine.partial", ".a-mine.partial"}
        for name in others:
            (tmp_path / name).write_text("of somebody")
        (tmp_path / f".a.{node}.{10**30}.partial").write_text("no process has that number")
        write_apart(path, "whole")
        names = {one.name for one in tmp_path.iterdir()}
        assert names == {"a", *others}
        assert path.read_text() == "whole"
    finally:
        os.kill(alive, signal.SIGKILL)
        os.waitpid(alive, 0)
