"""Archives with the official content in another compression, as Linux distributions pack them.

Their checksums are not those that torchvision knows, so it is the content that is checked.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets.utils import check_integrity

from clbench.data.contents import write_whole
from clbench.data.words import note, spelt

#: The shapes of MNIST's four files, which Fashion-MNIST and others keep.
IDX_SHAPES = {
    "train-images-idx3-ubyte": (60_000, 28, 28),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte": (10_000,),
}


def other_archives(archives: Sequence[tuple[Path, str]]) -> list[Path]:
    """Those that are there, but are not the official ones.

    Args:
        archives: files with their official MD5 sums.
    """
    return [path for path, md5 in archives if path.is_file() and not check_integrity(path, md5)]


def read_idx(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of MNIST's four ``.gz`` files, uint8, by the names in ``IDX_SHAPES``.

    Raises:
        ValueError: if a file is damaged (gzip has a checksum of the content), or of another size.
        OSError: if a file cannot be read.
    """
    found = {}
    for name, shape in IDX_SHAPES.items():
        path = folder / f"{name}.gz"
        size = int(np.prod(shape))
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
        try:
            with gzip.open(path) as file:
                content = file.read(len(header) + size + 1)
                whole = len(content) == len(header) + size and not file.read(1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{spelt(path)} is damaged ({error})") from error
        if not whole or not content.startswith(header):
            raise ValueError(f"{spelt(path)} does not hold {shape[0]:,} {name.split('-')[1]}")
        found[name] = np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
    note(f"The archives in {folder} are not the official ones, but their content is whole")
    return found


def unpack_checked(archive: Path, root: Path, sums: Mapping[str, str]) -> None:
    """Take files with known MD5 sums out of a tar archive, and nothing else.

    Args:
        archive: the tar archive, in any compression.
        root: where the files belong.
        sums: paths in the archive and below ``root``, with the MD5 sums.

    Raises:
        ValueError: if the archive is damaged, or its content is not the official one.
        OSError: if a file cannot be read or written.
    """
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for name, md5 in sums.items():
                member = tar.extractfile(name)
                content = b"" if member is None else member.read()
                if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                    raise ValueError(f"{name} in {spelt(archive)} has another checksum")
                contents[name] = content
    except (KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"{spelt(archive)} is damaged or lacks files ({error})") from error
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(root / name, [content])
