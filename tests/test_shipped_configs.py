"""What a shipped recipe leaves its method to do."""

from pathlib import Path

import pytest

from clbench.methods.sfa import SFA, averaging_steps
from clbench.optimizer import Schedule, learning_rate
from clbench.recipe import parse
from clbench.yamlfile import read_mapping

CONFIGS = Path(__file__).parents[1] / "configs"
#: Steps of a task where a recipe counts epochs: about what its data gives.
STEPS = 100


def averaging():
    for path in sorted(CONFIGS.rglob("*.yaml")):
        methods = read_mapping(path).get("methods") or {}
        if "sfa" in methods:
            yield pytest.param(path, id=str(path.relative_to(CONFIGS)))


def left(rules, total, last):
    """The share of a task's learning rate that is still to come after its step ``last``."""
    factor = learning_rate(rules, total)
    rates = [factor(step) for step in range(total)]
    return sum(rates[last:]) / sum(rates)


@pytest.mark.parametrize("path", averaging())
def test_sfa_goes_on_training_after_an_average(path):
    recipe = parse(read_mapping(path))
    sfa = recipe.methods["sfa"]
    assert isinstance(sfa, SFA)
    total = recipe.steps or STEPS
    steps = averaging_steps(total, sfa.p)
    if len(steps) > 1:
        share = left(recipe.schedule, total, steps[-2])
        constant = left(Schedule(name="constant"), total, steps[-2])
        assert share > 0.1 * constant


def test_a_cosine_to_zero_would_not():
    cosine = Schedule(name="cosine", warmup=0.05)
    before_last = averaging_steps(90, 0.96)[-2]
    assert left(cosine, 90, before_last) == pytest.approx(0.00022, abs=1e-5)
    assert left(Schedule(name="constant"), 90, before_last) == pytest.approx(4 / 90)
