import copy

import numpy as np
import pytest
import torch

from clbench.data import datasets
from clbench.data.datasets import DataSet, Labelled
from clbench.data.datasets.sizes import SIZES
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.streams import STREAMS, Storage
from clbench.streams.divide import divide
from clbench.streams.draws import hold_out
from clbench.streams.split import SPLITS, SplitConfig

TRAIN, TEST = 20, 5  # images of a class


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    """Ten classes of 8 x 8 images in mixed order, in place of every data set."""

    def part(count, seed):
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), count))
        images = np.random.default_rng(seed + 1).integers(0, 256, (len(labels), 8, 8))
        images[:, 0, 0] = labels  # an image tells its class
        return Labelled(images.astype(np.uint8), labels)

    names = tuple(f"class {c}" for c in range(10))
    data = DataSet("made_up", part(TRAIN, 0), part(TEST, 2), names)
    monkeypatch.setattr(datasets, "load", lambda *_: copy.deepcopy(data))


def build(tmp_path=None, **fields):
    fields = {"name": "split_mnist"} | fields
    return SplitConfig.model_validate(fields).build(tmp_path, Storage(size=8))


def classes(stream):
    return [list(stream.class_names[t.classes.start : t.classes.stop]) for t in stream.tasks]


def named(*groups):
    return [[f"class {c}" for c in group] for group in groups]


def originals(stream, split):
    """The data set's own labels of a split's images."""
    stream.allowed.fill_(True)
    return split.images.take(split.index)[:, 0, 0, 0].tolist()


def test_label_order_is_the_default():
    assert classes(build()) == named([0, 1], [2, 3], [4, 5], [6, 7], [8, 9])
    assert [task.name for task in build().tasks][:2] == ["class 0, class 1", "class 2, class 3"]


def test_global_labels_count_the_classes_in_stream_order():
    stream = build(order_seed=1, tasks=2)
    assert [task.classes for task in stream.tasks] == [range(5), range(5, 10)]
    assert [task.index for task in stream.tasks] == [0, 1]
    assert stream.task_of_class.tolist() == [0] * 5 + [1] * 5
    for task in stream.tasks:
        for split in (task.train, task.validation, task.test):
            own = [f"class {label}" for label in originals(stream, split)]
            assert own == [stream.class_names[label] for label in split.labels.tolist()]
            assert set(split.labels.tolist()) == set(task.classes)


def test_every_image_goes_to_one_place():
    stream = build()
    train = torch.cat(
        [index for t in stream.tasks for index in (t.train.index, t.validation.index)]
    )
    test = torch.cat([task.test.index for task in stream.tasks])
    assert sorted(train.tolist()) == list(range(10 * TRAIN))
    assert sorted(test.tolist()) == list(range(10 * TEST))


def test_order_seed_draws_the_class_order():
    drawn = [classes(build(order_seed=seed)) for seed in (0, 1, 1, None)]
    assert drawn[1] == drawn[2]
    assert len({str(x) for x in drawn}) == 3
    assert sorted(name for group in drawn[0] for name in group) == sorted(build().class_names)


