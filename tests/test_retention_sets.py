"""Which images retention is measured on, by which rows of the head, and what is said of others."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from helpers import RECIPE, comparable, interrupt_after
from PIL import Image
from safetensors.torch import save_file
from timm.data import ImageNetInfo

import clbench
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.measure.retention import RetentionTest
from clbench.measure.retention_sets import plan_sets, synsets
from clbench.metrics.retained import ANYWHERE
from clbench.models import ModelConfig
from clbench.models.backbone import features, load
from clbench.recipe.recipe import parse
from clbench.record.record import Record

IMAGENET = ImageNetInfo("imagenet-1k").label_names()
ALL = ["head", *ANYWHERE]
#: A class that ImageNet-21k has under another id.
LACKING = IMAGENET[850]


def folders(root, names, each=1):
    """Class folders with files that are called images, and are not read."""
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(each):
            (root / name / f"{number}.png").write_bytes(b"x")
    return str(root)


def pictures(root, names, each=4):
    """Noise about a colour a class."""
    random = np.random.default_rng(len(names))
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for place in range(each):
            middle = np.array([60 * number % 256, 200 - 40 * number, 30 * number])
            pixels = middle + random.normal(0, 40, (12, 12, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / name / f"{place}.png")
    return str(root)


def recipe(tmp_path, weights="w.safetensors", **retention):
    return parse(
        {
            "stream": {"name": "split_digits"},
            "model": {"backbone": "tiny_cnn", "weights": weights, "options": {"width": 8}},
            "images": {"size": 8},
            "retention": retention,
            "data_dir": str(tmp_path),
            "epochs": 1,
        }
    )


def only(tmp_path, outputs, **retention):
    plan = plan_sets(recipe(tmp_path, **retention), outputs, {})
    (one,) = plan.sets
    return one, plan.reasons


def listed(which):
    """timm's indices of the classes of ImageNet-A or -R."""
    path = files("timm.data") / "_info" / f"imagenet_{which}_indices.txt"
    return [int(line) for line in path.read_text().split()]


@pytest.mark.parametrize("outputs", [11221, 11821, 21841, 21842, 21843])
def test_heads_of_more_classes_have_the_rows_of_the_images_classes(tmp_path, outputs):
    names = sorted([IMAGENET[0], IMAGENET[207], IMAGENET[999]])
    one, reasons = only(tmp_path, outputs, data=folders(tmp_path / "val", names, 2))
    assert [synsets(outputs)[row] for row in one.rows] == names
    assert one.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert reasons == []


def test_a_class_that_the_head_lacks_is_not_asked_about_and_said(tmp_path):
    names = sorted([IMAGENET[0], LACKING, IMAGENET[999]])
    one, reasons = only(tmp_path, 21843, data=folders(tmp_path / "val", names))
    kept = [name for name in names if name != LACKING]
    assert [synsets(21843)[row] for row in one.rows] == kept
    assert sorted(one.labels.tolist()) == [0, 1, 2]  # 2 is beyond the head's two outputs
    assert one.labels[names.index(LACKING)] == 2
    (line,) = reasons
    assert LACKING in line
    assert "is not asked about them" in line


@pytest.mark.parametrize("which", ["a", "r"])
def test_of_imagenet_a_and_r_their_own_classes_compete(tmp_path, which):
    numbers = sorted(listed(which))
    names = [IMAGENET[number] for number in numbers]
    one, _ = only(tmp_path, 1000, data=folders(tmp_path / "val", names))
    assert sorted(one.rows.tolist()) == numbers
    assert [IMAGENET[one.rows[label]] for label in one.labels] == sorted(names)
    every, _ = only(
        tmp_path, 1000, data=str(tmp_path / "val"), measures=[{"head": {"among": "all"}}]
    )
    assert every.rows is None
    assert sorted(every.labels.tolist()) == numbers


