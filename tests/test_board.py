"""TensorBoard's file: all events once and in order, whatever happened; its faults cost a line."""

import errno
import os
import shutil
import struct
import time
from collections import Counter
from contextlib import nullcontext

import pytest
import torch
from helpers import RECIPE
from PIL import Image
from report.made_up import run_folder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import (
    EventFileLoader,
    RawEventFileLoader,
)
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams import metadata
from torch.utils.tensorboard import SummaryWriter

from clbench.measure.board import StreamLogger, hyperparameters
from clbench.recipe.recipe import parse
from clbench.record.logged import FINISHED
from clbench.record.record import Record


def log(folder, steps, done=0):
    """Tasks of one step each."""
    logger = StreamLogger(folder, done)
    for step in steps:
        logger.log_metrics({"train/loss": float(step), FINISHED: step}, step)
    logger.save()
    return logger


def steps(folder):
    """What TensorBoard shows, and it has read no more than that."""
    events = EventAccumulator(str(folder)).Reload()
    shown = [point.step for point in events.Scalars("train/loss")]
    assert sorted(read(folder)) == [("train/loss", step) for step in shown]
    return shown


def read(folder):
    (path,) = folder.glob("*tfevents*")
    events = list(EventFileLoader(str(path)).Load())
    values = [(value.tag, event.step) for event in events for value in event.summary.value]
    return Counter(value for value in values if value[0] != FINISHED)


@pytest.mark.parametrize("done", [0, 3])
def test_a_run_that_goes_on_cuts_off_what_comes_after_its_checkpoint(tmp_path, done):
    log(tmp_path, range(1, 6))
    log(tmp_path, range(done + 1, 8), done).close()
    assert steps(tmp_path) == list(range(1, 8))


def test_tasks_that_stand_at_one_step_are_told_apart(tmp_path):
    for done in (0, 1, 1, 2):
        logger = StreamLogger(tmp_path, done)
        for task in (done + 1, done + 2):
            logger.log_metrics({"train/loss": 1.0}, 0)
            logger.log_histogram("methods/flow/weights", torch.ones(3), 0)
            logger.log_metrics({FINISHED: task}, 0)
        logger.log_metrics({"train/loss": 1.0}, 0)  # of a task that is cut off
        logger.close()
    assert read(tmp_path) == {("train/loss", 0): 5, ("methods/flow/weights", 0): 4}


def test_time_and_again(tmp_path):
    for done in range(5):
        log(tmp_path, range(done + 1, done + 4), done)
    assert steps(tmp_path) == list(range(1, 8))


def test_a_clock_that_is_set_back_mixes_nothing(tmp_path, monkeypatch):
    log(tmp_path, range(1, 6))
    monkeypatch.setattr(time, "time", lambda: 1.0)
    log(tmp_path, range(4, 8), 3)
    assert steps(tmp_path) == list(range(1, 8))


@pytest.mark.parametrize("lost", [1, 4, 17, 40])
def test_a_half_written_event_is_passed_over(tmp_path, lost):
    log(tmp_path, range(1, 6))
    (path,) = tmp_path.glob("*tfevents*")
    os.truncate(path, path.stat().st_size - lost)
    log(tmp_path, range(3, 8), 2)
    assert steps(tmp_path) == list(range(1, 8))


def test_a_kill_between_the_new_file_and_the_end_of_the_old_one(tmp_path, monkeypatch):
    log(tmp_path, range(1, 6))
    (old,) = tmp_path.glob("*tfevents*")
    kept = old.read_bytes()
    log(tmp_path, range(4, 6), 3)
    old.write_bytes(kept)
    (tmp_path / ".events.out.tfevents.0000000003.clbench.partial").write_bytes(kept[:50])
    log(tmp_path, range(4, 8), 3)
    for partial in tmp_path.glob(".*"):
        partial.unlink()
    assert steps(tmp_path) == list(range(1, 8))


def test_files_of_torchs_writer_are_taken_over(tmp_path):
    for first, purge in ((1, None), (4, 4)):
        with SummaryWriter(str(tmp_path), purge_step=purge) as writer:
            for step in range(first, first + 5):
                writer.add_scalar("train/loss", step, step)
                writer.add_scalar(FINISHED, step, step)
    log(tmp_path, range(7, 9), 6)
    assert steps(tmp_path) == list(range(1, 9))


