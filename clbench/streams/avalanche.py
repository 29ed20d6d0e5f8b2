"""Any classification benchmark of avalanche-lib as a stream (needs ``clbench[avalanche]``)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from clbench.data.datasets import DataSet, Labelled
from clbench.errors import ClbenchError
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Stream, StreamConfig
from clbench.streams.divide import LABELS, Labels
from clbench.streams.storage import DISK, Shelf, Storage


class AvalancheConfig(StreamConfig):
    """A benchmark class of ``avalanche.benchmarks.classic``, one experience a task.

    Every experience owns its rows of the head, also where experiences share classes
    (PermutedMNIST, say): task-incremental accuracy is then the usual multi-head one.
    ``labels: shared`` gives them one head.
    """

    summary: ClassVar[str] = "a benchmark class of avalanche-lib, e.g. benchmark: SplitMNIST"

    benchmark: str = Field(description="class name, e.g. SplitMNIST, PermutedMNIST, CORe50")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="its arguments, e.g. {n_experiences: 5, seed: 0}"
    )

    labels: Labels = Field(
        "own", description=f"{LABELS}. An experience's classes have the outputs 0, 1 … in order"
    )

    @property
    def shares_labels(self) -> bool:
        """See :attr:`StreamConfig.shares_labels`."""
        return self.labels == "shared"

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        benchmark = self._benchmark(data_dir)
        size = storage.stored or storage.size
        parts: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {
            "train": ([], []),
            "test": ([], []),
        }
        groups, names, first = [], [], 0
        experiences = zip(benchmark.train_stream, benchmark.test_stream, strict=True)
        for number, (train, test) in enumerate(experiences):
            classes = sorted(train.classes_in_this_experience)
            for part, experience in (("train", train), ("test", test)):
                images, labels = materialise(experience.dataset, size)
                strange = sorted(set(labels.tolist()) - set(classes))
                if strange:
                    raise ClbenchError(
                        f"{self.benchmark}: the test part of experience {number} has classes "
                        f"{strange} that its training part lacks; such benchmarks (one test set "
                        "for all experiences) are not supported"
                    )
                parts[part][0].append(images)
                parts[part][1].append(np.searchsorted(classes, labels) + first)
            groups.append(
                Group(f"experience {number}", 0, tuple(range(first, first + len(classes))))
            )
            names += [str(c) if self.shares_labels else f"{number}/{c}" for c in classes]
            first += len(classes)
        data = DataSet(
            self.benchmark,
            _concatenated(*parts["train"]),
            _concatenated(*parts["test"]),
            tuple(names),
        )
        return assemble(self, [data], groups, data_dir, storage, shelf=shelf)

    def _benchmark(self, data_dir: Path) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about solvers that clbench does not use
                from avalanche.benchmarks import classic
        except ImportError as error:
            raise ClbenchError(
                f"stream `avalanche` needs avalanche-lib ({error}): "
                "pip install 'clbench[avalanche]'"
            ) from error
        make = getattr(classic, self.benchmark, None)
        if not self.benchmark[:1].isupper() or make is None:
            known = ", ".join(name for name in dir(classic) if name[0].isupper())
            raise ClbenchError(
                f"stream.benchmark = {self.benchmark!r} is not a benchmark of avalanche-lib; "
                f"there are {known}"
            )
        # Untransformed images come out; clbench normalises and augments.
        arguments = {"train_transform": None, "eval_transform": None} | self.arguments
        arguments.setdefault("dataset_root", str(data_dir))
        try:
            return make(**arguments)
        except (TypeError, ValueError, AssertionError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ClbenchError(
                f"avalanche-lib refuses {self.benchmark}({self.arguments}): {reason}"
            ) from error


def _concatenated(images: list[np.ndarray], labels: list[np.ndarray]) -> Labelled:
    return Labelled(np.concatenate(images), np.concatenate(labels))


def materialise(samples: Iterable[Any], size: int) -> tuple[np.ndarray, np.ndarray]:
    """All samples of an experience as one array.

    Args:
        samples: yields (image, label, …), the image as PIL or as a float tensor in 0…1.
        size: side in pixels, for images that are larger.

    Returns:
        uint8 images (N, H, W, 3) and int64 labels (N,).

    Raises:
        ClbenchError: if an image is neither.
    """
    images, labels = [], []
    for image, label, *_ in samples:
        if isinstance(image, torch.Tensor):
            if image.is_floating_point() and not 0 <= float(image.min()) <= float(image.max()) <= 1:
                raise ClbenchError(
                    "the benchmark yields normalised tensors, not images: pass "
                    "stream.arguments: {train_transform: null, eval_transform: null}"
                )
            pixels = (image * 255).round().byte() if image.is_floating_point() else image
            pixels = pixels if pixels.ndim == 3 else pixels[None]
            image = Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).numpy())
        if not isinstance(image, Image.Image):
            raise ClbenchError(f"the benchmark yields {type(image).__name__}, not images")
        image = image.convert("RGB")
        if min(image.size) > size or image.width != image.height:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        images.append(np.asarray(image))
        labels.append(int(label))
    if len({image.shape for image in images}) > 1:
        images = [np.asarray(Image.fromarray(x).resize((size, size))) for x in images]
    return np.stack(images), np.array(labels, dtype=np.int64)
