"""Checkpoints are written beside the run: nothing is lost, changed or silent."""

import errno
import os
import threading
from types import SimpleNamespace

import pytest
import torch
from crash.outcome import differences, outcome

import clbench
from clbench.errors import ClbenchError
from clbench.files.background import Background
from clbench.learner.learner import Learner
from clbench.record import checkpoints
from clbench.record.record import Record
from clbench.runner import saving
from clbench.runner.network import Network
from clbench.runner.saving import Saver

LONG = 30  # seconds; nothing here waits so long unless it fails


def fails():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["join", "check", "start"])
def test_what_fails_is_raised_once_by_whatever_comes_next(call):
    background, done = Background(), []
    background.start(lambda: done.append(1))
    background.start(fails)
    background._done.wait()
    with pytest.raises(OSError, match="No space left"):
        getattr(background, call)(*([lambda: done.append(2)] if call == "start" else []))
    background.join()
    assert done == [1]


def test_one_piece_of_work_at_a_time_in_order():
    background, go_on, done = Background(), threading.Event(), []
    background.start(lambda: done.append(go_on.wait(LONG)))
    background.check()
    assert not done
    threading.Timer(0.05, go_on.set).start()
    background.start(lambda: done.append("second"))
    assert done[0] is True
    background.join()
    assert done == [True, "second"]


def test_ctrl_c_while_waiting_loses_no_work(ctrl_c):
    """It is waited for again, as a thread whose join was cut off might count as ended."""
    background, go_on, done = Background(), threading.Event(), []
    background.start(lambda: (go_on.wait(LONG), done.append(1)))
    threading.Timer(0.2, ctrl_c).start()
    with pytest.raises(KeyboardInterrupt):
        background.join()
    assert not done
    threading.Timer(0.2, go_on.set).start()
    assert not background.close()
    assert done


def test_where_something_else_failed_the_reason_is_words():
    background = Background()
    assert background.close() == ""
    background.start(fails)
    assert background.close() == "[Errno 28] No space left on device"
    assert background.close() == ""


@pytest.mark.parametrize("kept", [lambda x: x, lambda x: x.detach()], ids=["itself", "a view"])
def test_what_methods_change_meanwhile_is_written_as_it_was(tmp_path, monkeypatch, kept):
    """A part of the weights that a method goes on with, too; what is there twice is stored once."""
    mean, theta = torch.ones(1000), {"w": torch.full((1000,), 2.0)}
    state = {"done": 1, "theta": theta, "shown": {"w": mean}}
    method = SimpleNamespace(state_dict=lambda: {"mean": [kept(mean)], "count": 1})
    setup = SimpleNamespace(
        recipe=SimpleNamespace(checkpoints="last"),
        named_methods={"ema": method},
        logger=SimpleNamespace(sync=lambda: None),
    )
    monkeypatch.setattr(saving, "checkpoint_of", lambda *_: state)
    saver, go_on = Saver(setup, tmp_path, 0), threading.Event()
    recorder = SimpleNamespace(sync=lambda: go_on.wait(LONG))
    saver.save(recorder, SimpleNamespace(done=1), None, None)
    mean.zero_()
    go_on.set()
    saver.join()
    found = checkpoints.last(tmp_path)
    assert torch.equal(found["shown"]["w"], torch.ones(1000))
    assert torch.equal(found["methods"]["ema"]["mean"][0], torch.ones(1000))
    sizes = [path.stat().st_size for path in (tmp_path / "checkpoints").glob("*.pt")]
    assert 8000 < sum(sizes) < 12000  # the mean once, and θ


def test_the_next_task_is_trained_meanwhile_and_the_end_waits(
    recipe, tmp_path, monkeypatch, no_pictures
):
    trained, save, step = threading.Event(), checkpoints.save, Learner.training_step
    ended = []

    def slow(folder, number, *rest):
        if number == 1:
            assert trained.wait(LONG), "the run waited for its checkpoint"
        ended.append(Record.load(folder).finished)
        save(folder, number, *rest)

    def seen(self, *args):
        if self.first_step:
            trained.set()
        return step(self, *args)

    monkeypatch.setattr(checkpoints, "save", slow)
    monkeypatch.setattr(Learner, "training_step", seen)
    record = clbench.run(recipe | {"steps": 2}, tmp_path / "run")
    assert record.finished
    assert ended == [False, False, False]
    assert checkpoints.numbers(tmp_path / "run") == [3]


def test_a_disk_that_is_full_stops_the_run_at_its_next_step(
    recipe, tmp_path, monkeypatch, no_pictures
):
    values = recipe | {"steps": 4, "methods": {"sfa": {"p": 0.5}}}
    save, step, steps = checkpoints.save, Learner.training_step, []

    def full(folder, number, *rest):
        if number == 2:
            fails()
        save(folder, number, *rest)

    def counted(self, *args):
        threads = [t for t in threading.enumerate() if t.name == "clbench-background"]
        for thread in threads:
            thread.join(LONG)
        steps.append(self.first_step)
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", full)
        patch.setattr(Learner, "training_step", counted)
        with pytest.raises(ClbenchError, match="No space left on device: make room, then go on"):
            clbench.run(values, tmp_path / "cut")
    assert steps.count(8) == 1  # of the third task
    assert checkpoints.numbers(tmp_path / "cut") == [1]
    assert len(Record.load(tmp_path / "cut").tasks) == 2
    clbench.run(values, tmp_path / "cut", resume=True)
    clbench.run(values, tmp_path / "whole")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def weights(folder):
    lines = Record.load(folder).tasks
    return (folder / "model.safetensors").read_bytes(), [(e.loss, e.distance) for e in lines]


@pytest.mark.parametrize("head", ["random", "linear_probe"])
@pytest.mark.parametrize("methods", [{}, {"sfa": {"p": 0.5}}, {"wise_ft": {}}, {"lora": {}}])
def test_weights_that_are_there_are_not_copied_and_all_is_the_same(
    recipe, tmp_path, monkeypatch, no_pictures, methods, head
):
    recipe["model"] |= {"head": head}
    values = recipe | {"steps": 2, "methods": methods}
    taken, load = [], torch.nn.Module.load_state_dict
    with monkeypatch.context() as patch:
        patch.setattr(
            torch.nn.Module, "load_state_dict", lambda *a, **k: taken.append(1) or load(*a, **k)
        )
        clbench.run(values, tmp_path / "held")
        held = len(taken)
        patch.setattr(Network, "show", lambda self, new, methods: self.load(new.shown))
        clbench.run(values, tmp_path / "copied")
    assert weights(tmp_path / "held") == weights(tmp_path / "copied")
    assert (len(taken) - held > held) == (not methods or "sfa" in methods)


def test_a_run_is_the_same_as_one_that_waits_for_each_checkpoint(recipe, tmp_path, monkeypatch):
    values = recipe | {"methods": {"ema": {"over": "stream"}, "ewc": {"samples": 8}}, "steps": 3}
    clbench.run(values, tmp_path / "beside")
    begin = Background.start
    monkeypatch.setattr(Background, "start", lambda self, work: (begin(self, work), self.join()))
    clbench.run(values, tmp_path / "waited")
    assert not differences(tmp_path / "beside", outcome(tmp_path / "waited"))
    for name in ("methods", "shown", "trained"):
        one, other = (checkpoints.last(tmp_path / run)[name] for run in ("beside", "waited"))
        assert same(one, other), name


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
