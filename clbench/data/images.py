"""Where pixels live: in memory, in an on-disk cache, or in image files read as they are needed.

Every source answers one question: ``take(index) -> uint8 (B, C, H, W)``, with C = 1 or 3 and one
H × W for the whole source. Augmentation and normalisation happen later, on whole batches
(:mod:`clbench.data.transforms`).
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from PIL import Image
from torch import Tensor

from clbench.errors import ClbenchError

Fit = Literal["crop", "squash"]


class Images(ABC):
    """N images of one size."""

    #: Whether ``take`` costs enough (disk, decoding) that batches should be fetched ahead.
    slow = True

    @abstractmethod
    def __len__(self) -> int:
        """N, the number of images."""

    @abstractmethod
    def take(self, index: Tensor) -> Tensor:
        """The images at ``index`` (B,), a CPU int64 tensor, as uint8 (B, C, H, W)."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of what the images are, for the split manifest."""

    def move(self, device: torch.device) -> None:  # noqa: B027  (most sources stay)
        """Hold the images on ``device`` from now on, where they are a tensor."""


class TensorImages(Images):
    """Images in memory, on the CPU or a GPU.

    Args:
        tensor: uint8 (N, C, H, W).
    """

    slow = False

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.contiguous()

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, index: Tensor) -> Tensor:
        return self.tensor.index_select(0, index.to(self.tensor.device, non_blocking=True))

    def fingerprint(self) -> str:
        return hashlib.sha256(self.tensor.cpu().numpy().data).hexdigest()

    def move(self, device: torch.device) -> None:
        self.tensor = self.tensor.to(device)


class FileImages(Images):
    """Image files, decoded to one working resolution whenever they are taken.

    Args:
        paths: N image files.
        size: side of the square images in pixels.
        fit: ``crop`` scales the shorter side to ``size`` and cuts the centre square,
            ``squash`` scales both sides to ``size``.
    """

    def __init__(self, paths: Sequence[Path], size: int, fit: Fit) -> None:
        self.paths, self.size, self.fit = tuple(paths), size, fit

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Tensor) -> Tensor:
        decoded = [decode(self.paths[i], self.size, self.fit) for i in index.tolist()]
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.size} {self.fit}".encode())
        for path in self.paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def version(self) -> str:
        """SHA-256 of which files these are on this machine, and of when they were changed."""
        digest = hashlib.sha256(f"{self.size} {self.fit}".encode())
        for path in self.paths:
            facts = path.stat()
            digest.update(f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns};".encode())
        return digest.hexdigest()


