"""What a shipped recipe leaves its methods to do."""

from pathlib import Path

import pytest

from clbench.methods.sfa import SFA
from clbench.optim.settings import Schedule
from clbench.recipe.foreseen import foreseen, plan_of
from clbench.recipe.recipe import parse
from clbench.recipe.yamlfile import read_mapping
from clbench.record.scopes import is_little
from clbench.suite.suite import load

ROOT = Path(__file__).parents[1]
#: Steps of a task where a recipe counts epochs: about what its data gives.
STEPS = 100
TASKS = ["a", "b", "c", "d", "e"]


def head(path):
    """The comment that a file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    count = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:count])


def shipped():
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        yield pytest.param(path, lambda path=path: [parse(read_mapping(path))], id=path.stem)
    for path in sorted((ROOT / "suites").glob("*.yaml")):
        recipes = lambda path=path: [run.recipe for run in load(path).runs]  # noqa: E731
        yield pytest.param(path, recipes, id=f"suite {path.stem}")


@pytest.mark.parametrize(("path", "recipes"), shipped())
def test_no_method_is_left_next_to_nothing_or_the_head_says_why(path, recipes):
    for recipe in recipes():
        tasks = list(recipe.per_task) or TASKS
        steps = [(task, recipe.for_task(task).steps or STEPS) for task in tasks]
        for name, scope in foreseen(recipe, steps).items():
            said = f"scope of {name}" in head(path)
            assert said or not is_little(scope), f"{recipe.title}: {name} has {scope:.2%}"


#: Methods whose scope no setting tells: it is measured as a run goes on.
MEASURED = ("l1", "l2", "ewc")


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_where_the_scope_is_measured_the_head_speaks_of_it(path):
    used = [name for name in MEASURED if name in parse(read_mapping(path)).methods]
    assert [name for name in used if f"scope of {name}" in head(path)] == used


def plan(total, **schedule):
    recipe = parse(read_mapping(ROOT / "configs" / "split_cifar100_sfa.yaml"))
    return plan_of(recipe.model_copy(update={"schedule": Schedule(**schedule)}), total)


def test_a_cosine_to_zero_leaves_sfa_next_to_nothing():
    cosine, constant = plan(90, name="cosine", warmup=0.05), plan(90, name="constant")
    assert cosine.left(86) == pytest.approx(0.00022, abs=1e-5)
    assert constant.left(86) == pytest.approx(4 / 90)
    assert SFA(p=0.96).scope(cosine) == pytest.approx(0.00022 / (4 / 90), rel=0.05)
    assert SFA(p=0.96).scope(constant) == pytest.approx(0.75)  # two averages with a half
    # The average at the end alone is what p = 1 is; half-way there is a lot left to train.
    assert SFA(p=1).scope(cosine) == 0.5
    assert SFA(p=0.5).scope(cosine) > 0.3