def test_explicit_groups():
    stream = build(classes=[[3], [1, 0, 7]])
    assert classes(stream) == named([3], [1, 0, 7])
    assert stream.tasks[1].classes == range(1, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tasks": 3},
            r"stream.tasks = 3 does not divide.* 10 classes; use one of \[1, 2, 5, 10\]",
        ),
        ({"tasks": 11}, "stream.tasks = 11 does not divide"),
        ({"leave_out": [0]}, r"5 does not divide.* 9 classes; use one of \[1, 3, 9\]"),
        ({"classes": [[0, 1], [1, 2]]}, r"different classes.* 1 \(class 1\) is named more"),
        ({"classes": [[0], []]}, "non-empty groups"),
        ({"classes": []}, "non-empty groups"),
        ({"classes": [[0, 10]]}, "classes: there is no class with the number 10"),
        ({"classes": [[0], [4]], "leave_out": [4]}, r"4 \(class 4\) is set apart or left out"),
        ({"pretrain_classes": [9, 10]}, "pretrain_classes: .* number 10, .* 0…9"),
        ({"pretrain_classes": [-1]}, "no class with the number -1"),
        ({"pretrain_classes": [1, 1]}, r"stream.pretrain_classes .* more than once"),
        ({"leave_out": list(range(10))}, r"no classes left"),
    ],
)
def test_groups_that_do_not_fit_are_one_clear_error(fields, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        build(**fields)
    assert "\n" not in str(caught.value)


def test_divide_keeps_every_label_once():
    for seed in (None, 0, 5):
        groups = divide(list(range(3, 15)), 4, seed)
        assert [len(group) for group in groups] == [3] * 4
        assert sorted(label for group in groups for label in group) == list(range(3, 15))
    assert divide([5, 7, 9], 3, None) == [[5], [7], [9]]


def test_classes_left_out_and_set_apart():
    stream = build(leave_out=[9], pretrain_classes=[4, 2], tasks=7)
    assert classes(stream) == named([0], [1], [3], [5], [6], [7], [8])
    train, test = stream.pretraining
    assert originals(stream, train) == [4] * TRAIN + [2] * TRAIN
    assert train.labels.tolist() == [0] * TRAIN + [1] * TRAIN
    assert originals(stream, test) == [4] * TEST + [2] * TEST
    used = {i for task in stream.tasks for i in task.train.index.tolist()}
    assert not used & set(train.index.tolist())


def test_nothing_is_set_apart_by_default():
    assert build().pretraining is None


@pytest.mark.parametrize(("share", "held"), [(0.0, 0), (0.1, 2), (0.25, 5), (0.5, 10)])
def test_held_out_images_are_stratified_and_not_trained(share, held):
    for task in build(validation=share).tasks:
        for label in task.classes:
            assert int((task.validation.labels == label).sum()) == held
            assert int((task.train.labels == label).sum()) == TRAIN - held
        assert not set(task.train.index.tolist()) & set(task.validation.index.tolist())


def test_held_out_images_do_not_depend_on_the_order_or_the_division():
    def held(**fields):
        stream = build(validation=0.25, **fields)
        return sorted(i for task in stream.tasks for i in task.validation.index.tolist())

    wanted = held()
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    assert held(order_seed=3) == held(tasks=2) == held() == wanted


def test_held_out_images_are_a_draw_not_the_first():
    kept, out = hold_out(torch.arange(100, 200), 0.2, label=3)
    assert sorted([*kept.tolist(), *out.tolist()]) == list(range(100, 200))
    assert kept.tolist() == sorted(kept.tolist())
    assert out.tolist() != list(range(100, 120))
    assert hold_out(torch.arange(100, 200), 0.2, label=4)[1].tolist() != out.tolist()


def test_validation_images_may_be_seen_at_any_time_but_closed_tasks_may_not():
    stream = build(validation=0.25)
    first, second = stream.tasks[:2]
    stream.open(first, past=False)
    first.train.images.take(first.train.index)
    with pytest.raises(ClbenchError, match="images of another task"):
        first.train.images.take(second.train.index)
    with pytest.raises(ClbenchError, match="images of another task"):
        first.train.images.take(first.validation.index)
    second.validation.images.take(second.validation.index)
    stream.open(second, past=False)
    with pytest.raises(ClbenchError, match="images of another task"):
        first.train.images.take(first.train.index)
    stream.open(first, past=False)
    stream.open(second, past=True)
    first.train.images.take(first.train.index)


def test_a_class_without_training_images_left_is_named():
    with pytest.raises(ClbenchError, match=r"'class 0' has no training images left.*0\.99"):
        build(validation=0.99)


def test_fewer_images_of_a_class():
    stream = build(train_per_class=8, test_per_class=3, validation=0.25)
    for task in stream.tasks:
        for label in task.classes:
            counts = [
                int((split.labels == label).sum())
                for split in (task.train, task.validation, task.test)
            ]
            assert counts == [6, 2, 3]
    assert len(build(train_per_class=1000, validation=0).tasks[0].train) == 2 * TRAIN


def test_manifest_tells_what_went_where():
    base = build().manifest_hash
    assert build().manifest_hash == base
    changes = [
        {"validation": 0.2},
        {"order_seed": 1},
        {"tasks": 2},
        {"leave_out": [9], "classes": [[0, 1]]},
        {"classes": [[1, 0], [2, 3], [4, 5], [6, 7], [8, 9]]},
        {"train_per_class": 10},
        {"test_per_class": 2},
        {"pretrain_classes": [0, 1], "tasks": 4},
    ]
    assert len({base, *(build(**change).manifest_hash for change in changes)}) == len(changes) + 1


def test_manifest_depends_on_the_pixels(monkeypatch):
    base = build().manifest_hash
    data = datasets.load("mnist")
    data.train.images[3, 4, 4] ^= 1
    monkeypatch.setattr(datasets, "load", lambda *_: data)
    assert build().manifest_hash != base


@pytest.mark.parametrize("name", SPLITS)
def test_streams_of_the_table_divide(name):
    config = STREAMS[name].model_validate({"name": name})
    row = SPLITS[name]
    classes = SIZES[row.dataset].classes
    left = [c for c in range(classes) if c not in config.leave_out + config.pretrain_classes]
    count = row.tasks if isinstance(row.tasks, int) else len(row.tasks)
    assert len(divide(left, config.tasks, None)) == count


def test_fields_of_the_name_can_be_overridden():
    base = {"model": {"backbone": "tiny_cnn", "weights": "none"}, "epochs": 1}
    stream = {"name": "split_digits", "tasks": 2, "pretrain_classes": []}
    config = parse(base | {"stream": stream}).stream
    assert (config.tasks, config.pretrain_classes, config.leave_out) == (2, [], [])
    config = parse(base | {"stream": {"name": "split_digits", "classes": [[4], [5]]}}).stream
    assert config.tasks == 2


@pytest.mark.parametrize(
    ("storage", "side"), [({"size": 8}, 8), ({"size": 6}, 6), ({"size": 16}, 8), ({"stored": 5}, 5)]
)
def test_images_are_kept_at_their_own_size_or_smaller(storage, side):
    config = SplitConfig.model_validate({"name": "split_mnist"})
    stream = config.build(None, Storage(**({"size": 8} | storage)))
    assert stream.train_images.take(torch.tensor([0])).shape == (1, 1, side, side)
