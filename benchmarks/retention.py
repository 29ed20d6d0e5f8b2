"""All measures of retention together against one pass of the images through the original head.

    python benchmarks/retention.py

EfficientNet-Lite0 with its packaged ImageNet weights looks at random images in memory, so that no
decoding hides what the measures cost. clbench's side measures the head, kNN, ridge, the nearest
mean and linear CKA from features that are taken once; the other has the head alone. What counts is
the process's CPU time, so that a busy machine does not decide.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import torch
from pairs import Pair, arguments, show, take_turns
from torch import nn

from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.measure.evaluate import Evaluator
from clbench.measure.retention import RetentionTest
from clbench.measure.retention_images import RetentionImages
from clbench.metrics.retained import ANYWHERE, MEASURES
from clbench.models.backbone import load
from clbench.models.settings import ModelConfig
from clbench.seeding import seed_everything

SIZE, CLASSES = 96, 64


def taken(test: RetentionTest, model: nn.Module) -> float:
    """CPU seconds of a measurement."""
    began = time.process_time()
    test.measure(model)
    return time.process_time() - began


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments(__doc__, rounds=5)
    seed_everything(0)
    loaded = load(ModelConfig(backbone="tf_efficientnet_lite0", weights="packaged"), 2, SIZE)
    model = loaded.model.to(memory_format=torch.channels_last)
    evaluator = Evaluator(Reader(Transform(SIZE, loaded.mean, loaded.std, Augment()), 64, 0))
    by_features: Any = {name: MEASURES[name]() for name in ANYWHERE}
    pairs = []
    for count in (512, 1024):
        pixels = torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8)
        labels = torch.arange(count) % CLASSES
        split = Split(TensorImages(pixels), torch.arange(count), labels)
        tests = [
            RetentionTest((RetentionImages("", split, loaded.head, measures),), evaluator, {})
            for measures in (by_features, {})
        ]
        every, head = (partial(taken, test, model) for test in tests)
        mine, others = take_turns(every, head, options.rounds)
        what = f"{1 + len(ANYWHERE)} measures, lite0 {SIZE}×{SIZE}, {count:,} images"
        pairs.append(Pair(what, mine, others, count, "image", at_most=1.2))
    return show(pairs, "head alone")


if __name__ == "__main__":
    sys.exit(main())
