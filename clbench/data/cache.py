"""Decoded images in a file on disk: made once, found again by what is in the image files.

A cache is named by the contents of its files, so a file that changed makes another cache, and
images that moved find theirs. Every image carries a checksum that is looked at when it is taken
for the first time: a damaged image is decoded again from its file.
"""

from __future__ import annotations

import errno
import math
import os
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from clbench.data import contents
from clbench.data.ahead import fetch_ahead
from clbench.data.cached import CachedImages, cache_chunks, cache_row
from clbench.data.decode import BadImages, Notes
from clbench.data.images import FileImages
from clbench.data.members import File
from clbench.data.words import note, spelt
from clbench.errors import ClbenchError
from clbench.files import lock
from clbench.files.abandoned import own_side, remove_abandoned
from clbench.files.disk import atomic
from clbench.text.numbers import counted

REMARKS = {
    "frames": "Several frames, of which the first is used, in {count} of {name}, such as {path}",
    "transparent": "Transparent pixels, which are laid on white, in {count} of {name}, such as "
    "{path}",
    "16 bits": "16 bits, of which 0…65535 becomes 0…255, in {count} of {name}, such as {path}; the "
    "largest value is {most:.0f} (another range: images.range)",
    "floats": "Floats, of which 0…1 becomes 0…255, in {count} of {name}, such as {path}; the "
    "largest value is {most:.3g} (another range: images.range)",
}


def find_cache(files: FileImages, folder: Path, name: str) -> Path | None:
    """The cache of these files if it is there, as far as that takes no reading of the files."""
    files = _with_table(files, folder, name)
    try:
        digests = files.known()
    except BadImages:
        return None
    path = None if digests is None else _path(files, digests, folder, name)
    return path if path is not None and os.path.exists(path) else None


def cache(files: FileImages, folder: Path, name: str, workers: int = 4) -> CachedImages:
    """Decode image files once into ``folder``; later calls with the same files reuse the result.

    Args:
        files: the image files with their working resolution.
        folder: where caches live; made if it does not exist.
        name: start of the file's name, for people.
        workers: decoding threads (Pillow releases the interpreter lock while it decodes).

    Raises:
        BadImages: if images cannot be read; it names all of them.
        ClbenchError: if the folder cannot be written.
    """
    files = _looked_at(files, folder, name)
    path = _path(files, files.digests(), folder, name)
    if (found := _open(path, files)) is not None:
        return found  # nothing is written: the folder may be read-only
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "no permission to write")
        with lock.alone(folder, wait=math.inf):
            if (found := _open(path, files)) is not None:
                return found  # another process made it meanwhile
            if os.path.exists(path):
                note(f"The image cache {path} is damaged and is made anew", everywhere=True)
            _make(files, path, name, workers)
        return CachedImages(path, files)
    except OSError as error:
        size = len(files) * cache_row(files.size).itemsize
        raise ClbenchError(
            f"the image cache {spelt(folder)} cannot be written ({error.strerror or error}; it "
            f"needs {size / 1e6:,.1f} MB for {len(files):,} images of {name}): make room, name "
            "another data_dir, or set images.keep: files"
        ) from error


def checked(files: FileImages, folder: Path, name: str, workers: int = 4) -> FileImages:
    """Image files that stay files, every one of which has been decoded once without a fault.

    Args: as for :func:`cache`; that nothing was wrong is remembered in ``folder`` if it can be.

    Raises:
        BadImages: if images cannot be read; it names all of them.
    """
    files = _looked_at(files, folder, name)
    path = _path(files, files.digests(), folder, name).with_suffix(".checked")
    if not os.path.exists(path):
        note(f"Decoding {len(files):,} images of {name} once to see that they can be read")
        for _ in _decoded(files, name, workers):
            pass
        try:
            folder.mkdir(parents=True, exist_ok=True)
            contents.write_whole(path, [])
        except OSError:
            pass  # a read-only folder: they are decoded again the next time
    return files


def _with_table(files: FileImages, folder: Path, name: str) -> FileImages:
    """The same files, looked at now."""
    table = contents.table_path(files.paths, folder, name)
    return FileImages(files.paths, files.size, files.fit, files.limits, table, files.workers)


