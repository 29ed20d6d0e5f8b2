import json
from pathlib import Path

import numpy as np
import pytest

from clbench.record import scores

REFERENCE = json.loads((Path(__file__).parent / "reference/metrics.json").read_text())
NAMES = ["overall_performance", "backward_transfer", "forgetting", "learning_accuracy"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name):
    assert getattr(scores, name)(REFERENCE["R"]) == pytest.approx(REFERENCE[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_never_reads_above_the_diagonal(name):
    R = np.array(REFERENCE["R"])
    R[np.triu_indices(len(R), 1)] = np.nan
    assert getattr(scores, name)(R) == pytest.approx(REFERENCE[name], abs=1e-12)


def test_one_task_has_nothing_to_transfer_back_to():
    assert scores.backward_transfer([[0.5]]) is None
    assert scores.forgetting([[0.5]]) is None
    assert scores.overall_performance([[0.5]]) == scores.learning_accuracy([[0.5]]) == 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("R", [[0.5, 0.5], [[0.1, 0.2]], []])
def test_refuses_what_is_no_square(name, R):
    with pytest.raises(ValueError, match="must be a"):
        getattr(scores, name)(R)
