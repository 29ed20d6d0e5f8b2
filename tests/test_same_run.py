"""Whether two recipes are one run has one answer, and every field of a recipe has a part in it."""

import itertools

import pytest
from helpers import RECIPE
from pydantic import BaseModel
from report.made_up import run_folder

from clbench.recipe import trainer_arguments
from clbench.recipe.classes import fields
from clbench.recipe.recipe import Recipe, parse
from clbench.record.same_run import ROLES, role_of
from clbench.report.gather import read_run
from clbench.runner.folder import different, plain, recipe_hash
from clbench.streams import STREAMS

#: Mappings whose keys are the user's own, or a method's.
WHOLE = {
    *("methods", "loggers", "callbacks", "per_task", "model.options", "stream.arguments"),
    *("optimizer.options", "schedule.options", "trainer"),
}


def every_field():
    kinds = (fields(kind, "stream.") for kind in STREAMS.values())
    for key, info in itertools.chain(fields(Recipe), *kinds):
        section = isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        if not section:
            yield key
    yield from (f"trainer.{name}" for name in trainer_arguments.RULES)


def test_every_field_is_in_one_role():
    told = [key for keys in ROLES.values() for key in keys.split()]
    assert len(told) == len(set(told))
    known = set(every_field())
    assert known - set(told) == set(), "say in clbench/record/same_run.py what they mean"
    assert set(told) - known == {"stream"}  # a stranger's may have other fields


def test_what_is_not_known_decides():
    for key in ("methods.sfa.p", "stream.own", "trainer.own", "per_task.a.steps", "own"):
        assert role_of(key) == "decides"


FREE = [
    {"name": "other"},
    {"data_dir": "/elsewhere"},
    {"images": {"workers": 7}},
    {"eval_batch_size": 8},
    {"checkpoints": "all"},
    {"loggers": ["csv", {"wandb": {"offline": True}}]},
    {"trainer": {"log_every_n_steps": 7}},
    {"trainer": {"precision": 32, "strategy": "auto", "num_nodes": 1}},  # as without
]
DECIDES = [
    {"batch_size": 7},
    {"images": {"size": 9}},
    {"eval_every": 1},
    {"methods": {"sfa": {}}},
    {"trainer": {"precision": "bf16-mixed"}},
    {"stream": {"validation": 0.2}},
]


def changed(changes):
    values = {key: value for key, value in RECIPE.items() if key != "trainer"}
    for key, value in changes.items():
        old = values.get(key)
        values[key] = old | value if isinstance(old, dict) else value
    return parse(values)


def grouped(tmp_path, *recipes):
    """Whether reports take runs of recipes for one method's."""
    names = map(str, itertools.count())
    runs = [
        read_run(
            run_folder(tmp_path, r.methods and {"sfa": {}}, config=plain(r), folder=next(names))
        )
        for r in recipes
    ]
    return runs[0][0].settings == runs[1][0].settings


@pytest.mark.parametrize("same", [True, False])
def test_suites_reports_and_resume_agree(tmp_path, same):
    for number, changes in enumerate(FREE if same else DECIDES):
        one, other = changed({}), changed(changes)
        assert (recipe_hash(one) == recipe_hash(other)) == same, changes
        assert (not different(one, other)) == same, changes
        assert grouped(tmp_path / str(number), one, other) == same, changes


def test_seeds_repeat_a_method_in_another_run(tmp_path):
    one, other = changed({}), changed({"seed": 3})
    assert recipe_hash(one) != recipe_hash(other)
    assert different(one, other) == ["seed"]
    assert grouped(tmp_path, one, other)


def test_any_number_of_processes_can_take_a_run_over(tmp_path):
    one, other = changed({}), changed({"trainer": {"devices": 2}})
    assert different(one, other) == []
    assert recipe_hash(one) != recipe_hash(other)
    assert not grouped(tmp_path, one, other)


def test_batches_of_evaluation_decide_where_batch_norm_is_taken_anew():
    anew = {"model": {"batch_norm": "recompute"}}
    one, other = changed(anew), changed(anew | {"eval_batch_size": 8})
    assert recipe_hash(one) != recipe_hash(other)
    assert different(one, other) == ["eval_batch_size"]


def test_processes_meet_whose_images_lie_elsewhere(tmp_path):
    here, there = (
        parse(
            {
                "stream": {"name": "image_folder", "train": f"{place}/train", "tasks": 2},
                "model": {"backbone": "tiny_cnn", "weights": "none"},
                "steps": 1,
            }
        )
        for place in (tmp_path / "a", tmp_path / "b")
    )
    assert recipe_hash(here) != recipe_hash(there)
    met = [recipe_hash(recipe, ("free", "place")) for recipe in (here, there)]
    assert met[0] == met[1]