def test_a_dry_run_or_a_run_with_nothing_to_say_touches_nothing(tmp_path):
    log(tmp_path, range(1, 3))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    StreamLogger(tmp_path, 1).close()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_stranger_left_is_not_followed(tmp_path):
    folder, other = tmp_path / "run", tmp_path / "other"
    folder.mkdir()
    other.write_text("mine")
    (folder / "events.out.tfevents.0000000009.x").symlink_to(other)
    (folder / "events.out.tfevents.0000000008.x").write_bytes(b"garbage" * 100)
    huge = struct.pack("<Q", 1 << 62)
    (folder / "events.out.tfevents.0000000007.x").write_bytes(huge * 3)
    log(folder, [1])
    assert steps(folder) == [1]
    assert other.read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_costs_nothing_once_it_does_not(tmp_path, monkeypatch, capsys, number):
    """A full one stops the run before a checkpoint; another fault costs a line."""
    logger = log(tmp_path, [1, 2])
    real, room = os.write, [20]

    def full(file, data):
        if not room[0]:
            raise OSError(number, os.strerror(number))
        done = real(file, bytes(data)[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", full)
    for step in (3, 4):
        logger.log_metrics({"train/loss": step}, step)
        with pytest.raises(OSError, match="No space") if number == errno.ENOSPC else nullcontext():
            logger.save()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (number != errno.ENOSPC)
    assert all(str(tmp_path) in line and "Input/output error" in line for line in lines)
    monkeypatch.undo()
    logger.log_metrics({"train/loss": 5}, 5)
    logger.close()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_folder_that_is_gone_costs_no_more_than_a_line(tmp_path, when, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    logger = StreamLogger(folder)
    if when == "after":
        logger.log_metrics({"train/loss": 1.0}, 1)
        logger.save()
    shutil.rmtree(folder)
    for step in (2, 3):
        logger.log_metrics({"train/loss": 1.0}, step)
        logger.log_histogram("methods/flow/weights", torch.ones(3), step)
        logger.save()
    logger.finalize("success")
    logger.close()
    assert len(capsys.readouterr().out.splitlines()) == (when == "before")


@pytest.mark.parametrize("values", [torch.empty(0), torch.tensor([float("nan")])])
def test_what_tensorboard_cannot_show_costs_a_line(tmp_path, values, capsys):
    logger = StreamLogger(tmp_path)
    logger.log_histogram("methods/flow/weights", values, 1)
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.close()
    assert steps(tmp_path) == [1]
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_hparams_show_what_runs_are_compared_by(tmp_path):
    recipe = parse(
        RECIPE
        | {
            "methods": {"sfa": {"p": 0.25}, "replay": {"fraction": 0.5}},
            "optimizer": {"name": "sgd", "lr": 0.125, "momentum": 0.5},
        }
    )
    shown = hyperparameters(recipe)
    wanted = {
        "stream": "split_digits",
        "methods": "sfa(p=0.25) + replay(fraction=0.5)",
        "sfa.p": 0.25,
        "replay.fraction": 0.5,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.125,
        "optimizer.momentum": 0.5,
        "steps": 6,
        "batch_size": 32,
        "seed": 0,
        "backbone": "tiny_cnn",
        "weights": "pretrain",
        "image_size": 8,
    }
    assert wanted.items() <= shown.items()
    assert "sfa.beta" in shown
    folder = run_folder(tmp_path, {"sfa": {}, "replay": {}})
    record = Record.load(folder)
    Image.new("RGB", (30, 20)).save(folder / "curves.png")
    for _ in range(2):  # a run that was cut off while it ended says it once more
        logger = StreamLogger(folder, len(record.tasks))
        logger.log_results(recipe, record)
        logger.close()
    assert set(read(folder).values()) == {1}
    events = EventAccumulator(str(folder), {"images": 10}).Reload()
    (picture,) = events.Images("curves")
    assert (picture.width, picture.height) == (30, 20)
    (point,) = events.Scalars("final/task_incremental/overall_performance")
    score = record.summary()["task_incremental"]["overall_performance"]
    assert point.value == pytest.approx(score)
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    told = metadata.parse_session_start_info_plugin_data(content).hparams
    assert told["optimizer.lr"].number_value == 0.125
    assert told["sfa.p"].number_value == 0.25
    content = events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    page = metadata.parse_experiment_plugin_data(content)
    assert {info.name for info in page.hparam_infos} == set(shown)
    assert "final/class_incremental/overall_performance" in {
        info.name.tag for info in page.metric_infos
    }


def test_an_evaluation_is_one_event(tmp_path):
    logger = StreamLogger(tmp_path)
    logger.log_metrics({f"task_incremental/task_{task:02}": 0.5 for task in range(200)}, 1)
    logger.close()
    (path,) = tmp_path.glob("*tfevents*")
    _version, data = RawEventFileLoader(str(path)).Load()
    assert len(Event.FromString(data).summary.value) == 200


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_what_is_lost_is_said(tmp_path, damage, capsys):
    log(tmp_path, range(1, 6)).close()
    (path,) = tmp_path.glob("*tfevents*")
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half] ^= 4
    path.write_bytes({"empty": b"", "cut": data[:half]}.get(damage, bytes(data)))
    if damage == "gone":
        path.unlink()
    log(tmp_path, [6], 5).close()
    there = steps(tmp_path)
    last = max([step for step in there if step < 6], default=0)
    told = capsys.readouterr().out
    assert "does not tell where task 5 ends" in told
    assert f"all that it has is kept, up to step {last}," in told
    assert there == [*range(1, last + 1), 6]
    log(tmp_path, [6], 5).close()  # knows now where that task ends
    assert steps(tmp_path) == there
    assert capsys.readouterr().out == ""


def test_a_whole_file_says_nothing(tmp_path, capsys):
    log(tmp_path, range(1, 6)).close()
    log(tmp_path, [6], 5).close()
    assert capsys.readouterr().out == ""


def test_what_is_written_while_another_thread_syncs_is_synced_the_next_time(tmp_path, monkeypatch):
    logger = log(tmp_path, [1])
    logger.sync()
    write, fsync, synced = os.write, os.fsync, []

    def syncs_meanwhile(file, data):
        logger.sync()
        return write(file, data)

    def noted(file):
        synced.append(os.fstat(file).st_size)
        fsync(file)

    monkeypatch.setattr(os, "write", syncs_meanwhile)
    monkeypatch.setattr(os, "fsync", noted)
    logger.log_metrics({"train/loss": 2.0}, 2)
    logger.save()
    logger.close()
    assert synced[-1] == sum(path.stat().st_size for path in tmp_path.glob("events*"))
