"""How times of small batches become those of large ones."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from clbench import speed
from clbench.speed import FEW, MORE, Seconds


def test_a_batch_is_what_it_takes_anyway_and_its_images():
    seconds = Seconds(fixed=0.06, each=0.01)
    assert seconds.of(20) == pytest.approx(0.26)
    assert seconds.ratio(20, 4) == pytest.approx(0.26 / 0.10)
    assert seconds.images(0.26 + 1e-9) == 20


@pytest.mark.parametrize(
    ("few", "more", "of_100"),
    [
        (0.08, 0.14, 0.06 + 1.0),  # a fixed part and 10 ms an image
        (0.02, 0.08, 1.0),  # no fixed part
        (0.02, 0.10, 100 * 0.08 / 6),  # a fixed part is never negative
        (0.02, 0.02, 0.0196 + 0.02),  # a GPU that is not busy: images are nearly free
    ],
)
def test_two_measurements_make_a_line(monkeypatch, few, more, of_100):
    times = {FEW: few, MORE: more}
    monkeypatch.setattr(speed, "_times", lambda _, images, *__: (times[images], times[images]))
    train, forward = speed.speed(nn.Linear(1, 1), 8, torch.device("cpu"), nullcontext)
    assert train == forward
    assert train.of(100) == pytest.approx(of_100)


def test_a_slow_network_is_measured_once(monkeypatch):
    asked = []
    monkeypatch.setattr(speed, "_times", lambda _, images, *__: asked.append(images) or (3.0, 1.0))
    train, forward = speed.speed(nn.Linear(1, 1), 8, torch.device("cpu"), nullcontext)
    assert asked == [FEW]
    assert (train.of(10), forward.of(10)) == (15.0, 5.0)


def test_nothing_of_it_stays_in_the_network():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    train, forward = speed.speed(model, 8, torch.device("cpu"), nullcontext)
    assert all(p.grad is None for p in model.parameters())
    assert train.of(1) > 0
    assert forward.of(1) > 0
