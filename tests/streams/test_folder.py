import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.data.cache import CachedImages
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.streams import Storage
from clbench.streams.folder import FolderConfig, distinguishing

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
    with pytest.raises(ClbenchError, match=r"tasks = 4, but .* lists 2 .* \(--stream.tasks 1\)"):
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


def test_without_a_test_folder_every_fifth_image_is_held_out(tmp_path):
    train = write(tmp_path / "pictures", ANIMALS, 11)
    streams = [build(tmp_path, train=train, tasks=2, order_seed=seed) for seed in (0, 1)]
    for stream in streams:
        assert stream.manifest["test"] == "every fifth image of each class"
        for task in stream.tasks:
            for label in task.classes:
                assert int((task.test.labels == label).sum()) == 2
                kept = int((task.train.labels == label).sum())
                assert kept + int((task.validation.labels == label).sum()) == 9
        check(stream, [ANIMALS[name] for name in stream.class_names])
    # Sorted as text: 0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9; the corner tells an image's number.
    corners = [stream.test_images.take(torch.arange(8))[:, 0, 0, 0] for stream in streams]
    assert torch.equal(*corners)


def test_a_manifest_with_a_test_folder_says_nothing_of_holding_out(tmp_path, pair):
    assert "test" not in build(tmp_path, **pair).manifest


@pytest.mark.parametrize("keep", ["auto", "memory", "files"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_one_changed_pixel_makes_another_manifest(tmp_path, pair, keep, part):
    def bitmaps(folder):
        for path in sorted(folder.rglob("*.*")):
            Image.open(path).convert("RGB").save(path.with_suffix(".bmp"))
            path.unlink()

    bitmaps(pair["train"])
    bitmaps(pair["test"])
    before = build(tmp_path, {"keep": keep}, tasks=2, **pair)
    again = build(tmp_path, {"keep": keep}, tasks=2, **pair)
    assert again.manifest_hash == before.manifest_hash
    path = pair[part] / "cat" / "0.bmp"
    facts = path.stat()
    image = Image.open(path)
    image.putpixel((4, 4), (1, 2, 3))
    image.save(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    after = build(tmp_path, {"keep": keep}, tasks=2, **pair)
    assert after.manifest_hash != before.manifest_hash
    for number, (old, new) in enumerate(
        zip(before.manifest["tasks"], after.manifest["tasks"], strict=True)
    ):
        same = {name: old["sha256"][name] == new["sha256"][name] for name in old["sha256"]}
        held = part if same["validation"] else "validation"
        assert same == {
            name: number == 0 or name != held for name in ("train", "validation", "test")
        }


@pytest.mark.parametrize("keep", ["auto", "files"])
def test_only_images_that_are_used_are_opened(tmp_path, pair, keep):
    used = build(tmp_path, {"keep": keep}, train_per_class=2, test_per_class=1, **pair)
    for part, count in (("train", 2 * 4), ("test", 4)):
        assert len(getattr(used, f"{part}_images")) == count
    # Everything that is not used may be damaged.
    left = {p for part in pair.values() for p in part.rglob("*.*")}
    cache = used.train_images
    left -= (
        {*cache.files.paths, *used.test_images.files.paths}
        if keep == "auto"
        else {
            *cache.paths,
            *used.test_images.paths,
        }
    )
    assert len(left) == 24 - 12
    for path in left:
        path.write_bytes(b"no image")
    again = build(tmp_path, {"keep": keep}, train_per_class=2, test_per_class=1, **pair)
    assert again.manifest_hash == used.manifest_hash


def test_classes_that_are_left_out_are_not_opened(tmp_path, pair):
    for part in pair.values():
        for path in (part / "dog").iterdir():
            path.write_bytes(b"no image")
    stream = build(tmp_path, classes=[["cat"], [0, "bee"]], **pair)
    assert stream.class_names == ("cat", "ant", "bee")
    check(stream, [ANIMALS[name] for name in stream.class_names])


def test_the_same_images_are_drawn_for_fewer(tmp_path, pair):
    def names(**fields):
        return sorted(build(tmp_path, **pair, **fields).train_images.files.paths)

    assert names(train_per_class=2) == names(train_per_class=2, order_seed=1, tasks=2)
    assert len({p.parent.name for p in names(train_per_class=2)}) == 4


def test_all_bad_files_of_both_folders_are_named_at_once(tmp_path, pair):
    for part, number in (("train", 0), ("train", 1), ("test", 0)):
        sorted((pair[part] / "cat").iterdir())[number].write_bytes(b"no image")
    with pytest.raises(ClbenchError, match=r"^3 files cannot be read.*train/cat/0.*test/cat/0"):
        build(tmp_path, **pair)


def test_duplicates_between_training_and_test_are_said(tmp_path, pair, capsys):
    build(tmp_path, **pair)
    assert "training images too" not in capsys.readouterr().out
    shutil.copy(pair["train"] / "bee" / "1.jpg", pair["test"] / "bee" / "copy.jpg")
    build(tmp_path, **pair)
    said = [line for line in capsys.readouterr().out.splitlines() if "training images too" in line]
    assert len(said) == 1
    assert said[0].startswith("Of 9 test images, 1 are training images too")
    assert f"{pair['test']}/bee/copy.jpg = {pair['train']}/bee/1.jpg" in said[0]


def test_duplicates_between_classes_are_said(tmp_path, pair, capsys):
    shutil.copy(pair["train"] / "bee" / "1.jpg", pair["train"] / "dog" / "copy.jpg")
    build(tmp_path, **pair)
    said = [line for line in capsys.readouterr().out.splitlines() if "several classes" in line]
    assert len(said) == 1
    assert "1 image, such as" in said[0]


def test_folders_of_the_same_classes_can_share_labels(tmp_path, pair, capsys):
    """Another colour of every class in the second task: the domain changes, the labels do not."""
    other = {name: tuple(255 - part for part in colour) for name, colour in ANIMALS.items()}
    second = write(tmp_path / "night" / "train", other, 5)
    tests = [pair["test"], write(tmp_path / "night" / "test", other, 1)]
    fields = {"train": [pair["train"], second], "test": tests, "labels": "shared"}
    stream = build(tmp_path, **fields)
    assert "class names in several folders" not in capsys.readouterr().out
    assert stream.class_names == ("ant", "bee", "cat", "dog")
    assert [task.classes for task in stream.tasks] == [range(4), range(4)]
    for task, named in zip(stream.tasks, (ANIMALS, other), strict=True):
        wanted = torch.tensor(list(named.values()))[task.train.labels]
        assert (colours(stream, task.train) - wanted).abs().max() <= 4


def test_folders_of_different_classes_cannot_share_labels(tmp_path, pairs):
    with pytest.raises(ClbenchError, match=r"labels = 'shared', but not all of .* have the class"):
        build(tmp_path, labels="shared", **pairs)


def test_one_folder_can_share_labels_among_its_tasks(tmp_path, pair):
    stream = build(tmp_path, tasks=2, labels="shared", **pair)
    assert stream.class_names == ("ant | cat", "bee | dog")
    assert [len(task.train) for task in stream.tasks] == [6, 6]


def test_shared_class_names_are_said(tmp_path, pairs, capsys):
    build(tmp_path, **pairs)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1 class name in several folders of stream.train (bee): each task")


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["A/train", "B/train"], ["A", "B"]),
        (["animals", "plants"], ["animals", "plants"]),
        (["x/a/train", "y/a/train"], ["x", "y"]),
        (["A/train", "B/train", "B/other"], ["A/train", "B/train", "B/other"]),
        (["/data/1/x/t", "/data/2/x/t", "/data/3/y/t"], ["1/x", "2/x", "3/y"]),
        (["a", "a/b"], ["a", "b"]),
    ],
)
def test_tasks_are_called_by_what_tells_their_folders_apart(folders, names):
    assert distinguishing([Path(folder) for folder in folders]) == names