def test_imagenet_v2s_folders_are_numbers(tmp_path):
    one, _ = only(tmp_path, 1000, data=folders(tmp_path / "val", map(str, range(1000))))
    assert one.rows is None
    wanted = [int(path.parent.name) for path in one.files.paths]
    assert one.labels.tolist() == wanted
    assert wanted[:3] == [0, 1, 10]  # in the order of names


def test_folders_of_ones_own_called_by_numbers_are_no_imagenet(tmp_path):
    root = folders(tmp_path / "val", ["0", "1"], 2)
    with pytest.raises(ClbenchError, match="not ImageNet-1k classes: 0, 1"):
        plan_sets(recipe(tmp_path, data=root), 1000, {})


def test_a_thousand_outputs_are_left_as_they_are(tmp_path):
    one, reasons = only(tmp_path, 1000, data=folders(tmp_path / "val", IMAGENET[5:8]))
    assert (one.rows, reasons) == (None, [])
    assert one.labels.tolist() == [5, 6, 7]


def test_some_rows_of_the_head_are_measured(tmp_path):
    """What an in21k head of a file says among the classes of the images, by hand."""
    torch.manual_seed(0)
    config = ModelConfig(backbone="tiny_cnn", weights="none", options={"width": 8})
    save_file(load(config, 21843, 8).model.state_dict(), tmp_path / "w.safetensors")
    values = recipe(tmp_path, weights=str(tmp_path / "w.safetensors"), data=pictures(
        tmp_path / "val", names := sorted([IMAGENET[3], LACKING, IMAGENET[900], IMAGENET[7]])
    ))  # fmt: skip
    pretrained = load(values.model, 2, 8)
    transform = Transform(8, pretrained.mean, pretrained.std, Augment())
    reader = Reader(transform, 5, 0)
    test = RetentionTest.make(values, None, pretrained, Evaluator(reader), torch.device("cpu"))
    found = test.measure(pretrained.model)
    split = test.sets[0].split
    with torch.no_grad():
        inputs = transform.test(split.images.take(split.index))
        logits = pretrained.head(features(pretrained.model.eval(), inputs))
    kept = [name for name in names if name != LACKING]
    rows = [synsets(21843).index(name) for name in kept]
    right = []
    for path, one in zip(split.images.files.paths, logits, strict=True):
        if path.parent.name != LACKING:
            right.append(kept[int(one[rows].argmax())] == path.parent.name)
    assert found == {"retention": {"top1": pytest.approx(np.mean(right)), "top5": 1.0}}


def test_without_a_head_features_are_measured_and_the_head_is_said(tmp_path, capsys):
    folders(tmp_path / "imagenet" / "val", IMAGENET[:3], 14)
    one, (line,) = only(tmp_path, 0, measures=ALL)
    assert (one.head, list(one.measures)) == (False, ["knn", "ridge", "ncm", "cka"])
    assert "is not measured by the original head" in line
    plan = plan_sets(recipe(tmp_path), 0, {})
    assert plan.sets == []
    assert "say retention.measures: [knn, ridge, ncm, cka]" in plan.reasons[0]


def test_images_that_are_not_there_are_said(tmp_path):
    plan = plan_sets(recipe(tmp_path, measures=ALL), 1000, {})
    assert plan.sets == []
    assert plan.reasons == [
        f"retention is not measured: no ImageNet images in {tmp_path}/imagenet/val/<wnid>/"
    ]


def test_a_set_of_ones_own_has_the_measures_that_it_can_have(tmp_path):
    sets = {"birds": {"data": folders(tmp_path / "birds", ["owl", "wren"], 2)}}
    one, (line,) = only(tmp_path, 1000, data="none", measures=["head", "ncm"], sets=sets)
    assert (one.name, one.head, list(one.measures)) == ("birds", False, ["ncm"])
    assert line.startswith("retention.sets.birds is not measured by the original head: the folders")
    sets["birds"]["measures"] = ["head"]
    with pytest.raises(ClbenchError, match=r"sets.birds: the folders in .* say retention"):
        plan_sets(recipe(tmp_path, data="none", sets=sets), 1000, {})


