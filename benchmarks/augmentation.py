"""Images per second of the in-memory augmentation path against PIL, torchvision and a DataLoader.

    python benchmarks/augmentation.py

Both deliver shuffled, augmented, normalised float batches of CIFAR-like images (random crop after
padding by 4, random flip). clbench's side is what training sees: Batches and Transform, one thread
of Python. The other side is the usual data set of PIL images with torchvision's transforms, in a
DataLoader with 0 and with 2 workers, of which the faster one counts.
"""

from __future__ import annotations

import statistics
import sys

import numpy as np
import torch
from pairs import Pair, arguments, show, take_turns
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as tv

from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import TensorImages
from clbench.data.transforms import Augment, Transform

BATCH, SIZE = 64, 32
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class PILImages(Dataset[tuple[Tensor, int]]):
    """An array of images as torchvision's data sets hand them out.

    Args:
        images: uint8 (N, H, W, 3).
        labels: int64 (N,).
        transform: from a PIL image to a tensor.
    """

    def __init__(self, images: np.ndarray, labels: list[int], transform: tv.Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def compare(what: str, augment: Augment, usual: list[object], rounds: int, count: int) -> Pair:
    """Time one pass over ``count`` images on both sides."""
    random = np.random.default_rng(0)
    array = random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    labels = random.integers(0, 10, count)
    stored = torch.from_numpy(array).permute(0, 3, 1, 2)
    split = Split(TensorImages(stored), torch.arange(count), torch.from_numpy(labels))
    batches = Batches(Examples(split), BATCH, (0,))
    transform = Transform(SIZE, MEAN, STD, augment)

    def ours() -> None:
        seen = 0
        for batch in batches:
            inputs = transform.train(batch.images, batch.draws)
            assert inputs.shape[1:] == (3, SIZE, SIZE)
            seen += len(inputs)
        assert seen == count

    dataset = PILImages(
        array, labels.tolist(), tv.Compose([*usual, tv.ToTensor(), tv.Normalize(MEAN, STD)])
    )
    outcomes = []
    for workers in (0, 2):
        loader = DataLoader(
            dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )

        def theirs(loader: DataLoader[tuple[Tensor, int]] = loader) -> None:
            assert sum(len(inputs) for inputs, _ in loader) == count

        outcomes.append((workers, *take_turns(ours, theirs, rounds)))
    workers, mine, others = min(outcomes, key=lambda outcome: statistics.median(outcome[2]))
    rates = [count / statistics.median(seconds) for seconds in (mine, others)]
    print(f"{what}: {rates[0]:,.0f} images/s against {rates[1]:,.0f} with {workers} workers")
    goal = 10.0 if augment.crop == "pad" else None
    return Pair(what, mine, others, count, "image", at_least=goal)


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments(__doc__, rounds=4)
    flip = tv.RandomHorizontalFlip()
    return show(
        [
            compare(
                "pad, crop, flip",
                Augment(crop="pad", flip=True),
                [tv.RandomCrop(SIZE, padding=4), flip],
                options.rounds,
                4000,
            ),
            compare(
                "resized crop, flip",
                Augment(crop="resized", flip=True),
                [tv.RandomResizedCrop(SIZE), flip],
                options.rounds,
                2000,
            ),
            compare(
                "resized crop, flip, jitter",
                Augment(crop="resized", flip=True, jitter=0.4),
                [tv.RandomResizedCrop(SIZE), flip, tv.ColorJitter(0.4, 0.4, 0.4)],
                options.rounds,
                2000,
            ),
        ],
        "PIL + torchvision",
    )


if __name__ == "__main__":
    sys.exit(main())
