"""What a method keeps survives a kill: every run goes on to the same weights and record."""

import pytest
from crash.campaign import Campaign
from helpers import RECIPE
from methods.test_all import SETTINGS, SMALL, fitting

from clbench.methods import METHODS


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_run_killed_after_each_file_of_a_checkpoint(forks, tmp_path, name):
    methods = {name: SETTINGS.get(name, {})}
    values = fitting(RECIPE | SMALL, methods) | {"methods": methods, "steps": 4, "eval_every": 3}
    made = Campaign(forks, values, tmp_path)
    after = [i + 1 for i, p in enumerate(made.points) if p.startswith("replace checkpoints/")]
    assert len(after) >= 2
    assert not made.kill(after)
