import numpy as np
import pytest
import torch
from PIL import Image

from clbench.data.datasets import DATASETS, DataSet, Labelled
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.streams import Shelf, Storage, transfer
from clbench.streams.transfer import SIX, TRANSFERS, TransferConfig


@pytest.fixture(autouse=True)
def loaded(monkeypatch, tmp_path):
    """Small data sets: grey arrays, colour arrays and files; every pixel is 20 * label + set."""

    def pixel(name, label):
        return 20 * label + SIX.index(name)

    def array(name, labels, shape):
        return np.stack([np.full(shape, pixel(name, c), dtype=np.uint8) for c in labels])

    def files(name, labels, part):
        paths = []
        for number, label in enumerate(labels):
            path = tmp_path / name / part / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (pixel(name, label),) * 3).save(path)
            paths.append(path)
        return tuple(paths)

    def load(name, root, download):
        calls.append((name, root, download))
        count = 2 + SIX.index(name)
        parts = []
        for part, each in (("train", 4), ("test", 2)):
            labels = np.tile(np.arange(count), each)
            if name == "cifar10":
                images = array(name, labels, (6, 6))
            elif name == "cifar100":
                images = array(name, labels, (10, 8, 3))
            else:
                images = files(name, labels, part)
            parts.append(Labelled(images, labels))
        return DataSet(name, *parts, tuple(f"{name} {c}" for c in range(count)))

    calls = []
    monkeypatch.setattr(transfer.datasets, "load", load)
    return calls


def build(tmp_path, **fields):
    config = TransferConfig.model_validate({"name": "transfer6", "validation": 0.25} | fields)
    return config.build(tmp_path, Storage(size=7))


def test_six_data_sets_one_a_task(tmp_path, loaded):
    stream = build(tmp_path, download=False)
    assert [call[0] for call in loaded] == [task.name for task in stream.tasks] == SIX
    assert {call[1:] for call in loaded} == {(tmp_path, False)}
    assert [len(task.classes) for task in stream.tasks] == [2, 3, 4, 5, 6, 7]
    assert [c for task in stream.tasks for c in task.classes] == list(range(27))
    assert stream.class_names[4] == "cifar100 2"
    assert not stream.independent


def test_every_split_holds_its_own_data_set(tmp_path):
    stream = build(tmp_path)
    stream.allowed.fill_(True)
    for number, task in enumerate(stream.tasks):
        for split, each in ((task.train, 3), (task.validation, 1), (task.test, 2)):
            assert len(split) == each * len(task.classes)
            images = split.images.take(split.index)
            assert images.shape[1:] == (3, 8, 8)
            own = split.labels - task.classes.start
            assert torch.equal(images[:, 0, 4, 4].long(), 20 * own + number)


def test_chosen_data_sets_in_their_order(tmp_path):
    stream = build(tmp_path, datasets=["stanford_dogs", "cifar10"], independent=True)
    assert [task.name for task in stream.tasks] == ["stanford_dogs", "cifar10"]
    assert stream.independent


def test_data_sets_with_a_storage_of_their_own(tmp_path):
    """Each is kept in its size; files are cropped or squashed, as each asks for."""
    names = ["cifar10", "flowers102", "caltech101"]
    config = TransferConfig(name="transfer6", datasets=names, independent=True)
    storage = Storage(size=7, stored=8)
    own = {
        "cifar10": Storage(size=7, stored=6),
        "flowers102": Storage(size=7, stored=7, fit="squash"),
    }
    stream = config.build(tmp_path, storage, Shelf(own=own))
    stream.allowed.fill_(True)
    sides = []
    for number, task in zip((0, 2, 3), stream.tasks, strict=True):
        for split in (task.train, task.test):
            images = split.images.take(split.index)
            side = images.shape[-1]
            own_label = split.labels - task.classes.start
            assert torch.equal(images[:, 0, 3, 3].long(), 20 * own_label + number)
        sides.append(side)
    assert sides == [6, 7, 8]
    kept = {tuple(path.name.split("-")[:4]) for path in tmp_path.glob("cache/*-train-*.npy")}
    assert kept == {("flowers102", "train", "7", "squash"), ("caltech101", "train", "8", "crop")}
    assert stream.manifest_hash != config.build(tmp_path, storage).manifest_hash


def test_manifest_depends_on_the_order(tmp_path):
    names = ["cifar10", "flowers102"]
    hashes = {build(tmp_path, datasets=x).manifest_hash for x in (names, names[::-1], names[:1])}
    assert len(hashes) == 3


@pytest.mark.parametrize("names", [["cifar10", "cifar10"], ["cifar11"], []])
def test_unknown_and_repeated_data_sets_are_refused(names):
    with pytest.raises(ClbenchError, match=r"stream.datasets = \[.*at (most once|least 1 item)"):
        parse(
            {
                "stream": {"name": "transfer6", "datasets": names},
                "model": {"backbone": "tiny_cnn", "weights": "none"},
                "epochs": 1,
            }
        )


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("five_datasets", 5, "svhn"),
        ("mtil", 11, "fgvc_aircraft"),
        ("vision8", 8, "stanford_cars"),
        ("vision14", 14, "stanford_cars"),
        ("vision20", 20, "stanford_cars"),
    ],
)
def test_other_streams_of_data_sets(name, count, first, tmp_path, monkeypatch):
    config = TransferConfig.model_validate({"name": name, "validation": 0})
    assert len(config.datasets) == count
    assert config.datasets[0] == first
    assert set(config.datasets) <= set(DATASETS)

    def load(one, *_):
        labels = np.arange(4) % 2
        shape = (4, 28, 28) if one == "mnist" else (4, 32, 32, 3)
        parts = (Labelled(np.zeros(shape, np.uint8), labels),) * 2
        return DataSet(one, *parts, ("a", "b"))

    monkeypatch.setattr(transfer.datasets, "load", load)
    stream = config.build(tmp_path, Storage(size=28))
    assert [task.name for task in stream.tasks] == config.datasets
    assert len(set(config.datasets)) == count
    assert len(stream.class_names) == 2 * count
    assert stream.train_images.take(torch.tensor([0, 4])).shape == (2, 3, 32, 32)


def test_the_sets_of_the_merging_papers_begin_with_one_another():
    eight, fourteen, twenty = (TRANSFERS[f"vision{count}"] for count in (8, 14, 20))
    assert fourteen[:8] == eight
    assert twenty[:14] == fourteen