class CachedImages(Images):
    """Decoded images in one memory-mapped file, made once by :func:`cache`.

    Args:
        path: a ``.npy`` file of uint8 (N, C, H, W).
        fingerprint: the fingerprint of the files it was made from.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.array = np.load(path, mmap_mode="r")
        self._fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self.array)

    def take(self, index: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self.array[index.numpy()]))

    def fingerprint(self) -> str:
        return self._fingerprint


class JoinedImages(Images):
    """Several sources one after the other; grey ones are spread to RGB.

    Images that are taken together must be of one size.
    """

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = tuple(parts)
        self.starts = torch.tensor([0, *np.cumsum([len(part) for part in parts])])
        self.slow = any(part.slow for part in parts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, index: Tensor) -> Tensor:
        owner = torch.bucketize(index.contiguous(), self.starts[1:], right=True)
        taken, order = [], []
        for number in owner.unique().tolist():
            rows = (owner == number).nonzero().flatten()
            images = self.parts[number].take(index[rows] - self.starts[number])
            taken.append(images.expand(-1, 3, -1, -1))
            order.append(rows)
        return torch.cat(taken)[torch.cat(order).argsort().to(taken[0].device)]

    def fingerprint(self) -> str:
        joined = " ".join(part.fingerprint() for part in self.parts)
        return hashlib.sha256(joined.encode()).hexdigest()

    def move(self, device: torch.device) -> None:
        for part in self.parts:
            part.move(device)


class GuardedImages(Images):
    """Images of which only some may be taken now: how a stream keeps past data out of reach.

    Args:
        images: the source.
        allowed: bool (N,), changed in place as the stream moves on.
    """

    def __init__(self, images: Images, allowed: Tensor) -> None:
        self.images, self.allowed, self.slow = images, allowed, images.slow

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Tensor:
        """As :meth:`Images.take`.

        Raises:
            ClbenchError: if one of the images belongs to a task that is not the current one
                and no method of the run declared that it needs past data.
        """
        if not self.allowed[index].all():
            raise ClbenchError(
                "training touched images of another task, but no method of this run declares "
                "`needs.past_data`: declare it on the method that does, or keep to the task's data"
            )
        return self.images.take(index)

    def fingerprint(self) -> str:
        return self.images.fingerprint()

    def move(self, device: torch.device) -> None:
        self.images.move(device)


def decode(path: Path | IO[bytes], size: int, fit: Fit) -> np.ndarray:
    """One image file as uint8 (size, size, 3), RGB, scaled with a bicubic antialiasing filter.

    Raises:
        ClbenchError: if the file cannot be read as an image; the message names it.
    """
    try:
        with Image.open(path) as file:
            file.draft("RGB", (size, size))  # JPEG: decode at a reduced scale where one will do
            if file.mode.startswith("I;16"):  # 16-bit grey, which `convert` would clip at 255
                image = Image.fromarray((np.asarray(file) >> 8).astype(np.uint8)).convert("RGB")
            else:
                image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClbenchError(
            f"{path} cannot be read as an image ({error}): replace or remove it"
        ) from error
    if fit == "crop":
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + size, top + size))
    else:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def cache_path(files: FileImages, folder: Path, name: str) -> Path:
    """Where :func:`cache` keeps these files; the arguments are its own."""
    return folder / f"{name}-{files.size}-{files.fit}-{files.version()[:12]}.npy"


def cache(files: FileImages, folder: Path, name: str, workers: int = 4) -> CachedImages:
    """Decode image files once into ``folder``; later calls with the same files reuse the result.

    Args:
        files: the image files with their working resolution.
        folder: where caches live; made if it does not exist.
        name: start of the file's name, for people.
        workers: decoding threads (Pillow releases the interpreter lock while it decodes).

    Raises:
        ClbenchError: if an image is corrupt or the folder cannot be written.
    """
    fingerprint = files.fingerprint()
    path = cache_path(files, folder, name)
    partial = path.with_suffix(".partial.npy")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                shape = (len(files), 3, files.size, files.size)
                array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
                print(f"Decoding {len(files):,} images once into {path}", flush=True)
                chunks = torch.arange(len(files)).split(256)
                with ThreadPoolExecutor(max(workers, 1)) as pool:
                    for chunk, images in zip(chunks, pool.map(files.take, chunks), strict=True):
                        array[chunk.numpy()] = images.numpy()
                array.flush()
                del array
                os.replace(partial, path)
    except OSError as error:
        raise ClbenchError(f"the image cache {folder} cannot be written: {error}") from error
    return CachedImages(path, fingerprint)


def from_array(array: np.ndarray, size: int | None = None) -> TensorImages:
    """In-memory images from what data sets hand over.

    Args:
        array: uint8 (N, H, W) or (N, H, W, 3).
        size: scale to ``size`` × ``size`` pixels (bicubic, antialiased); None keeps H × W.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    tensor = tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)
    if size is not None and tuple(tensor.shape[-2:]) != (size, size):
        tensor = torch.cat(
            [
                F.interpolate(part.float(), (size, size), mode="bicubic", antialias=True)
                .round_()
                .clamp_(0, 255)
                .byte()
                for part in tensor.split(1024)
            ]
        )
    return TensorImages(tensor)
