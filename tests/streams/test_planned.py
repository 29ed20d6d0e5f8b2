"""Streams whose data is not there, as a plan sees them: as many tasks, classes and images."""

import pytest

from clbench.errors import ClbenchError
from clbench.estimate.needed import outline
from clbench.recipe.recipe import parse


@pytest.mark.parametrize(
    ("name", "tasks", "classes", "train", "test"),
    [
        ("core50_ni", 8, 50, 119_894, 8 * 44_972),
        ("split_core50", 9, 50, 119_894, 44_972),
        ("office_home", 4, 65, 12_574, 3014),
        ("split_vtab", 5, 50, 1796, 8619),
        ("permuted_mnist", 10, 10, 600_000, 100_000),
        ("five_datasets", 5, 50, 260_108, 57_905),
        ("vision20", 20, 1159, 1_076_394, 254_968),
    ],
)
def test_streams_without_their_data(name, tasks, classes, train, test, tmp_path):
    recipe = {
        "stream": {"name": name, "validation": 0, "download": False},
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "images": {"size": 32},
        "data_dir": str(tmp_path),
        "epochs": 1,
    }
    stream, needed = outline(parse(recipe))
    assert needed.missing
    assert needed.memory + needed.cache > 1000 * 28 * 28
    assert len(stream.tasks) == tasks
    assert len(stream.class_names) == classes
    assert sum(len(task.train) for task in stream.tasks) == train
    assert sum(len(task.test) for task in stream.tasks) == test


def test_a_set_of_another_library_is_not_fetched(tmp_path):
    recipe = parse(
        {
            "stream": {"name": "torchvision", "dataset": "GTSRB", "download": True},
            "model": {"backbone": "tiny_cnn", "weights": "none"},
            "data_dir": str(tmp_path),
            "epochs": 1,
        }
    )
    with pytest.raises(ClbenchError, match=r"torchvision GTSRB is not in .* a dry run does not"):
        outline(recipe)