def test_every_second_image_is_learned_from_or_it_is_said(tmp_path):
    root = folders(tmp_path / "one", ["owl", "wren"])
    with pytest.raises(ClbenchError, match=r"no class has two: give retention.train, or leave"):
        plan_sets(recipe(tmp_path, data=root, measures=["knn"]), 1000, {})
    (tmp_path / "one" / "owl" / "more.png").write_bytes(b"x")
    one, (line,) = only(tmp_path, 1000, data=root, measures=["ridge", "ncm"])
    assert list(one.measures) == ["ridge", "ncm"]
    assert "do not ask about 1 class of one image" in line
    # Where nobody named the folder, what cannot be measured is left out.
    folders(tmp_path / "imagenet" / "val", IMAGENET[:4])
    one, (line,) = only(tmp_path, 1000, measures=["head", "knn", "cka"])
    assert (one.head, list(one.measures)) == (True, ["cka"])
    assert "is not measured by knn" in line
    (tmp_path / "imagenet" / "val" / IMAGENET[0] / "more.png").write_bytes(b"x")
    one, (_, line) = only(tmp_path, 1000, measures=["head", "knn", "cka"])
    assert (one.head, list(one.measures)) == (True, ["cka"])
    assert "is not measured by knn: knn.k = 20, but there are 4" in line


def test_too_few_images_are_said_of_the_set_before_one_is_decoded(tmp_path):
    data = folders(tmp_path / "data", ["owl", "wren"], 5)
    few = {"birds": {"data": data, "measures": [{"knn": {"k": 7}}]}}
    with pytest.raises(ClbenchError, match=r"retention.sets.birds: knn.k = 7, but there are 6"):
        plan_sets(recipe(tmp_path, data="none", sets=few), 1000, {})
    one, _ = only(tmp_path, 1000, data=data, measures=[{"knn": {"k": 6}}])
    assert len(one) == 10
    three = folders(tmp_path / "three", ["owl"], 3)
    with pytest.raises(ClbenchError, match=r"retention: cka needs 4 images, and there are 3"):
        plan_sets(recipe(tmp_path, data=three, measures=["cka"]), 1000, {})


def test_what_would_be_asked_about_what_it_learned_is_refused(tmp_path):
    data = folders(tmp_path / "data", ["owl", "wren"], 5)
    again = f"{data}/../data"
    with pytest.raises(ClbenchError, match=r"retention.train = .* is retention.data: it would be"):
        plan_sets(recipe(tmp_path, data=data, train=again, measures=["ncm"]), 1000, {})


@pytest.mark.parametrize("given", [{"data": "none"}, {"data": "auto", "weights": "pretrain"}])
def test_images_to_learn_from_that_nothing_asks_for_are_refused(tmp_path, given):
    with pytest.raises(ClbenchError, match=r"retention.train = birds would not be used"):
        plan_sets(recipe(tmp_path, train="birds", **given), 4, {})


def test_images_to_learn_from_that_no_measure_uses_are_said(tmp_path):
    data = folders(tmp_path / "data", ["owl", "wren"], 5)
    _, (line,) = only(tmp_path, 1000, data=data, train="nowhere", measures=["cka"])
    assert line == "retention.train = nowhere is not used: none of its measures learns labels"


