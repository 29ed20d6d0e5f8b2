"""How times and bytes of small batches become those of large ones."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from clbench.data.batches import Split
from clbench.data.images import from_array
from clbench.data.transforms import Augment, Transform
from clbench.estimate import speed
from clbench.estimate.speed import FEW, MORE, Line, line, pace

CPU = torch.device("cpu")
PIXELS = torch.zeros(6, 8, 8, 3, dtype=torch.uint8).numpy()
IMAGES = Split(from_array(PIXELS), torch.arange(6), torch.zeros(6))
TRANSFORM = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment())


def test_a_batch_is_what_it_takes_anyway_and_its_images():
    seconds = Line(fixed=0.06, each=0.01)
    assert seconds.of(20) == pytest.approx(0.26)
    assert seconds.of(0) == 0


@pytest.mark.parametrize(
    ("few", "more", "of_100"),
    [
        (0.08, 0.22, 0.06 + 1.0),  # a fixed part and 10 ms an image
        (0.02, 0.16, 1.0),  # no fixed part
        (0.02, 0.30, 100 * 0.02),  # a fixed part is never negative
        (0.02, 0.02, 0.0196 + 0.02),  # a GPU that is not busy: images are nearly free
    ],
)
def test_two_measurements_make_a_line(few, more, of_100):
    assert line(few, more).of(100) == pytest.approx(of_100)


@pytest.mark.parametrize(("slow", "sizes"), [(0.0, {FEW}), (1e9, {FEW, MORE})])
def test_a_slow_network_is_measured_on_few_images(monkeypatch, slow, sizes):
    monkeypatch.setattr(speed, "SLOW", slow)
    seen = set()
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    model.register_forward_pre_hook(lambda _, inputs: seen.add(len(inputs[0])))
    found = pace(model, IMAGES, TRANSFORM, CPU, nullcontext)
    assert seen == sizes
    assert found.train.of(1) > 0
    assert found.test.of(1) > 0


def test_what_a_batch_keeps_for_the_backward_pass_is_counted_in_bytes():
    wide, images = 1000, 3 * 64
    model = nn.Sequential(nn.Flatten(), nn.Linear(images, wide), nn.GELU(), nn.Linear(wide, 2))
    saved, largest = speed._kept(model, IMAGES, TRANSFORM, CPU, nullcontext)
    assert saved.of(100) == pytest.approx(100 * 4 * (images + 2 * wide), rel=0.01)
    assert largest == 4 * wide
    frozen = model.requires_grad_(False)
    assert speed._kept(frozen, IMAGES, TRANSFORM, CPU, nullcontext)[0].of(100) == 0


def test_weights_cast_by_autocast_do_not_grow_with_the_batch():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5000))
    saved, _ = speed._kept(
        model, IMAGES, TRANSFORM, CPU, lambda: torch.autocast("cpu", torch.bfloat16)
    )
    assert saved.of(1000) < 1000 * 4 * (3 * 64) + 3 * 64 * 5000 * 4
