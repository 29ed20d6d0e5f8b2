import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.errors import ClbenchError
from clbench.streams import Storage
from clbench.streams.avalanche import AvalancheConfig, materialise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # avalanche-lib looks for a QP solver when it is imported
    pytest.importorskip("avalanche")
    from avalanche.benchmarks import classic, nc_benchmark
    from avalanche.benchmarks.utils import as_classification_dataset

CLASSES, TRAIN, TEST = 6, 8, 3


class Pictures(torch.utils.data.Dataset):
    """PIL images of 8 x 8 pixels; their upper left pixel tells the class."""

    def __init__(self, each, seed):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(CLASSES), each))
        self.targets = labels.tolist()
        self.pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 8, 8, 3))
        self.pixels[:, 0, 0] = 40 * labels[:, None]

    def __getitem__(self, index):
        return Image.fromarray(self.pixels[index].astype(np.uint8)), self.targets[index]

    def __len__(self):
        return len(self.targets)


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark of avalanche-lib over small images, among the classic ones."""

    def tiny(n_experiences=3, seed=0, shuffle=True, train_transform=0, eval_transform=0, **rest):
        calls.append((train_transform, eval_transform, rest))
        return nc_benchmark(
            as_classification_dataset(Pictures(TRAIN, 0)),
            as_classification_dataset(Pictures(TEST, 1)),
            n_experiences=n_experiences,
            task_labels=False,
            seed=seed,
            shuffle=shuffle,
        )

    calls = []
    monkeypatch.setattr(classic, "SplitTiny", tiny, raising=False)
    return calls


def build(tmp_path, storage=None, **fields):
    values = {"name": "avalanche", "benchmark": "SplitTiny", "validation": 0.25} | fields
    return AvalancheConfig.model_validate(values).build(
        tmp_path, Storage(**({"size": 8} | (storage or {})))
    )


def test_every_experience_is_a_task(tmp_path, benchmark):
    stream = build(tmp_path, arguments={"shuffle": False})
    assert [task.classes for task in stream.tasks] == [range(2), range(2, 4), range(4, 6)]
    assert stream.class_names == ("0/0", "0/1", "1/2", "1/3", "2/4", "2/5")
    for task in stream.tasks:
        sizes = [len(split) for split in (task.train, task.validation, task.test)]
        assert sizes == [2 * 6, 2 * 2, 2 * TEST]


def test_experiences_can_share_labels(tmp_path, benchmark):
    own = build(tmp_path, arguments={"shuffle": False})
    shared = build(tmp_path, arguments={"shuffle": False}, labels="shared")
    assert shared.shared
    assert [task.classes for task in shared.tasks] == [range(2)] * 3
    assert shared.class_names == ("0 | 2 | 4", "1 | 3 | 5")
    for one, other in zip(own.tasks, shared.tasks, strict=True):
        assert torch.equal(one.train.index, other.train.index)
        assert torch.equal(one.train.labels - one.classes.start, other.train.labels)


def test_classes_keep_their_images_in_a_drawn_order(tmp_path, benchmark):
    stream = build(tmp_path, arguments={"seed": 4})
    assert stream.class_names != build(tmp_path, arguments={"shuffle": False}).class_names
    stream.allowed.fill_(True)
    for task in stream.tasks:
        for split in (task.train, task.validation, task.test):
            own = [int(stream.class_names[label].split("/")[1]) for label in split.labels.tolist()]
            corner = split.images.take(split.index)[:, 0, 0, 0]
            assert corner.tolist() == [40 * label for label in own]


def test_untransformed_images_and_the_data_folder_are_asked_for(tmp_path, benchmark):
    build(tmp_path)
    build(tmp_path, arguments={"dataset_root": "mine", "train_transform": None})
    assert benchmark == [
        (None, None, {"dataset_root": str(tmp_path)}),
        (None, None, {"dataset_root": "mine"}),
    ]


def test_manifest_depends_on_the_arguments(tmp_path, benchmark):
    hashes = {build(tmp_path, arguments={"seed": seed}).manifest_hash for seed in (0, 0, 4)}
    assert len(hashes) == 2


def test_unknown_benchmark(tmp_path):
    with pytest.raises(ClbenchError, match=r"'SplitMnist' is not a benchmark.*SplitMNIST"):
        build(tmp_path, benchmark="SplitMnist")
    with pytest.raises(ClbenchError, match="'classic_benchmarks' is not a benchmark"):
        build(tmp_path, benchmark="classic_benchmarks")


@pytest.mark.parametrize("arguments", [{"n_experiences": 4}, {"experiences": 3}])
def test_arguments_that_do_not_fit(tmp_path, benchmark, arguments):
    real = {"benchmark": "SplitMNIST"} if "experiences" in arguments else {}
    with pytest.raises(ClbenchError, match=r"avalanche-lib refuses Split.*\{'.*\}\): \S"):
        build(tmp_path, arguments=arguments, **real)


def test_missing_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "avalanche.benchmarks", None)
    with pytest.raises(
        ClbenchError, match=r"needs avalanche-lib.*pip install 'clbench\[avalanche\]'"
    ):
        build(tmp_path)


def test_larger_images_are_scaled_down(tmp_path, benchmark):
    assert build(tmp_path, {"size": 4}).train_images.take(torch.tensor([0])).shape == (1, 3, 4, 4)


GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        torch.from_numpy(GREY),
        torch.from_numpy(GREY)[None],
        torch.from_numpy(GREY)[None].float() / 255,
        torch.from_numpy(GREY)[None].float().expand(3, -1, -1) / 255,
    ],
)
def test_images_of_all_kinds_become_pixels(image):
    images, labels = materialise([(image, 3, 0), (image, torch.tensor(1), 0)], 8)
    assert np.array_equal(images, np.broadcast_to(GREY[None, ..., None], (2, 8, 8, 3)))
    assert labels.tolist() == [3, 1]


def test_images_of_several_sizes_are_brought_to_one():
    images, _ = materialise([(Image.fromarray(x), 0) for x in (GREY, GREY[:4, :4], GREY[:5])], 8)
    assert images.shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, 8, 8), -0.5), "normalised tensors, not images: pass stream.arguments"),
        (np.zeros((8, 8)), "yields ndarray, not images"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ClbenchError, match=message):
        materialise([(image, 0)], 8)


def test_one_test_set_for_all_experiences_is_refused(tmp_path, monkeypatch, benchmark):
    made = classic.SplitTiny()

    class Joint:
        train_stream = list(made.train_stream)[:2]
        test_stream = list(made.test_stream)[1:]

    monkeypatch.setattr(classic, "SplitTiny", lambda **_: Joint)
    with pytest.raises(ClbenchError, match=r"test part of experience 0 has classes \[.*not supp"):
        build(tmp_path)
