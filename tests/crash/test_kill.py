"""A run that is killed anywhere, or whose disk is full, ends by the same command as a whole one.

Here at a few points; ``pytest -m slow tests/crash`` takes all of them, ``python -m
crash.campaign`` (in ``tests/``) counts.
"""

import pytest
from crash.campaign import RECIPES, Campaign, size

SIZES = 20


def test_a_few_points_and_sizes(forks, tmp_path):
    recipe = RECIPES["sfa"] | {"stream": {"name": "split_digits", "tasks": 1}, "steps": 2}
    model = recipe["model"] | {"weights": "none"}
    made = Campaign(forks, recipe | {"model": model}, tmp_path)
    wanted = (
        "half of a write .config.yaml.partial",
        "half of a write record.jsonl",
        "replace summary.json",
    )
    points = [max(i for i, p in enumerate(made.points) if p.endswith(end)) for end in wanted]
    assert not made.kill(points)
    assert not made.fill([size(tmp_path / "whole") // 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_point(forks, tmp_path, name):
    made = Campaign(forks, RECIPES[name], tmp_path)
    assert len(made.points) > 70
    assert not made.kill(range(len(made.points)))


@pytest.mark.slow
def test_a_run_that_goes_on_is_killed_again(forks, tmp_path):
    made = Campaign(forks, RECIPES["sfa"], tmp_path)
    for again in (10, 25, 40, 60):
        assert not made.kill(range(5, len(made.points), 23), again)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_size(forks, tmp_path, name):
    made = Campaign(forks, RECIPES[name], tmp_path)
    most = size(tmp_path / "whole") * 6 // 5
    assert not made.fill(most * number // SIZES for number in range(SIZES))
