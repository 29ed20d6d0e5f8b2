"""The image cache: found by content, never stale, never half there."""

import errno
import os
import platform
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.data import cache as module
from clbench.data.cache import cache, checked, find_cache
from clbench.data.decode import BadImages
from clbench.data.images import FileImages
from clbench.errors import ClbenchError

ALL = torch.arange(5)


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(pixels(number)).save(folder / f"{number}.bmp")
    return FileImages(sorted(folder.iterdir()), 8, "crop")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def caches(folder):
    return sorted(path for path in folder.iterdir() if path.suffix == ".npy")


def left_over(folder):
    return [path.name for path in folder.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("keep", [cache, checked])
def test_files_replaced_with_equal_size_and_time_are_seen(files, folder, keep):
    before = keep(files, folder, "set")
    facts = files.paths[2].stat()
    Image.fromarray(pixels(9)).save(files.paths[2])
    os.utime(files.paths[2], ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert files.paths[2].stat().st_size == facts.st_size
    after = keep(files, folder, "set")
    assert np.array_equal(after.take(ALL)[2].permute(1, 2, 0), pixels(9))
    assert before.fingerprint() != after.fingerprint()


def test_images_that_move_find_their_cache(files, folder, tmp_path, capsys):
    cache(files, folder, "set")
    files.paths[0].parent.rename(tmp_path / "moved")
    moved = FileImages(sorted((tmp_path / "moved").iterdir()), 8, "crop")
    capsys.readouterr()
    assert torch.equal(cache(moved, folder, "set").take(ALL), moved.take(ALL))
    assert capsys.readouterr().out == ""


def test_times_alone_do_not_make_it_anew(files, folder, capsys):
    cache(files, folder, "set")
    for path in files.paths:
        path.touch()
    capsys.readouterr()
    cache(files, folder, "set")
    assert capsys.readouterr().out == ""


def test_a_range_makes_another_cache(files, folder):
    cache(files, folder, "set")
    cache(FileImages(files.paths, 8, "crop", (0.0, 9.0)), folder, "set")
    assert len(caches(folder)) == 2


@pytest.mark.parametrize("place", [0.3, 0.5, 0.9])
def test_a_flipped_bit_is_mended_and_said(files, folder, place, capsys):
    cache(files, folder, "set")
    (path,) = caches(folder)
    content = bytearray(path.read_bytes())
    content[128 + int(place * (len(content) - 128))] ^= 4
    path.write_bytes(content)
    capsys.readouterr()
    damaged = cache(files, folder, "set")
    for _ in range(2):
        assert torch.equal(damaged.take(ALL), files.take(ALL))
    assert len(capsys.readouterr().out.splitlines()) == 1
    again = cache(files, folder, "set")
    assert "Decoding 5 images once" in capsys.readouterr().out
    assert torch.equal(again.take(ALL), files.take(ALL))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:50],
        lambda content: content[:-1],
        lambda content: b"\0" * len(content),
        lambda content: b"PK\x03\x04" + content[4:],
        lambda content: content.replace(b"(5,)", b"(4,)"),
        lambda content: content.replace(b"|u1", b"|O8"),
    ],
)
def test_a_damaged_cache_is_made_anew_with_a_line(files, folder, damage, capsys):
    cache(files, folder, "set")
    (path,) = caches(folder)
    path.write_bytes(damage(path.read_bytes()))
    capsys.readouterr()
    assert torch.equal(cache(files, folder, "set").take(ALL), files.take(ALL))
    said = capsys.readouterr().out.splitlines()
    assert "is damaged and is made anew" in said[0]
    assert "Decoding" in said[1]


def bad(files):
    files.paths[1].write_bytes(b"")
    files.paths[2].write_bytes(files.paths[2].read_bytes()[:99])
    files.paths[3].unlink()
    files.paths[3].symlink_to("nowhere.bmp")
    files.paths[4].write_bytes(b"no image")


@pytest.mark.parametrize("keep", [cache, checked])
def test_all_bad_files_are_named_in_one_go_and_nothing_is_left(files, folder, keep):
    bad(files)
    with pytest.raises(BadImages, match=r"^4 files cannot be read as images: ") as caught:
        keep(files, folder, "set")
    for number in (1, 2, 3, 4):
        assert f"{number}.bmp (" in str(caught.value)
    assert str(caught.value).isprintable()
    assert not folder.exists() or not left_over(folder) + caches(folder)


def test_a_failed_decode_leaves_nothing(files, folder):
    files.paths[2].write_bytes(files.paths[2].read_bytes()[:99])
    with pytest.raises(BadImages, match=r"2\.bmp cannot be read"):
        cache(files, folder, "set")
    assert left_over(folder) + caches(folder) == []


