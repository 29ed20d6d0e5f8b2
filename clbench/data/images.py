"""Where pixels live: in memory, in an on-disk cache, or in image files read as they are needed.

Every source answers one question: ``take(index) -> uint8 (B, C, H, W)``, with C = 1 or 3 and one
H × W for the whole source. Augmentation and normalisation happen later, on whole batches
(:mod:`clbench.data.transforms`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.data import contents
from clbench.data.decode import BadImages, Limits, Notes, Resize, decode
from clbench.data.members import File, Members
from clbench.data.sending import sent
from clbench.data.square import Fit
from clbench.data.words import spelt
from clbench.errors import ClbenchError


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

    def digests(self) -> np.ndarray | None:
        """SHA-256 of what each image is, uint8 (N, 32); None where nothing identifies them."""
        return None

    def move(self, device: torch.device) -> None:  # noqa: B027  (most sources stay)
        """Hold the images on ``device`` from now on, where they are a tensor."""


class TensorImages(Images):
    """Images in memory, on the CPU or a GPU.

    Args:
        tensor: uint8 (N, C, H, W).
        digests: SHA-256 of what they were made from, uint8 (N, 32); default: of the pixels.
        about: what else decided the pixels, such as the size.
    """

    slow = False

    def __init__(self, tensor: Tensor, digests: np.ndarray | None = None, about: str = "") -> None:
        self.tensor, self._about = tensor.contiguous(), about
        self._digests = digests

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, index: Tensor) -> Tensor:
        return self.tensor.index_select(0, sent(index, self.tensor.device))

    def digests(self) -> np.ndarray:
        if self._digests is None:
            self._digests = of_rows(self.tensor.cpu().numpy())
        return self._digests

    def fingerprint(self) -> str:
        return contents.joined(self.digests(), self._about)

    def move(self, device: torch.device) -> None:
        self.tensor = self.tensor.to(device)


class FileImages(Images):
    """Image files, decoded to one working resolution whenever they are taken.

    Args:
        paths: N image files, or images in shards.
        size: side of the square images in pixels.
        fit: how they become squares, see :func:`clbench.data.square.square`; or a scaling of
            another's.
        limits: values that become black and white, in images of more than 8 bits.
        table: file that remembers what is in the files (:mod:`clbench.data.contents`).
        workers: threads that read the files to find out.
    """

    def __init__(
        self,
        paths: Sequence[File],
        size: int,
        fit: Fit | Resize,
        limits: Limits | None = None,
        table: Path | None = None,
        workers: int = 4,
    ) -> None:
        self.paths = paths if isinstance(paths, Members) else tuple(paths)
        self.size, self.fit, self.limits = size, fit, limits
        self.table, self.workers = table, workers

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def _digests(self) -> np.ndarray:
        found = contents.digests(self.paths, self.table, self.workers)
        assert found is not None
        return found

    def digests(self) -> np.ndarray:
        """See :meth:`Images.digests`.

        Raises:
            BadImages: if files cannot be read; it names all of them.
        """
        return self._digests

    def known(self) -> np.ndarray | None:
        """The digests, as far as that takes no reading of the files; None if it does."""
        return contents.digests(self.paths, self.table, reread=False)

    @property
    def about(self) -> str:
        """What decides the pixels beside the files' contents."""
        return f"{self.size} {self.fit}" + (f" {self.limits}" if self.limits else "")

    def take(self, index: Tensor) -> Tensor:
        taken = np.empty((len(index), 3, self.size, self.size), dtype=np.uint8)
        for place, number in enumerate(index.tolist()):
            taken[place] = self.read(number).transpose(2, 0, 1)
        return torch.from_numpy(taken)

    def read(self, number: int, notes: Notes | None = None) -> np.ndarray:
        """One image, uint8 (size, size, 3).

        Args:
            number: its position.
            notes: takes down what a user should know of.

        Raises:
            BadImages: if it cannot be read.
            ClbenchError: if it is not what it was when its digest was taken.
        """
        path = self.paths[number]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadImages([(path, error.strerror or type(error).__name__)]) from error
        if "_digests" in self.__dict__:
            now = hashlib.sha256(content).digest()
            if now != self._digests[number].tobytes():
                raise ClbenchError(
                    f"{spelt(path)} was changed while it was in use: run again with the images as "
                    "they are to be"
                )
        return decode(content, self.size, self.fit, self.limits, path, notes)

    def fingerprint(self) -> str:
        return contents.joined(self.digests(), self.about)


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

    def digests(self) -> np.ndarray | None:
        found = [digests for part in self.parts if (digests := part.digests()) is not None]
        return np.concatenate(found) if len(found) == len(self.parts) else None

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

    def digests(self) -> np.ndarray | None:
        return self.images.digests()

    def fingerprint(self) -> str:
        return self.images.fingerprint()

    def move(self, device: torch.device) -> None:
        self.images.move(device)


def of_rows(array: np.ndarray) -> np.ndarray:
    """SHA-256 of each image of an array (N, …), uint8 (N, 32)."""
    rows = np.ascontiguousarray(array).reshape(len(array), -1)
    joined = b"".join(hashlib.sha256(row.data).digest() for row in rows)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)


def from_array(array: np.ndarray, size: int | None = None) -> TensorImages:
    """In-memory images from what data sets hand over.

    Args:
        array: uint8 (N, H, W) or (N, H, W, 3).
        size: scale to ``size`` × ``size`` pixels (bicubic, antialiased); None keeps H × W.
    """
    digests, about = of_rows(array), f"{array.shape[1:]} {size}"
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
    return TensorImages(tensor, digests, about)
