"""The same images in several arrangements of their pixels: permuted, or rotated.

An arrangement says for every place of an image which pixel stands there, or that it is black. So
permutations and rotations (to the nearest pixel) are one thing, exact, and cost no memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clbench.data.images import Images


def permutations(side: int, count: int, seed: int, keep_first: bool = False) -> Tensor:
    """Random orders of all pixels, each drawn by its number alone.

    Args:
        side: of the images, in pixels.
        count: how many.
        seed: draws them.
        keep_first: whether the first leaves the images as they are.

    Returns:
        int64 (count, side²).
    """
    places = side**2
    drawn = [np.random.default_rng([seed, number]).permutation(places) for number in range(count)]
    if keep_first:
        drawn[0] = np.arange(places)
    return torch.from_numpy(np.stack(drawn)).long()


def rotations(side: int, angles: Sequence[float]) -> Tensor:
    """Rotations about the centre to the nearest pixel, as Pillow's ``Image.rotate`` makes them.

    Args:
        side: of the images, in pixels.
        angles: in degrees, counter-clockwise.

    Returns:
        int64 (number of angles, side²); -1 is black.
    """
    numbers = np.arange(1, side**2 + 1, dtype=np.int32).reshape(side, side)
    turned = [np.asarray(Image.fromarray(numbers).rotate(angle)).ravel() for angle in angles]
    return torch.from_numpy(np.stack(turned)).long() - 1


class ArrangedImages(Images):
    """N images in each of T arrangements: image n in arrangement t is at t·N + n.

    Args:
        images: N square images.
        arrangements: int64 (T, H·W): for each place the pixel that stands there, or -1 for black.
    """

    def __init__(self, images: Images, arrangements: Tensor) -> None:
        self.images, self.arrangements, self.slow = images, arrangements, images.slow
        self._here = arrangements
        self._digests: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images) * len(self.arrangements)

    def take(self, index: Tensor) -> Tensor:
        """See :meth:`Images.take`."""
        count = len(self.images)
        pixels_BCHW = self.images.take(index % count)
        order = self._here[(index // count).to(self._here.device)][:, None]
        flat = pixels_BCHW.flatten(2)
        moved = flat.gather(2, order.clamp(min=0).expand(-1, flat.shape[1], -1))
        return moved.masked_fill_(order < 0, 0).view_as(pixels_BCHW)

    def digests(self) -> np.ndarray | None:
        """See :meth:`Images.digests`; an image that stays as it is keeps its own."""
        own = self.images.digests()
        if self._digests is not None or own is None:
            return self._digests
        parts, sha256 = [], hashlib.sha256
        rows = [row.tobytes() for row in own]
        for order in self.arrangements.numpy():
            if np.array_equal(order, np.arange(len(order))):
                parts.append(own)
                continue
            about = sha256(order.tobytes()).digest()
            made = b"".join([sha256(row + about).digest() for row in rows])
            parts.append(np.frombuffer(made, np.uint8).reshape(-1, 32))
        self._digests = np.concatenate(parts)
        return self._digests

    def fingerprint(self) -> str:
        """See :meth:`Images.fingerprint`."""
        about = self.arrangements.numpy().tobytes()
        return hashlib.sha256(self.images.fingerprint().encode() + about).hexdigest()

    def move(self, device: torch.device) -> None:
        """See :meth:`Images.move`."""
        self.images.move(device)
        if not self.slow:
            self._here = self.arrangements.to(device)