def _looked_at(files: FileImages, folder: Path, name: str) -> FileImages:
    """The same files with what is in them.

    Raises:
        BadImages: if some cannot be read, or, as is then looked up at once, decoded.
    """
    files = _with_table(files, folder, name)
    try:
        files.digests()
    except BadImages as error:
        bad = dict(error.found)
        paths = [path for path in files.paths if path not in bad]
        rest = FileImages(paths, files.size, files.fit, files.limits)
        for _, wrong, _ in fetch_ahead(partial(_chunk, rest), cache_chunks(rest), files.workers):
            bad |= dict(wrong)
        raise BadImages(sorted(bad.items(), key=lambda one: str(one[0]))) from error
    return files


def _path(files: FileImages, digests: np.ndarray, folder: Path, name: str) -> Path:
    key = contents.joined(digests, files.about)
    return folder / f"{name}-{files.size}-{files.fit}-{key[:12]}.npy"


def _open(path: Path, files: FileImages) -> CachedImages | None:
    """The cache if it is there and whole."""
    if path.is_dir():
        raise ClbenchError(f"the image cache {spelt(path)} is a folder: remove it")
    if not path.is_file():  # a pipe would be waited at for ever
        return None
    try:
        return CachedImages(path, files)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ClbenchError(f"the image cache {spelt(path)} cannot be read: {error}") from error
    except Exception:  # numpy raises many types for a damaged header
        return None


def _make(files: FileImages, path: Path, name: str, workers: int) -> None:
    note(f"Decoding {len(files):,} images once into {path}", everywhere=True)
    remove_abandoned(path)
    kind = cache_row(files.size)
    with atomic(path, own_side(path)) as file:
        descr = np.lib.format.dtype_to_descr(kind)
        header = {"descr": descr, "fortran_order": False, "shape": (len(files),)}
        np.lib.format.write_array_header_1_0(file, header)
        # Room is taken before hours of decoding, not found missing after them.
        if hasattr(os, "posix_fallocate") and len(files):
            os.posix_fallocate(file.fileno(), 0, file.tell() + len(files) * kind.itemsize)
        for pixels in _decoded(files, name, workers):
            rows = np.zeros(len(pixels), dtype=kind)
            rows["pixels"] = pixels
            rows["sum"] = [zlib.crc32(image.data) for image in pixels]
            file.write(rows.tobytes())


def _decoded(files: FileImages, name: str, workers: int) -> Iterator[np.ndarray]:
    """All images in chunks, uint8 (n, 3, H, W); afterwards, what there is to say about them.

    Raises:
        BadImages: in the end, if images cannot be read; it names all of them.
    """
    bad: list[tuple[File | str, str]] = []
    noted: list[tuple[str, float, int]] = []
    for pixels, wrong, notes in fetch_ahead(partial(_chunk, files), cache_chunks(files), workers):
        bad += wrong
        noted += notes
        if not bad:
            yield pixels
    if bad:
        raise BadImages(bad)
    for kind, remark in REMARKS.items():
        found = [(value, number) for other, value, number in noted if other == kind]
        if found:
            path, most = spelt(files.paths[found[0][1]]), max(value for value, _ in found)
            line = remark.format(
                count=counted(len(found), "image"), name=name, path=path, most=most
            )
            note(line, everywhere=True)


def _chunk(
    files: FileImages, index: Tensor
) -> tuple[np.ndarray, list[tuple[File | str, str]], list[tuple[str, float, int]]]:
    pixels = np.zeros((len(index), 3, files.size, files.size), dtype=np.uint8)
    bad: list[tuple[File | str, str]] = []
    noted: list[tuple[str, float, int]] = []
    for place, number in enumerate(index.tolist()):
        notes: Notes = {}
        try:
            pixels[place] = files.read(number, notes).transpose(2, 0, 1)
        except BadImages as error:
            bad += error.found
        noted += [(kind, value, number) for kind, value in notes.items()]
    return pixels, bad, noted
