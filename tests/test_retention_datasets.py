"""Data sets as what must be kept: which images, what is counted, and what is said."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import RECIPE
from PIL import Image

from clbench.data import datasets
from clbench.data.datasets import DATASETS, DataSet, Labelled, load
from clbench.data.datasets.sizes import SIZES
from clbench.errors import ClbenchError
from clbench.estimate.needed import retained
from clbench.measure.retention_data import trains_on
from clbench.measure.retention_sets import plan_sets
from clbench.metrics.retained import ANYWHERE
from clbench.models import features
from clbench.recipe.recipe import parse
from clbench.runner.setup import Setup
from clbench.streams import STREAMS
from clbench.streams.draws import choose
from clbench.streams.outline import Needed
from clbench.suite.missing import Inventory

PER_CLASS = 6


def recipe(tmp_path, stream="split_digits", sets=None, **retention):
    retention = {"measures": ["head", *ANYWHERE], "data": "none"} | retention
    values = {"data_dir": str(tmp_path), "retention": retention | {"sets": sets or {}}}
    if stream != "split_digits":
        values |= {"stream": {"name": stream, "download": False}}
        values |= {"model": {"backbone": "tiny_cnn", "weights": "none"}}
    return parse(RECIPE | values)


def digits(part, most=PER_CLASS):
    return choose(getattr(load("digits", ""), part), range(10), most, set())


def test_the_test_part_is_asked_about_and_the_training_part_learned_from(tmp_path):
    sets = {"numbers": {"dataset": "digits", "per_class": PER_CLASS}}
    plan = plan_sets(recipe(tmp_path, sets=sets), 4, {})
    (one,) = plan.sets
    learned, labels = one.train
    assert (one.files.array == digits("test").images).all()
    assert (learned.array == digits("train").images).all()
    assert one.labels.tolist() == digits("test").labels.tolist()
    assert labels.tolist() == digits("train").labels.tolist()
    assert (one.head, list(one.measures), len(one)) == (False, ANYWHERE, 2 * 10 * PER_CLASS)
    assert plan.reasons == [
        "retention.sets.numbers: the stream trains on digits too: what is measured there is "
        "learned, and not only kept",
        "retention.sets.numbers is not measured by the original head: model.weights = 'pretrain' "
        "have no head of the 1,000 ImageNet classes",
    ]
    whole = recipe(tmp_path, sets={"numbers": {"dataset": "digits", "measures": ["cka"]}})
    (one,) = plan_sets(whole, 4, {}).sets
    assert (len(one), one.train) == (SIZES["digits"].test, None)  # nothing learns from others


def test_a_set_is_measured_as_by_hand(tmp_path):
    sets = {"numbers": {"dataset": "digits", "per_class": PER_CLASS, "measures": ["ncm"]}}
    setup = Setup.of(recipe(tmp_path, sets=sets, measures=["ncm"]), tmp_path / "run")
    model, transform = setup.network.model.eval(), setup.meter.retention_test.evaluator.reader
    found = setup.meter.retention(model)["retained"]["numbers/ncm"]
    seen = []
    for part in ("train", "test"):
        pixels = torch.from_numpy(digits(part).images)[:, None]
        with torch.no_grad():
            seen.append(features(model, transform.transform.test(pixels)).double())
    labels = [torch.from_numpy(digits(part).labels) for part in ("train", "test")]
    means = torch.stack([seen[0][labels[0] == label].mean(0) for label in range(10)])
    cosines = [[float(torch.cosine_similarity(x, mean, 0)) for mean in means] for x in seen[1]]
    assert found == pytest.approx(np.mean(np.argmax(cosines, 1) == labels[1].numpy()))
    assert found > 0.3  # a tenth by chance


def pictures(root):
    """A data set of image files, two classes of ImageNet among its three."""
    paths = []
    for number in range(6):
        paths.append(root / f"{number}.png")
        Image.new("RGB", (40, 30), (40 * number, 90, 30)).save(paths[-1])
    part = Labelled(tuple(paths), np.arange(6) % 3)
    return DataSet("dtd", part, part, ("n01440764", "n01443537", "n01484850"))


def test_image_files_are_decoded_as_folders_are(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "dtd", lambda root, download: pictures(root))
    sets = {"sharks": {"dataset": "dtd", "measures": ["head", "ncm"]}}
    given = recipe(tmp_path, "split_mnist", sets)
    (one,) = plan_sets(given, 1000, {"crop_pct": 0.5}).sets
    assert (one.head, one.files.size, one.cached) == (True, 16, "retention-sharks")
    assert one.labels.tolist() == [0, 1, 2] * 2  # of the head
    sets |= {"numbers": {"dataset": "digits"}}
    timm = recipe(tmp_path, "split_mnist", sets, transform="timm", measures=["ncm"])
    plan = plan_sets(timm, 1000, {"input_size": (3, 24, 24)})
    assert plan.size == plan.sets[0].files.size == 24
    assert plan.sets[1].files.side == 8  # arrays stay as a stream keeps them


def test_a_dry_run_counts_them_and_names_what_lacks(tmp_path):
    sets = {"objects": {"dataset": "cifar10", "per_class": 7}, "flowers": {"dataset": "flowers102"}}
    stream, needed = SimpleNamespace(pretraining=None), Needed()
    given = recipe(tmp_path, "split_mnist", sets)
    for _ in range(2):  # once is enough
        found = retained(given, stream, needed, None)
    size = SIZES["flowers102"]
    assert found.images == 2 * 7 * 10 + size.train + size.test
    assert [one.what for one in needed.missing] == ["cifar10", "flowers102"]
    assert all("must hold" in one.how for one in needed.missing)
    assert needed.memory == 2 * 2 * 7 * 10 * 3 * 8 * 8
    # What its classes are called is not known, and not refused; the head learns from no others.
    sets["objects"]["measures"] = ["head"]
    again = retained(recipe(tmp_path, "split_mnist", sets), stream, Needed(), None)
    assert again.images == 7 * 10 + size.train + size.test


def test_a_suite_knows_what_lacks(tmp_path):
    given = recipe(tmp_path, sets={"objects": {"dataset": "cifar10"}})
    assert Inventory(fetch=False).reason(recipe(tmp_path)) == ""
    local = given.model_copy(update={"stream": given.stream.model_copy(update={"download": False})})
    assert Inventory(fetch=False).reason(local) == "cifar10 is missing"
    assert "cifar10" in next(iter((lacks := Inventory(False)).data(local)))
    assert next(lacks.lines()).startswith("Missing: cifar10: ")


def test_a_run_without_the_files_says_where_they_belong(tmp_path):
    given = recipe(tmp_path, sets={"flowers": {"dataset": "flowers102"}})
    local = given.model_copy(update={"stream": given.stream.model_copy(update={"download": False})})
    with pytest.raises(ClbenchError, match=r"is missing.* must hold .*; get it from"):
        plan_sets(local, 4, {})


@pytest.mark.parametrize(
    ("stream", "dataset", "trains"),
    [
        ({"name": "split_cifar100"}, "cifar100", True),
        ({"name": "split_cifar100"}, "cifar10", False),
        ({"name": "transfer6"}, "stanford_dogs", True),
        ({"name": "transfer6", "datasets": ["cifar10"]}, "stanford_dogs", False),
        ({"name": "permuted_mnist"}, "mnist", True),
        ({"name": "split_cub200_pilot"}, "cub200", True),
        ({"name": "torchvision", "dataset": "FashionMNIST"}, "fashion_mnist", True),
        ({"name": "huggingface", "dataset": "uoft-cs/cifar100"}, "cifar100", True),
        ({"name": "image_folder", "train": "x", "tasks": 2}, "cifar10", False),
    ],
)
def test_that_a_stream_trains_on_it_is_known_by_names(stream, dataset, trains):
    config = STREAMS[stream["name"]].model_validate(stream)
    assert trains_on(config, dataset) is trains


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (
            {"dataset": "cifar_10"},
            r"no data set 'cifar_10' \(did you mean cifar10\?\): clbench data",
        ),
        ({}, "needs either data, a folder, with train if you like, or dataset"),
        ({"dataset": "digits", "data": "x"}, "needs either data"),
        ({"dataset": "digits", "train": "x"}, "needs either data"),
        ({"dataset": "digits", "per_class": 0}, "retention.sets.a.per_class = 0"),
    ],
)
def test_mistakes_are_told(tmp_path, own, told):
    with pytest.raises(ClbenchError, match=told) as found:
        recipe(tmp_path, sets={"a": own})
    assert "\n" not in str(found.value)


def test_folders_too_are_limited_to_some_of_a_class(tmp_path):
    for name in ("owl", "wren"):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for number in range(9):
            (tmp_path / "birds" / name / f"{number}.png").write_bytes(b"x")
    sets = {"birds": {"data": str(tmp_path / "birds"), "per_class": 4, "measures": ["ncm"]}}
    (one,) = plan_sets(recipe(tmp_path, sets=sets), 4, {}).sets
    assert one.labels.tolist() == [0] * 4 + [1] * 4
    assert len({*one.files.paths}) == 8


def test_a_stand_in_says_so():
    assert datasets.sizes.stand_in("cifar10").stand_in
    assert not load("digits", "").stand_in
