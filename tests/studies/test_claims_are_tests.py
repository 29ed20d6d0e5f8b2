"""Claims of the studies compare what they say: nothing else differs between the recipes."""

import sys
from pathlib import Path

import pytest
import records
from report.made_up import run_folder

from clbench.report.compare import compare
from clbench.suite.suite import load

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "studies"))

import flow_digits  # noqa: E402
import flow_table  # noqa: E402
import flow_table_bn  # noqa: E402
import imagenet_forgetting  # noqa: E402
import mofo_one_task  # noqa: E402
import mofo_stream  # noqa: E402
import sfa_fashion_mnist  # noqa: E402
import sfa_stream  # noqa: E402
from page_claims import judge_claims  # noqa: E402
from suite_page import sections_of  # noqa: E402

STUDIES = (
    flow_digits,
    flow_table,
    flow_table_bn,
    imagenet_forgetting,
    mofo_one_task,
    mofo_stream,
    sfa_fashion_mnist,
    sfa_stream,
)
TASKS = 2


def moving(recipe):
    """BatchNorm layers in training mode, of one."""
    rule, still = recipe.model.batch_norm_training, {"linear_probe", "lora"} & recipe.methods.keys()
    none = recipe.model.backbone == "tiny_cnn" or rule == "frozen" or (rule == "update" and still)
    return int(not none)


def made_up(place, run):
    """A folder of a run that is planned, with what its record has to say of its length."""
    recipe = run.recipe
    count = 1 if getattr(recipe.stream, "tasks", None) == 1 else TASKS
    folder = run_folder(
        place,
        {name: {} for name in recipe.methods},
        recipe.seed,
        tasks=count,
        config=recipe.model_dump(mode="json"),
        folder=run.name,
        title=f"{run.method}-seed{recipe.seed}",
        stream=recipe.stream.name,
        backbone=recipe.model.backbone,
    )
    # All in one stage, or one after the other.
    length = count if "multitask" in recipe.methods else 1

    def change(event):
        if event["event"] == "task":
            event |= {"steps": 10 * length, "samples": 100 * length}
            event["modes"] = records.MODES | {"batch_norms_in_training_mode": moving(recipe)}
            event["distance"] = {"pretrained": 1.0, "previous": 1.0}

    records.edit(folder, change)
    return folder


@pytest.mark.parametrize("study", [module.STUDY for module in STUDIES], ids=lambda s: s.name)
def test_nothing_else_differs_between_what_claims_compare(tmp_path, study):
    labels = {}
    for name in study.suites:
        runs = load(ROOT / "suites" / f"{name}.yaml").runs
        for run in (run for run in runs if run.recipe.seed == runs[0].recipe.seed):
            labels[made_up(tmp_path / name, run)] = run.method
    sections = sections_of(study, compare([tmp_path], labels))
    unfair = {
        one.claim.text: one.verdict.unfair
        for one in judge_claims(study.claims, sections, study.scenario, study.looks)
        if one.verdict.unfair
    }
    assert not unfair
