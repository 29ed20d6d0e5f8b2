"""A disk that is watched: every change below a folder is a point at which it can end or be full.

Python's own ways to the disk are replaced in this process: ``open`` for writing, ``os.open``,
``os.write``, ``os.fsync``, ``os.replace`` and their like. Files that libraries write themselves,
given a path, are written by way of ``open``. What went past all of these shows, as its file
was never opened here (:attr:`Disk.opened`).
"""

import builtins
import errno
import functools
import io
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

#: Calls with a path first; of the first few arguments, those that are paths below the folder count.
PATHS = ("mkdir", "rmdir", "unlink", "remove", "truncate", "replace", "rename", "link", "symlink")
#: Calls with an open file first.
FILES = ("fsync", "fdatasync", "ftruncate", "posix_fallocate")
CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Disk:
    """What happens below a folder.

    Args:
        folder: what is watched; it need not exist.
        kill: the point, from 0, before which this process is killed; None: none.
        room: bytes that the folder may hold; None: any number.
    """

    def __init__(self, folder: Path, kill: int | None = None, room: int | None = None) -> None:
        self.folder, self.kill, self.room = os.path.abspath(folder), kill, room
        self.points: list[str] = []
        self.opened: set[str] = set()
        self.lock = threading.RLock()
        self.real = {name: getattr(os, name) for name in (*PATHS, *FILES, "open", "write")}
        self.real_open = io.open

    def watch(self) -> None:
        """From now on, and for good: this process is a fork that ends with the run."""
        for name in PATHS:
            setattr(os, name, self._wrapped(name, self._of_path))
        for name in FILES:
            setattr(os, name, self._wrapped(name, self._of_file))
        os.open, os.write = self._os_open, self._os_write
        builtins.open = io.open = self._open
        import safetensors.torch
        import torch

        torch.save = self._through_open(torch.save)
        safetensors.torch.save_file = lambda tensors, path, metadata=None: self._put(
            path, safetensors.torch.save(tensors, metadata)
        )

    def point(self, what: str, path: str) -> None:
        """One more change is about to happen, or a write is half done."""
        self.points.append(f"{what} {os.path.relpath(path, self.folder)}")
        if len(self.points) - 1 == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def watches(self, path: object) -> bool:
        return isinstance(path, str) and (path + "/").startswith(self.folder + "/")

    def write(self, path: str, data: object, write: Callable[[object], int]) -> int:
        """Two points: before the write, and when half of it is done."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        with self.lock:
            self.point("write", path)
            if self.room is not None:
                left = max(0, self.room - self._used())
                if left == 0 and len(view):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(view[:left])
            done = write(view[: len(view) // 2]) if len(view) > 1 else 0
            if done:
                self.point("half of a write", path)
            return done + write(view[done:])

    def _used(self) -> int:
        files = (os.path.join(top, n) for top, _, names in os.walk(self.folder) for n in names)
        return sum(os.lstat(file).st_size for file in files)

    def _wrapped(self, name: str, paths: Callable[..., list[str]]) -> Callable[..., object]:
        real = self.real[name]

        @functools.wraps(real)
        def call(*args, **kwargs):
            found = paths(args, kwargs)
            with self.lock:
                if found:
                    self.point(name, found[-1])
                if found and found[0] in self.opened:  # also by its new name
                    self.opened.add(found[-1])
            return real(*args, **kwargs)

        return call

    def _of_path(self, args: tuple, kwargs: dict) -> list[str]:
        at = kwargs.get("dir_fd", kwargs.get("dst_dir_fd"))
        found = [_path(value, at) for value in args[:2] if isinstance(value, str | os.PathLike)]
        return [path for path in found if self.watches(path)]

    def _of_file(self, args: tuple, kwargs: dict) -> list[str]:
        file = args[0] if isinstance(args[0], int) else args[0].fileno()
        return [path for path in [_path(file)] if self.watches(path)]

    def _os_open(self, path, flags, mode=0o777, *, dir_fd=None):
        full = _path(path, dir_fd)
        if self.watches(full) and flags & CHANGES and not flags & os.O_DIRECTORY:
            with self.lock:
                self.opened.add(full)
                self.point("open", full)
        return self.real["open"](path, flags, mode, dir_fd=dir_fd)

    def _os_write(self, file, data):
        path, write = _path(file), functools.partial(self.real["write"], file)
        return self.write(path, data, write) if self.watches(path) else write(data)

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
              closefd=True, opener=None):  # fmt: skip
        path = _path(file)
        if not self.watches(path) or not set(mode) & set("wax+"):
            return self.real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            with self.lock:
                self.opened.add(path)
                self.point("open", path)
        raw = _Raw(self, path, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, encoding, errors, newline)

    def _through_open(self, save: Callable[..., None]) -> Callable[..., None]:
        def call(what, file, *args, **kwargs):
            if not isinstance(file, str | os.PathLike):
                return save(what, file, *args, **kwargs)
            buffer = io.BytesIO()
            save(what, buffer, *args, **kwargs)
            return self._put(file, buffer.getvalue())

        return call

    def _put(self, path: object, data: bytes) -> None:
        with self._open(path, "wb") as file:
            file.write(data)


class _Raw(io.FileIO):
    """A file whose writes are points."""

    def __init__(self, disk: Disk, path: str, file, mode, closefd, opener) -> None:
        super().__init__(file, mode, closefd, opener)
        self.disk, self.path = disk, path

    def write(self, data):
        return self.disk.write(self.path, data, super().write)


def _path(file: object, at: int | None = None) -> str | None:
    """The absolute path of a file by its name or its number."""
    try:
        if isinstance(file, int):
            return os.readlink(f"/proc/self/fd/{file}")
        name = os.fsdecode(file)  # type: ignore[arg-type]
        return os.path.abspath(os.path.join(_path(at) or "", name) if at is not None else name)
    except (OSError, TypeError):
        return None
