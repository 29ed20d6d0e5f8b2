"""Tasks that share labels: permuted and rotated images, and classes that take the same outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.data import datasets
from clbench.data.arranged import ArrangedImages, permutations, rotations
from clbench.data.datasets import DataSet, Labelled
from clbench.data.images import TensorImages
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.streams import STREAMS, Storage

TRAIN, TEST, CLASSES = 8, 3, 4


@pytest.fixture
def made_up(monkeypatch):
    """Four classes of 6 x 6 images, in place of every data set."""

    def part(count, seed):
        random = np.random.default_rng(seed)
        labels = random.permutation(np.repeat(np.arange(CLASSES), count))
        return Labelled(random.integers(1, 256, (len(labels), 6, 6)).astype(np.uint8), labels)

    data = DataSet("made_up", part(TRAIN, 0), part(TEST, 2), tuple("abcd"))
    monkeypatch.setattr(datasets, "load", lambda *_: data)
    return data


def build(name, **fields):
    config = STREAMS[name].model_validate({"name": name} | fields)
    stream = config.part(config.build(Path("data"), Storage(size=6)))
    stream.allowed.fill_(True)
    return stream


def pixels(split):
    return split.images.take(split.index)


def images(count=5, channels=1, side=6):
    random = torch.Generator().manual_seed(0)
    shape = (count, channels, side, side)
    return TensorImages(torch.randint(1, 256, shape, generator=random, dtype=torch.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_permuted_pixels_against_a_loop(channels):
    orders = permutations(6, 3, seed=1)
    source = images(channels=channels)
    arranged = ArrangedImages(source, orders)
    assert len(arranged) == 15
    index = torch.tensor([14, 0, 6, 6, 3])
    for found, number in zip(arranged.take(index), index.tolist(), strict=True):
        order, image = orders[number // 5], source.tensor[number % 5]
        wanted = [[image[c].flatten()[k] for k in order] for c in range(channels)]
        assert found.flatten(1).tolist() == torch.tensor(wanted).tolist()


@pytest.mark.parametrize("angle", [0, 9, 30, 90, 137.5, 180, -45])
@pytest.mark.parametrize("side", [6, 7])
def test_rotations_are_those_of_pillow(angle, side):
    source = images(side=side)
    found = ArrangedImages(source, rotations(side, [angle])).take(torch.arange(5))
    for image, turned in zip(source.tensor[:, 0], found[:, 0], strict=True):
        wanted = np.asarray(Image.fromarray(image.numpy()).rotate(angle))
        np.testing.assert_array_equal(turned.numpy(), wanted)


def test_every_permutation_is_drawn_by_its_number_alone():
    many = permutations(6, 5, seed=3)
    assert torch.equal(many[:2], permutations(6, 2, seed=3))
    assert len({tuple(order.tolist()) for order in many}) == 5
    assert torch.equal(many.sort(dim=1).values, torch.arange(36).expand(5, -1))
    kept = permutations(6, 5, seed=3, keep_first=True)
    assert torch.equal(kept[0], torch.arange(36))
    assert torch.equal(kept[1:], many[1:])


def test_digests_tell_images_and_arrangements_apart():
    source = images()
    digests = ArrangedImages(source, permutations(6, 3, 0, keep_first=True)).digests()
    assert len({row.tobytes() for row in digests}) == 15
    np.testing.assert_array_equal(digests[:5], source.digests())
    prints = [ArrangedImages(source, permutations(6, 3, seed)).fingerprint() for seed in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_all_tasks_have_all_classes_on_one_head(made_up):
    stream = build("permuted_mnist", tasks=3)
    assert stream.shared
    assert stream.class_names == tuple("abcd")
    assert [task.classes for task in stream.tasks] == [range(4)] * 3
    assert stream.task_of_class.tolist() == [0] * 4
    for task in stream.tasks:
        assert torch.bincount(task.train.labels).tolist() == [7] * 4
        assert torch.bincount(task.validation.labels).tolist() == [1] * 4
        assert torch.bincount(task.test.labels).tolist() == [3] * 4


def test_tasks_hold_the_same_images_out_and_share_none_as_they_are_seen(made_up):
    stream = build("permuted_mnist", tasks=2, first="identity")
    one, other = stream.tasks
    for part in ("train", "validation", "test"):
        mine, theirs = pixels(getattr(one, part)), pixels(getattr(other, part))
        assert torch.equal(mine.flatten(1).sort().values, theirs.flatten(1).sort().values)
        assert not torch.equal(mine, theirs)
        assert not set(getattr(one, part).index.tolist()) & set(getattr(other, part).index.tolist())
    whole = made_up.train.images.sum((1, 2)).tolist()
    used = [
        *pixels(one.train).sum((1, 2, 3)).tolist(),
        *pixels(one.validation).sum((1, 2, 3)).tolist(),
    ]
    assert sorted(used) == sorted(whole)


def test_the_first_task_is_permuted_or_as_it_is(made_up):
    found = {
        first: build("permuted_mnist", tasks=2, first=first) for first in ("identity", "permuted")
    }
    for first, stream in found.items():
        plain = {image.tobytes() for image in made_up.train.images}
        seen = {image.numpy().tobytes() for image in pixels(stream.tasks[0].train)}
        assert (seen <= plain) == (first == "identity")
    assert [task.name for task in found["identity"].tasks] == ["identity", "permutation 2"]
    assert found["identity"].manifest_hash != found["permuted"].manifest_hash


def test_classes_set_apart_keep_their_pixels(made_up):
    stream = build("rotated_mnist", angles=[45, 90], pretrain_classes=[0, "c"])
    assert stream.class_names == ("b", "d")
    for split, part in zip(stream.pretraining, (made_up.train, made_up.test), strict=True):
        for label, own in ((0, 0), (1, 2)):
            found = pixels(split)[split.labels == label][:, 0].numpy()
            np.testing.assert_array_equal(found, part.images[part.labels == own])


def test_default_angles_are_where_the_papers_twenty_begin():
    angles = parse_stream({"name": "rotated_mnist"}).angles
    assert angles == [9 * number for number in range(20)]
    assert parse_stream({"name": "permuted_mnist"}).tasks == 10


def parse_stream(stream):
    return parse(
        {"stream": stream, "model": {"backbone": "tiny_cnn", "weights": "none"}, "steps": 1}
    ).stream


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        ({"name": "rotated_digits", "angles": [0, 360]}, "stream.angles.*same rotation"),
        ({"name": "rotated_digits", "angles": []}, "stream.angles"),
        ({"name": "rotated_digits", "angles": [float("nan")]}, "stream.angles"),
        ({"name": "permuted_digits", "tasks": 0}, "stream.tasks"),
        ({"name": "permuted_digits", "first": "same"}, "stream.first"),
        ({"name": "split_digits", "labels": "share"}, "stream.labels"),
    ],
)
def test_fields_out_of_range_are_refused(stream, why):
    with pytest.raises(ClbenchError, match=why) as caught:
        parse_stream(stream)
    assert "\n" not in str(caught.value)


def test_what_is_left_must_be_two_classes(made_up):
    with pytest.raises(ClbenchError, match=r"1 class each.*two classes or more"):
        build("permuted_mnist", leave_out=["a", "b"], pretrain_classes=["c"])
    with pytest.raises(ClbenchError, match="0 classes each"):
        build("permuted_mnist", leave_out=[*"abcd"])


def test_even_and_odd_digits_share_five_outputs():
    """The setting of Soup-to-go's Fig. 9: label = digit // 2, tasks: even and odd digits."""
    stream = build(
        "split_digits",
        labels="shared",
        pretrain_classes=[],
        classes=[[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]],
    )
    assert [task.classes for task in stream.tasks] == [range(5), range(5)]
    assert stream.class_names == ("0 | 1", "2 | 3", "4 | 5", "6 | 7", "8 | 9")
    data = datasets.load("digits", Path("data"), False)
    for parity, task in enumerate(stream.tasks):
        digits = torch.from_numpy(data.train.labels)[task.train.index]
        assert torch.equal(task.train.labels, digits // 2)
        assert set((digits % 2).tolist()) == {parity}
    assert [entry["classes"] for entry in stream.manifest["tasks"]] == [[*"02468"], [*"13579"]]


def test_shared_labels_are_another_stream_of_the_same_images():
    own, shared = (build("split_digits", labels=labels) for labels in ("own", "shared"))
    assert [t.classes for t in own.tasks] == [range(2), range(2, 4), range(4, 6)]
    assert not own.shared
    assert "labels" not in own.manifest
    assert own.manifest["tasks"] == shared.manifest["tasks"]
    assert own.manifest_hash != shared.manifest_hash


def test_a_beginning_of_shared_tasks_has_the_whole_head():
    stream = build("split_digits", labels="shared", first_tasks=1)
    assert stream.shared
    assert len(stream.class_names) == 2


def test_uneven_tasks_cannot_share_labels():
    with pytest.raises(ClbenchError, match=r"labels = 'shared', but the tasks have 1, 2, 3"):
        build("split_digits", labels="shared", tasks=[1, 2, 3])
    with pytest.raises(ClbenchError, match="1 class each"):
        build("split_digits", labels="shared", tasks=6)