def test_other_images_to_learn_from_have_the_same_classes(tmp_path):
    data, train = (folders(tmp_path / name, ["owl", "wren"], 10) for name in ("data", "train"))
    one, _ = only(tmp_path, 1000, data=data, train=train, measures=["knn"])
    assert len(one) == 40
    assert one.train[1].tolist() == one.labels.tolist() == [0] * 10 + [1] * 10
    (tmp_path / "train" / "wren").rename(tmp_path / "train" / "robin")
    with pytest.raises(ClbenchError, match=r"only in one of them robin, wren; give both the same"):
        plan_sets(recipe(tmp_path, data=data, train=train, measures=["knn"]), 1000, {})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"measures": ["kn"]}, r"no measure of retention 'kn' \(did you mean knn\?\)"),
        ({"measures": []}, "measures.* is empty: to measure nothing, say data: none"),
        ({"measures": ["knn", {"knn": {}}]}, "has knn twice"),
        ({"measures": {"knn": {"k": 0}}}, r"retention.measures.knn.k = 0"),
        ({"sets": {"knn": {"data": "x"}}}, "'knn' is the name of a measure"),
        ({"sets": {"a/b": {"data": "x"}}}, "without /"),
        ({"sets": {"a": {"data": ""}}}, "is empty"),
    ],
)
def test_mistakes_are_told(tmp_path, given, told):
    with pytest.raises(ClbenchError, match=told) as found:
        recipe(tmp_path, **given)
    assert "\n" not in str(found.value)


def test_a_list_and_a_mapping_are_the_same(tmp_path):
    listed = recipe(tmp_path, measures=["head", {"knn": {"k": 5}}])
    assert listed == recipe(tmp_path, measures={"head": None, "knn": {"k": 5}})
    assert parse(listed.model_dump(mode="json")) == listed
    assert list(recipe(tmp_path).retention.measures) == ["head"]


@pytest.fixture
def run_recipe(tmp_path):
    """A tiny run with all measures on its own digits, and on pictures with images to learn from."""
    sets = {
        "tiles": {
            "data": pictures(tmp_path / "tiles", ["red", "blue", "grey"]),
            "train": pictures(tmp_path / "more", ["red", "blue", "grey"]),
            "measures": [{"knn": {"k": 3}}, "cka"],
        }
    }
    return RECIPE | {
        "data_dir": str(tmp_path / "data"),
        "retention": {"measures": ALL, "sets": sets},
        "loggers": ["csv"],
    }


def test_a_run_has_every_measure_before_and_after_every_task(run_recipe, tmp_path, monkeypatch):
    record = clbench.run(run_recipe, tmp_path / "whole")
    names = ["knn", "ridge", "ncm", "cka", "tiles/knn", "tiles/cka"]
    courses = record.summary()["retention"]["measures"]
    assert list(courses) == ["head", *names]
    assert courses["cka"]["before"] == courses["tiles/cka"]["before"] == 1.0
    for course in courses.values():
        assert len(course["after_task"]) == 3
        assert course["change"] == pytest.approx(course["after_task"][-1] - course["before"])
        assert course["kept"] == pytest.approx(course["after_task"][-1] / course["before"])
    assert courses["cka"]["kept"] < 0.95
    # Resumed, it is the same, the likeness to features of before included.
    interrupt_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        clbench.run(run_recipe, tmp_path / "cut")
    monkeypatch.undo()
    again = clbench.run(run_recipe, tmp_path / "cut", resume=True)
    assert comparable(again) == comparable(record)
    # Images that the labels are learned from are the run's own, too.
    damaged = Record.load(tmp_path / "cut").run.retention_images_sha256
    assert damaged not in (None, again.run.split_manifest_sha256)
    columns = next((tmp_path / "whole" / "csv").rglob("metrics.csv")).read_text().split("\n")[0]
    assert {f"retention/{name}" for name in names} <= set(columns.split(","))


def test_timms_transform_is_not_for_weights_of_the_run(run_recipe, tmp_path):
    rules = run_recipe["retention"] | {"transform": "timm"}
    with pytest.raises(ClbenchError, match=r"not those pretrained in the run: say stored"):
        clbench.run(run_recipe | {"retention": rules}, tmp_path / "run")


def test_training_is_the_same_whatever_is_measured(run_recipe, tmp_path):
    plain = run_recipe | {"retention": {"data": "none"}}
    for name, values in (("with", run_recipe), ("without", plain)):
        clbench.run(values, tmp_path / name)
    weights = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("with", "without")]
    assert weights[0] == weights[1]
