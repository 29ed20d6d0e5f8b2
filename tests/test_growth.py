"""What a long stream costs: passes and numbers for each task that is tested, and nothing else."""

import json
from itertools import pairwise

import pytest
import torch

import clbench
from clbench.data import reader
from clbench.data.batches import Split
from clbench.data.images import TensorImages

TASKS = 6


@pytest.fixture(scope="module")
def record(tmp_path_factory, data_dir):
    values = {
        "stream": {"name": "permuted_digits", "tasks": TASKS, "validation": 0.0},
        "images": {"size": 8},
        "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
        "steps": 1,
        "batch_size": 16,
        "data_dir": str(data_dir),
        "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
    }
    return clbench.run(values, tmp_path_factory.mktemp("growth") / "run")


def numbers(node):
    """How many numbers and words there are."""
    if isinstance(node, dict | list):
        return sum(map(numbers, node.values() if isinstance(node, dict) else node))
    return 1


def test_a_test_passes_each_image_once(record):
    images = record.run.test_images
    for done, event in enumerate(record.tasks, 1):
        assert event.parts["test"].passed == sum(images[:done])


def test_a_line_of_the_record_grows_by_its_accuracies_alone(record):
    counts = [numbers(json.loads(event.text)) for event in record.tasks]
    assert {after - before for before, after in pairwise(counts)} == {2}
    assert len(counts) == TASKS


def splits(count, alike):
    images = TensorImages(torch.zeros(4 * count, 3, 2, 2, dtype=torch.uint8))
    starts = [0 if alike else 4 * number for number in range(count)]
    return [Split(images, torch.arange(4) + start, torch.zeros(4).long()) for start in starts]


@pytest.mark.parametrize("alike", [False, True])
def test_splits_are_told_apart_in_one_look_at_each(monkeypatch, alike):
    looked, same = [], reader._same
    monkeypatch.setattr(reader, "_same", lambda *pair: looked.append(1) or same(*pair))
    some = splits(50, alike)
    found, places = reader.distinct(some)
    assert places == ([0] * 50 if alike else list(range(50)))
    assert len(found) == (1 if alike else 50)
    assert len(looked) == (49 if alike else 0)


def test_splits_that_look_the_same_at_both_ends_are_still_compared():
    images = TensorImages(torch.zeros(4, 3, 2, 2, dtype=torch.uint8))
    labels, orders = torch.zeros(4).long(), ([0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 2, 3], [])
    some = [Split(images, torch.tensor(o).long(), labels[: len(o)]) for o in orders]
    other = Split(images, torch.arange(4), labels + 1)
    assert reader.distinct([*some, other])[1] == [0, 1, 0, 2, 3]
