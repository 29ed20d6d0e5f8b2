"""What is in files is known without reading them, unless they may have changed."""

import os
import time

import numpy as np
import pytest

from clbench.data import contents
from clbench.data.decode import BadImages


@pytest.fixture
def paths(tmp_path):
    made = [tmp_path / f"{number}.bin" for number in range(3)]
    for number, path in enumerate(made):
        path.write_bytes(bytes([number]) * 9)
    return made


@pytest.fixture
def later(monkeypatch):
    """The clock is a minute ahead: the files were left alone long enough to be trusted."""
    now = time.time_ns
    monkeypatch.setattr(contents.time, "time_ns", lambda: now() + 60 * 10**9)


@pytest.fixture
def read(monkeypatch):
    """Numbers of the files that were read."""
    seen = []
    real = contents._read

    def spy(paths, rows, numbers, workers):
        seen.append(numbers.tolist())
        real(paths, rows, numbers, workers)

    monkeypatch.setattr(contents, "_read", spy)
    return seen


def replace(path, content):
    """Other content of equal size, with the modification time put back."""
    facts = path.stat()
    assert len(content) == facts.st_size
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns


def test_a_warm_start_reads_nothing(paths, tmp_path, later, read):
    found = contents.digests(paths, tmp_path / "table")
    assert np.array_equal(contents.digests(paths, tmp_path / "table"), found)
    assert read == [[0, 1, 2]]


@pytest.mark.parametrize("settled", [False, True])
def test_equal_size_and_time_with_other_content_is_found(
    paths, tmp_path, settled, request, monkeypatch
):
    if settled:
        request.getfixturevalue("later")
    before = contents.digests(paths, tmp_path / "table")
    if settled:
        time.sleep(0.05)  # the kernel's clock ticks every few milliseconds
    replace(paths[1], b"x" * 9)
    after = contents.digests(paths, tmp_path / "table")
    assert (before != after).any(axis=1).tolist() == [False, True, False]


def test_a_file_that_is_moved_into_the_place_of_another_is_found(paths, tmp_path, later, read):
    contents.digests(paths, tmp_path / "table")
    other = tmp_path / "other"
    other.write_bytes(b"y" * 9)
    facts = paths[2].stat()
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(paths[2])
    contents.digests(paths, tmp_path / "table")
    assert read == [[0, 1, 2], [2]]


def test_files_that_were_changed_a_moment_ago_are_read_again(paths, tmp_path, read):
    contents.digests(paths, tmp_path / "table")
    contents.digests(paths, tmp_path / "table")
    assert read == [[0, 1, 2]] * 2


def test_a_look_from_outside_reads_nothing(paths, tmp_path, read):
    assert contents.digests(paths, tmp_path / "table", reread=False) is None
    found = contents.digests(paths, tmp_path / "table")
    assert np.array_equal(contents.digests(paths, tmp_path / "table", reread=False), found)
    assert read == [[0, 1, 2]]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "folder"])
def test_a_damaged_table_is_made_anew(paths, tmp_path, damage, later, read):
    table = tmp_path / "table"
    found = contents.digests(paths, table)
    content = bytearray(table.read_bytes())
    content[50] ^= 1
    if damage == "folder":
        table.unlink()
        table.mkdir()
    else:
        table.write_bytes({"flip": content, "cut": content[:-9], "empty": b""}[damage])
    assert np.array_equal(contents.digests(paths, table), found)
    assert len(read) == 2
    assert not list(tmp_path.glob(".*partial"))


def test_all_files_that_cannot_be_read_are_named(paths, tmp_path):
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    listed = [*paths, tmp_path / "link", tmp_path / "pipe", tmp_path / "gone"]
    with pytest.raises(BadImages, match=r"^3 files .*link \(a link to a file that is not there\)"):
        contents.digests(listed)
    paths[0].write_bytes(b"")
    with pytest.raises(BadImages, match=r"0\.bin cannot be read as an image \(an empty file\)"):
        contents.digests(paths)


def test_the_name_of_a_table_depends_on_the_files(paths, tmp_path):
    names = {contents.table_path(some, tmp_path, "set") for some in (paths, paths[:2], paths[::-1])}
    assert len(names) == 3
    odd = [tmp_path / os.fsdecode(b"\xff.png")]
    assert contents.table_path(odd, tmp_path, "set").name.isprintable()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def parts():
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        contents.write_whole(path, parts())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
