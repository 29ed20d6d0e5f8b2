import numpy as np
import pytest
import torch
from PIL import Image

from clbench.errors import ClbenchError
from clbench.recipe import parse
from clbench.streams import Storage
from clbench.streams.folder import FolderConfig

ANIMALS = {"ant": (200, 0, 0), "bee": (0, 200, 0), "cat": (0, 0, 200), "dog": (200, 200, 0)}
PLANTS = {"bee": (0, 200, 200), "fern": (200, 0, 200)}


def write(folder, classes, count, kind="png"):
    """Images of one colour a class, 10 x 12 pixels."""
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (10, 12), colour)
            image.putpixel((0, 0), (number, number, number))
            image.save(folder / name / f"{number}.{kind}", quality=95)
    return folder


@pytest.fixture
def pair(tmp_path):
    return {
        "train": write(tmp_path / "animals" / "train", ANIMALS, 4, "jpg"),
        "test": write(tmp_path / "animals" / "test", ANIMALS, 2),
    }


@pytest.fixture
def pairs(tmp_path, pair):
    return {
        "train": [pair["train"], write(tmp_path / "plants" / "train", PLANTS, 3)],
        "test": [pair["test"], write(tmp_path / "plants" / "test", PLANTS, 1)],
    }


def build(tmp_path, storage=None, **fields):
    config = FolderConfig.model_validate({"name": "image_folder", "validation": 0.25} | fields)
    return config.build(tmp_path / "data", Storage(**({"size": 7} | (storage or {}))))


def colours(stream, split):
    stream.allowed.fill_(True)
    return split.images.take(split.index)[:, :, 4, 4].float()


def check(stream, colour_of_label):
    """Every split's images show the colour of their class."""
    for task in stream.tasks:
        for split in (task.train, task.validation, task.test):
            wanted = torch.tensor([colour_of_label[label] for label in split.labels.tolist()])
            assert (colours(stream, split) - wanted).abs().max() <= 4


def test_one_pair_divided_into_tasks(tmp_path, pair):
    stream = build(tmp_path, tasks=2, **pair)
    assert stream.class_names == ("ant", "bee", "cat", "dog")
    assert [task.classes for task in stream.tasks] == [range(2), range(2, 4)]
    assert [len(task.train) for task in stream.tasks] == [6, 6]
    assert [len(task.validation) for task in stream.tasks] == [2, 2]
    assert [len(task.test) for task in stream.tasks] == [4, 4]
    check(stream, list(ANIMALS.values()))


def test_order_seed_draws_the_order_of_the_folders(tmp_path, pair):
    stream = build(tmp_path, tasks=4, order_seed=0, **pair)
    assert sorted(stream.class_names) == list(ANIMALS) != list(stream.class_names)
    check(stream, [ANIMALS[name] for name in stream.class_names])


def test_several_pairs_are_one_task_each(tmp_path, pairs):
    stream = build(tmp_path, **pairs)
    assert stream.class_names == ("ant", "bee", "cat", "dog", "bee", "fern")
    assert [task.classes for task in stream.tasks] == [range(4), range(4, 6)]
    check(stream, [*ANIMALS.values(), *PLANTS.values()])


def test_tasks_have_names_of_their_own(tmp_path, pairs):
    assert len({task.name for task in build(tmp_path, **pairs).tasks}) == 2


@pytest.mark.parametrize("keep", ["auto", "disk", "memory", "files"])
def test_images_are_the_same_wherever_they_are_kept(tmp_path, pairs, keep):
    stream = build(tmp_path, {"keep": keep}, **pairs)
    check(stream, [*ANIMALS.values(), *PLANTS.values()])
    caches = list((tmp_path / "data" / "cache").glob("*.npy"))
    assert bool(caches) is (keep != "files")
    images = stream.test_images.take(torch.tensor([0, 9]))
    assert images.shape == (2, 3, 8, 8)  # 8/7 of the network's input


def test_manifest_does_not_depend_on_where_images_are_kept(tmp_path, pairs):
    hashes = {build(tmp_path, {"keep": k}, **pairs).manifest_hash for k in ("files", "disk")}
    assert len(hashes) == 1
    assert build(tmp_path, validation=0.5, **pairs).manifest_hash not in hashes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"tasks": 3},
            r"tasks = 3 does not divide .* 4 classes; use one of \[1, 2, 4\], .*\[2, 1, 1\]",
        ),
        ({"train": "nowhere"}, "image folder nowhere does not exist"),
        ({"test": "nowhere"}, "image folder nowhere does not exist"),
    ],
)
def test_mistakes_with_one_pair(tmp_path, pair, change, message):
    with pytest.raises(ClbenchError, match=message):
        build(tmp_path, **(pair | change))


def test_several_pairs_cannot_be_divided(tmp_path, pairs):
    with pytest.raises(ClbenchError, match=r"tasks = 4, but stream.train lists 2 .* leave .* out"):
        build(tmp_path, tasks=4, **pairs)
    assert len(build(tmp_path, tasks=2, **pairs).tasks) == 2


def test_as_many_test_folders_as_training_folders(pairs):
    values = {
        "stream": {"name": "image_folder"} | pairs | {"test": str(pairs["test"][0])},
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "epochs": 1,
    }
    with pytest.raises(ClbenchError, match="train and test must name as many folders"):
        parse(values)


def test_class_folder_without_images(tmp_path, pair):
    for path in (pair["train"] / "bee").iterdir():
        path.unlink()
    with pytest.raises(ClbenchError, match=r"class folders without images in .*train: bee"):
        build(tmp_path, **pair)


def test_test_folder_with_other_classes(tmp_path, pair):
    (pair["test"] / "dog").rename(pair["test"] / "wolf")
    with pytest.raises(ClbenchError, match=r"only in .*train: dog; only in .*test: wolf"):
        build(tmp_path, **pair)


@pytest.mark.parametrize("part", ["train", "test"])
def test_corrupt_image_is_named(tmp_path, pair, part):
    bad = next((pair[part] / "cat").iterdir())
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(ClbenchError, match=f"{part}/cat/{bad.name} cannot be read as an image"):
        build(tmp_path, **pair)


def test_a_new_image_is_seen_by_the_next_run(tmp_path, pair):
    before = build(tmp_path, **pair)
    Image.fromarray(np.full((12, 10, 3), 255, dtype=np.uint8)).save(pair["test"] / "ant" / "9.png")
    after = build(tmp_path, **pair)
    assert len(after.tasks[0].test) == len(before.tasks[0].test) + 1
    assert after.manifest_hash != before.manifest_hash
    assert int(after.test_images.take(torch.tensor([2])).min()) == 255
