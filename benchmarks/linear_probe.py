"""A linear probe on cached features against the same head trained through the frozen backbone.

    python benchmarks/linear_probe.py

Both train one linear head on a frozen EfficientNet-Lite0 with its packaged ImageNet weights for 20
epochs: the same digits, first weights, batches, order and settings of SGD. clbench's side extracts
the features once (within its time); the other runs the backbone in every step, without gradients
and in evaluation mode. Both heads must have the same accuracy on the test images.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from pairs import Pair, arguments, show, take_turns
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.datasets import load
from clbench.data.images import TensorImages, from_array
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.models.backbone import features
from clbench.models.backbone import load as load_backbone
from clbench.models.settings import ModelConfig, Probe
from clbench.models.training import extract, linear_probe
from clbench.seeding import generator, seed_everything

CLASSES, BATCH, SEED = 10, 128, 0


def through_backbone(
    model: nn.Module, images: Tensor, labels: Tensor, transform: Transform, rules: Probe
) -> nn.Linear:
    """The head, trained with a forward pass of the backbone in every step."""
    random = generator(SEED)
    head = nn.Linear(model.num_features, CLASSES)
    bound = 1 / math.sqrt(head.in_features)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=random) * 2 * bound - bound)
    optimizer = torch.optim.SGD(
        head.parameters(), rules.lr, rules.momentum, weight_decay=rules.weight_decay, fused=True
    )
    model.eval()
    for _ in range(rules.epochs):
        for chosen in torch.randperm(len(labels), generator=random).split(rules.batch_size):
            with torch.no_grad():
                features_BF = features(model, transform.test(images[chosen]))
            loss = F.cross_entropy(head(features_BF), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head


def main() -> int:
    """Measure, print, and return the exit code."""
    options = arguments(__doc__, rounds=2)
    size, count = 64, 384
    seed_everything(SEED)
    loaded = load_backbone(
        ModelConfig(backbone="tf_efficientnet_lite0", weights="packaged"), CLASSES, size
    )
    model = loaded.model.requires_grad_(False).to(memory_format=torch.channels_last)
    rules = Probe(batch_size=BATCH)
    transform = Transform(size, loaded.mean, loaded.std, Augment())
    data = load("digits", Path("data"))
    images = from_array(data.train.images[:count], size).tensor.expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(data.train.labels[:count])
    test = from_array(data.test.images, size).tensor.expand(-1, 3, -1, -1).contiguous()
    test_labels = torch.from_numpy(data.test.labels)
    split = Split(TensorImages(images), torch.arange(count), labels)
    heads: dict[str, nn.Linear] = {}

    def ours() -> None:
        found = extract(model, split, Reader(transform, BATCH, 0))
        heads["clbench"], _ = linear_probe(found, labels, CLASSES, rules, SEED)

    def theirs() -> None:
        heads["loop"] = through_backbone(model, images, labels, transform, rules)

    mine, others = take_turns(ours, theirs, options.rounds)
    model.eval()
    with torch.no_grad():
        seen = features(model, transform.test(test))
        right = {
            name: int((head(seen).argmax(1) == test_labels).sum()) for name, head in heads.items()
        }
    same = abs(right["clbench"] - right["loop"]) <= 1  # rounding may turn a single image
    print(
        f"test images right: {right['clbench']} and {right['loop']} of {len(test_labels)}: "
        f"{'the same accuracy' if same else 'NOT the same accuracy'}"
    )
    pair = Pair(
        f"probe, {rules.epochs} epochs, lite0 {size}×{size}, {count} images",
        mine,
        others,
        at_least=10.0,
    )
    return show([pair], "through backbone") or int(not same)


if __name__ == "__main__":
    sys.exit(main())
