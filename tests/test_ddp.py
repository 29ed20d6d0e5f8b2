"""Two processes compute what one does."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file
from test_resume import finish, start

from clbench.record import Record
from clbench.weights import distance


@pytest.mark.parametrize(
    "methods", [{"sfa": {"p": 0.5}}, {"flow": {}, "head_refit": {}}], ids="+".join
)
def test_two_processes_equal_one(recipe, tmp_path, methods):
    recipe |= {"methods": methods, "steps": 8, "eval_every": 4, "batch_size": 31}
    two = recipe | {"trainer": recipe["trainer"] | {"devices": 2, "strategy": "ddp"}}
    finish(start(recipe, tmp_path / "one", tmp_path))
    finish(start(two, tmp_path / "two", tmp_path))
    one, both = Record.load(tmp_path / "one"), Record.load(tmp_path / "two")
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    assert distance(*weights) < 1e-4
    for scenario in ("task_incremental", "class_incremental"):
        difference = one.accuracy_matrix(scenario) - both.accuracy_matrix(scenario)
        assert np.nanmax(abs(difference)) < 0.03  # at most an image or two of some seventy
    assert one.summary()["cost"]["samples"] == both.summary()["cost"]["samples"]
    # Written once: no line twice, no step twice.
    assert [e["event"] for e in both.events] == [e["event"] for e in one.events]
    assert len(list((tmp_path / "two").glob("*tfevents*"))) == 1


def test_equal_weights_are_evaluated_exactly_equally(recipe, tmp_path):
    """A learning rate of almost nothing leaves the probed weights; counts must then agree."""
    recipe["model"] |= {"head": "linear_probe"}
    recipe |= {"optimizer": {"name": "sgd", "lr": 1e-30}, "steps": 1}
    two = recipe | {"trainer": recipe["trainer"] | {"devices": 2, "strategy": "ddp"}}
    finish(start(recipe, tmp_path / "one", tmp_path))
    finish(start(two, tmp_path / "two", tmp_path))
    one, both = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("one", "two"))
    for key in ("task_incremental", "class_incremental", "retention"):
        assert one[key] == both[key]