def test_tasks_of_folders_are_called_so(tmp_path, pairs):
    assert [task.name for task in build(tmp_path, **pairs).tasks] == ["animals", "plants"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"train": [p["train"][0]] * 2}, "names the folder .* twice"),
        (lambda p: {"test": [p["test"][0], p["train"][0]]}, "for training and for testing"),
        (lambda p: {"classes": [["bee"]]}, "stream.classes = .* leave stream.classes out"),
        (lambda p: {"order_seed": 1}, "stream.order_seed = 1, .* leave stream.order_seed out"),
        (lambda p: {"tasks": [4, 2]}, r"stream.tasks = \[4, 2\], .* leave stream.tasks out"),
    ],
)
def test_mistakes_with_several_pairs(tmp_path, pairs, change, message):
    with pytest.raises(ClbenchError, match=message):
        build(tmp_path, **(pairs | change(pairs)))


def test_several_folders_without_test_folders(tmp_path):
    folders = [
        write(tmp_path / name, classes, 5) for name, classes in (("a", ANIMALS), ("b", PLANTS))
    ]
    stream = build(tmp_path, train=folders)
    assert [len(task.test) for task in stream.tasks] == [4, 2]


@pytest.mark.parametrize("value", [[1, 1], [2, 1], [0], "dark", [0, float("inf")]])
def test_a_range_that_makes_no_sense(value):
    values = {
        "stream": {"name": "image_folder", "train": "x"},
        "images": {"range": value},
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "epochs": 1,
    }
    with pytest.raises(ClbenchError, match=r"images\.range"):
        parse(values)


def test_a_range_reaches_the_images(tmp_path):
    for name, shade in (("ant", 100), ("bee", 900)):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(5):
            image = Image.fromarray(np.full((9, 9), shade, dtype=np.uint16))
            image.save(tmp_path / "all" / name / f"{number}.tif")
    stream = build(tmp_path, {"range": (0, 1000)}, train=tmp_path / "all", tasks=2)
    assert stream.test_images.take(torch.tensor([0, 1]))[:, 0, 0, 0].tolist() == [26, 230]


def test_images_that_do_not_fit_into_memory_are_one_line(tmp_path, pair, monkeypatch):
    def none(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(CachedImages, "in_memory", none)
    with pytest.raises(ClbenchError, match=r"more memory than there is: lower images\.stored"):
        build(tmp_path, {"keep": "memory"}, **pair)


def test_holding_out_is_said_and_a_missing_test_folder_names_it(tmp_path, capsys):
    train = write(tmp_path / "all", ANIMALS, 5)
    build(tmp_path, train=train)
    assert "every fifth image of each class is held out" in capsys.readouterr().out
    with pytest.raises(ClbenchError, match=r"nowhere does not exist .* leave stream\.test out"):
        build(tmp_path, train=train, test="nowhere")
