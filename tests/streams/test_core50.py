"""CORe50's published runs, from lists and frames as its authors have them."""

import sys
from pathlib import Path

import pytest
import torch

import clbench
from clbench.data.datasets.core50 import TRAIN_SESSIONS
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.models.tiny import TinyCNN
from clbench.recipe.recipe import parse
from clbench.streams import STREAMS, Storage
from clbench.testing import check_stream

sys.path.append(str(Path(__file__).parents[1] / "data"))
import list_writers as write
import writers

FIRST = [5 * k + 1 for k in range(10)]
REST = [[k for k in range(1, 51) if k not in FIRST][5 * n : 5 * n + 5] for n in range(8)]
#: As the paper has it: what a batch is made of; the order differs from run to run.
UNITS = [(s, REST[n]) for n in (3, 0, 7, 1, 5, 2, 6, 4) for s in reversed(TRAIN_SESSIONS)]
UNITS += [(s, half) for s in TRAIN_SESSIONS[1:] for half in (FIRST[:5], FIRST[5:])]
RUNS = {
    "NC": [[(s, objects) for s in TRAIN_SESSIONS] for objects in (FIRST, *reversed(REST))],
    "NI": [[(s, range(1, 51))] for s in (5, 1, 11, 2, 9, 4, 6, 8)],
    "NIC": [[(1, FIRST)], *([unit] for unit in UNITS)],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("core50")
    write.write_core50(root)
    for frame in (root / "core50_128x128").rglob("*.png"):
        frame.write_bytes(writers.jpeg())
    for scenario, batches in RUNS.items():
        write.write_core50_lists(root, scenario, 3, batches)
    return root


def build(root, scenario, **fields):
    values = {"name": "core50_runs", "scenario": scenario, "run": 3, "validation": 0}
    config = STREAMS["core50_runs"].model_validate(values | fields)
    return config.build(root, Storage(size=8, keep="files"))


def frames(images, split):
    """Session and object of each image, with its label."""
    found = []
    for place, label in zip(split.index.tolist(), split.labels.tolist(), strict=True):
        session, item = images.paths[place].parts[-3:-1]
        found.append((int(session[1:]), int(item[1:]), label))
    return found


def test_new_classes_are_numbered_as_their_lists_number_them(root):
    stream = build(root, "nc")
    assert not stream.shared
    assert [len(task.classes) for task in stream.tasks] == [10, *[5] * 8]
    order = [*FIRST, *(k for rest in reversed(REST) for k in rest)]
    assert stream.class_names == tuple(f"o{k}" for k in order)
    for task in stream.tasks:
        objects = [order[label] for label in task.classes]
        wanted = {(s, k, order.index(k)) for s in TRAIN_SESSIONS for k in objects}
        assert set(frames(stream.train_images, task.train)) == wanted
        wanted = {(s, k, order.index(k)) for s in (3, 7, 10) for k in objects}
        assert set(frames(stream.test_images, task.test)) == wanted


def test_new_instances_come_in_the_order_of_the_run(root):
    stream = build(root, "ni")
    assert stream.shared
    assert len(stream.class_names) == 50
    for task, [(session, _)] in zip(stream.tasks, RUNS["NI"], strict=True):
        found = frames(stream.train_images, task.train)
        assert sorted(found) == [(session, k, k - 1) for k in range(1, 51)]
        assert len(task.test) == 150
    assert [task.name for task in stream.tasks][:3] == ["s5", "s1", "s11"]


def test_new_instances_and_classes_share_a_head(root):
    stream = build(root, "nic")
    assert stream.shared
    assert len({task.name for task in stream.tasks}) == 79
    assert stream.tasks[1].name == "s11: " + ", ".join(f"o{k}" for k in REST[3])
    assert sum(len(task.train) for task in stream.tasks) == 400
    for task, batch in zip(stream.tasks, RUNS["NIC"], strict=True):
        assert task.classes == range(50)
        wanted = [(s, k, k - 1) for s, objects in batch for k in objects]
        assert sorted(frames(stream.train_images, task.train)) == sorted(wanted)
        assert sorted(frames(stream.test_images, task.test)) == sorted(
            (s, k, k - 1) for s in (3, 7, 10) for k in range(1, 51)
        )
    assert (stream.manifest["scenario"], stream.manifest["run"]) == ("nic", 3)


NIC = {"name": "core50_runs", "scenario": "nic", "run": 3, "validation": 0}


def test_batches_of_a_few_objects_train(root, tmp_path, no_pictures):
    record = clbench.run(
        {
            "stream": NIC | {"first_tasks": 3},
            "model": {"backbone": "tiny_cnn", "weights": "none"},
            "methods": {"lwf": {}, "replay": {"fraction": 0.5}},
            "images": {"size": 8},
            "data_dir": str(root),
            "batch_size": 8,
            "steps": 2,
        },
        tmp_path / "run",
    )
    for number, task in enumerate(record.tasks, 1):  # on all fifty objects, in every task
        assert len(task.class_incremental) == number
        assert len(set(task.class_incremental + task.task_incremental)) == 1


@pytest.mark.slow
def test_it_keeps_to_what_is_asked_of_streams(root):
    check_stream(NIC, recipe={"images": {"size": 8}, "data_dir": str(root)})


def test_one_test_set_of_all_tasks_is_read_once(root):
    stream = build(root, "ni")
    read = []

    class Reader:
        batch_size = 64

        def batches(self, split, device, parts):
            from clbench.data.reader import Inputs

            read.append(len(split))
            for part in parts:
                images = stream.test_images.take(split.index[part]).float()
                yield Inputs(images, split.labels[part], part)

        def autocast(self):
            return torch.autocast("cpu", enabled=False)

    splits = [task.test for task in stream.tasks] + [stream.tasks[0].train]
    splits[-1] = type(splits[0])(splits[0].images, splits[0].index[:7], splits[0].labels[:7])
    model = TinyCNN(num_classes=50)
    evaluator = Evaluator(Reader())
    seen = torch.ones(50, dtype=torch.bool)
    scores = evaluator.accuracy(model, splits, stream.task_of_class, seen)
    assert read == [157]
    assert len(scores.task_incremental) == 9
    assert len(set(scores.task_incremental[:8])) == 1
    alone = evaluator.accuracy(model, splits[-1:], stream.task_of_class, seen)
    assert alone.task_incremental == scores.task_incremental[8:]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [*lines, lines[0]], "a frame is listed twice in "),
        (lambda lines: [lines[0][:-1] + "7", *lines[1:]], "has the label 7 for o1, others 0"),
        (lambda lines: [lines[0][:-1] + "x", *lines[1:]], "has the label 'x', which is no number"),
        (lambda lines: ["s1/o51/C_01_51_000.png 0"], "which is no frame of an object"),
        (lambda lines: ["../../../etc/C_.png 0"], "which is no frame of an object"),
        (lambda lines: ["s1/o1/C_01_01_999.png 0"], "1 of 351 files are not there"),
        (lambda lines: [], "train_batch_02_filelist.txt is empty"),
    ],
)
def test_lists_that_are_none(change, told, tmp_path, root):
    (tmp_path / "core50_128x128").symlink_to(root / "core50_128x128")
    place = write.write_core50_lists(tmp_path, "NI", 3, RUNS["NI"])
    file = place / "train_batch_02_filelist.txt"
    write.write_lines(file, change(file.read_text().splitlines()))
    with pytest.raises(ClbenchError, match=told) as caught:
        build(tmp_path, "ni")
    assert "\n" not in str(caught.value)


def test_lists_that_are_not_there(tmp_path):
    with pytest.raises(ClbenchError, match=r"NIC_inc/run9/train_batch_00_filelist\.txt: No such"):
        build(tmp_path, "nic", run=9)


def test_a_run_is_one_of_ten():
    values = {"stream": {"name": "core50_runs", "run": 10}, "epochs": 1}
    with pytest.raises(ClbenchError, match=r"stream\.run = 10"):
        parse(values | {"model": {"backbone": "tiny_cnn", "weights": "none"}})
