"""docs/scale.md has the tables of its script, whose figures are those of runs."""

import copy
import importlib.util
import sys
from pathlib import Path

import pytest
from helpers import RECIPE

import clbench

_FILE = Path(__file__).parents[1] / "tools" / "scale.py"
_SPEC = importlib.util.spec_from_file_location("scale", _FILE)
scale = sys.modules["scale"] = importlib.util.module_from_spec(_SPEC)  # dataclasses ask there
_SPEC.loader.exec_module(scale)


def test_the_page_has_the_tables_of_the_script():
    page = scale.PAGE.read_text("utf-8")
    own = page.partition(scale.BEGIN)[2].partition(scale.END)[0]
    assert own.strip() == scale.Study(scale.Assumed()).tables(), "python tools/scale.py"


@pytest.mark.parametrize("keep", scale.KEPT)
def test_a_run_leaves_as_much_as_is_said(data_dir, tmp_path, no_pictures, keep):
    stream = {"classes": [[4, 5], [6, 7], [8, 9]], "train_per_class": 10, "test_per_class": 4}
    recipe = copy.deepcopy(RECIPE) | {"data_dir": str(data_dir), "checkpoints": keep, "steps": 1}
    recipe["stream"] = {"name": "split_digits", "pretrain_classes": [], **stream}
    recipe["optimizer"] = {"name": "sgd", "lr": 1e-3}
    recipe["model"] = {"backbone": "tiny_vit", "weights": "none", "options": {"embed_dim": 192}}
    clbench.run(recipe, tmp_path / "run")
    files = [*(tmp_path / "run" / "checkpoints").glob("*"), tmp_path / "run" / "model.safetensors"]
    left = sum(path.stat().st_size for path in files) / files[-1].stat().st_size
    said = scale.KEPT[keep] - (scale.TASKS - 3) * (keep == "all")
    assert left == pytest.approx(said, rel=0.02)
