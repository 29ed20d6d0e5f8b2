"""What several tests share: a small recipe, and one cache for the session."""

import copy

import pytest

RECIPE = {
    "stream": {"name": "split_digits"},
    "images": {"size": 8},
    "model": {
        "backbone": "tiny_cnn",
        "weights": "pretrain",
        "options": {"width": 8},
        "pretraining": {"epochs": 3},
    },
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "steps": 6,
    "batch_size": 32,
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def recipe(data_dir):
    """Values of a recipe that runs in about a second."""
    return copy.deepcopy(RECIPE) | {"data_dir": str(data_dir)}