@pytest.mark.parametrize("where", ["posix_fallocate", "fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_nothing(files, folder, where, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, where, full)
        with pytest.raises(ClbenchError, match=r"cache .* cannot be written \(No space left") as e:
            cache(files, folder, "set")
    assert "make room" in str(e.value)
    assert str(e.value).isprintable()
    assert left_over(folder) + caches(folder) == []
    assert torch.equal(cache(files, folder, "set").take(ALL), files.take(ALL))


def test_room_is_taken_before_decoding(files, folder, monkeypatch):
    monkeypatch.setattr(module, "_decoded", lambda *_: pytest.fail("decoded"))

    def full(handle, start, size):
        assert size > 5 * 3 * 8 * 8
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(ClbenchError, match="cannot be written"):
        cache(files, folder, "set")


def test_a_warm_cache_in_a_read_only_folder_is_used(files, folder, monkeypatch):
    cache(files, folder, "set")

    def refuse(*_, **__):
        raise PermissionError(errno.EROFS, "Read-only file system")

    # Permissions do not bind the superuser, so everything that writes is refused.
    monkeypatch.setattr(module.contents, "write_whole", refuse)
    monkeypatch.setattr(module.lock, "alone", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    before = sorted(path.name for path in folder.iterdir())
    assert torch.equal(cache(files, folder, "set").take(ALL), files.take(ALL))
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_cold_cache_in_a_read_only_folder_is_one_line(files, folder, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    with pytest.raises(ClbenchError, match=r"cannot be written \(no permission to write; .*keep"):
        cache(files, folder, "set")
    assert torch.equal(checked(files, folder, "set").take(ALL), files.take(ALL))


def test_what_a_killed_process_left_is_removed(files, folder):
    cache(files, folder, "set")
    (path,) = caches(folder)
    path.unlink()
    node = platform.node()
    gone = folder / f".{path.name}.{node}.4194305.partial"  # above the kernel's largest number
    lives = folder / f".{path.name}.{node}.{os.getppid()}.partial"
    for other in (gone, lives):
        other.write_bytes(b"half")
    cache(files, folder, "set")
    assert not gone.exists()
    assert lives.exists()


def test_two_at_once_decode_once(files, folder, capsys, monkeypatch):
    read = FileImages.read

    def slowly(*arguments):
        time.sleep(0.02)
        return read(*arguments)

    monkeypatch.setattr(FileImages, "read", slowly)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(cache(files, folder, "set"))) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capsys.readouterr().out.count("Decoding") == 1
    assert torch.equal(found[0].take(ALL), found[1].take(ALL))


def test_an_image_that_changes_in_use_is_not_taken(files, folder):
    kept = checked(files, folder, "set")
    Image.fromarray(pixels(9)).save(files.paths[2])
    with pytest.raises(ClbenchError, match=r"2\.bmp was changed while it was in use"):
        kept.take(ALL)


def test_files_are_checked_once(files, folder, capsys):
    checked(files, folder, "set")
    assert "once to see that they can be read" in capsys.readouterr().out
    checked(files, folder, "set")
    assert capsys.readouterr().out == ""


def test_a_cache_is_found_without_reading(files, folder, monkeypatch):
    assert find_cache(files, folder, "set") is None
    cache(files, folder, "set")
    monkeypatch.setattr(module.contents, "_read", lambda *_: pytest.fail("read"))
    assert find_cache(files, folder, "set") == caches(folder)[0]


def test_what_images_are_is_said_once(tmp_path, folder, capsys):
    paths = [tmp_path / f"{number}.tif" for number in range(2)]
    for path, most in zip(paths, (900, 4000), strict=True):
        Image.fromarray(np.full((8, 8), most, dtype=np.uint16)).save(path)
    cache(FileImages(paths, 8, "crop"), folder, "set")
    said = [line for line in capsys.readouterr().out.splitlines() if "16 bits" in line]
    assert len(said) == 1
    assert "in 2 images of set" in said[0]
    assert "largest value is 4000" in said[0]


def test_a_pipe_in_the_place_of_a_cache_is_replaced(files, folder):
    whole = cache(files, folder, "t").take(ALL)
    (path,) = caches(folder)
    path.unlink()
    os.mkfifo(path)
    assert torch.equal(cache(files, folder, "t").take(ALL), whole)
    assert path.is_file()


def test_a_folder_in_the_place_of_a_cache_is_named(files, folder):
    cache(files, folder, "t")
    (path,) = caches(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(ClbenchError, match="is a folder: remove it"):
        cache(files, folder, "t")


def test_a_pass_over_a_cache_takes_no_memory_that_stays(tmp_path):
    """Pages of a mapped file would count as this process's."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(160):
        Image.new("L", (2, 2), number).save(folder / f"{number}.bmp")
    kept = cache(FileImages(sorted(folder.iterdir()), 256, "squash"), tmp_path / "cache", "set")
    kept.take(torch.arange(8))

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    for chunk in torch.arange(160).split(8):
        kept.take(chunk)
    assert resident() - before < 8 * 2**20  # of 31 MB


def test_a_cache_cut_short_while_it_is_used_is_decoded_again(files, folder, capsys):
    kept = cache(files, folder, "set")
    path = caches(folder)[0]
    os.truncate(path, path.stat().st_size // 2)
    assert torch.equal(kept.take(ALL), files.take(ALL))
    assert "is damaged" in capsys.readouterr().out
    assert not path.exists()


def test_a_cache_is_read_alike_without_preadv(files, folder, monkeypatch):
    kept = cache(files, folder, "set")
    monkeypatch.delattr(os, "preadv")
    assert torch.equal(kept.take(ALL), files.take(ALL))
    assert torch.equal(kept.take(ALL), files.take(ALL))  # now without checksums


def test_each_scaling_has_a_cache_of_its_own(files, folder):
    for fit in ("crop", "crop-torch"):
        cache(FileImages(files.paths, 6, fit), folder, "set")
    assert len(caches(folder)) == 2
