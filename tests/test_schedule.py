"""One schedule over the steps of all tasks, whatever each task's length."""

import math

import pytest
import torch
from helpers import comparable, interrupt_after
from safetensors.torch import load_file

import clbench
from clbench.errors import ClbenchError
from clbench.estimate.estimating import estimate
from clbench.learner.learner import Learner
from clbench.optim.settings import Schedule, learning_rate
from clbench.recipe.merging import merge
from clbench.recipe.recipe import parse
from clbench.runner.setup import Setup
from clbench.runner.steps import steps_of_stream

COSINE = {"name": "cosine", "warmup": 0.4, "over": "stream"}


def expected(total, warmup, peak=1.0):
    rising = round(warmup * total)
    rates = [(step + 1) / rising for step in range(rising)]
    turns = [math.pi * (step - rising) / (total - rising) for step in range(rising, total)]
    return [peak * rate for rate in (*rates, *((1 + math.cos(turn)) / 2 for turn in turns))]


def test_the_tasks_rates_are_those_of_one_long_task():
    """Warm-up ends in the second task."""
    lengths, rules = (5, 4, 7), Schedule(**COSINE)
    found, before = [], 0
    for length in lengths:
        factor = learning_rate(rules, length, before, sum(lengths))
        found += [factor(step) for step in range(length)]
        before += length
    assert found == pytest.approx(expected(16, 0.4))
    whole = learning_rate(Schedule(name="cosine", warmup=0.4), 16)
    assert found == [whole(step) for step in range(16)]
    # A task alone is the stream.
    alone = learning_rate(rules, 16)
    assert found == [alone(step) for step in range(16)]


def test_over_a_task_nothing_before_it_counts():
    rules = Schedule(name="cosine", warmup=0.25)
    one, other = learning_rate(rules, 8), learning_rate(rules, 8, 100, 300)
    assert [one(step) for step in range(8)] == [other(step) for step in range(8)]


@pytest.fixture
def uneven(recipe, no_pictures):
    """Two tasks of different length, the second with samples of the first mixed in."""
    recipe["stream"] |= {
        "classes": [[4, 5], [6, 7, 8]],
        "train_per_class": 12,
        "test_per_class": 5,
        "validation": 0,
    }
    del recipe["steps"]
    changes = {"6, 7, 8": {"batch_size": 6, "optimizer": {"lr": 0.02}}}
    return recipe | {
        "epochs": 2,
        "batch_size": 5,
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
        "schedule": COSINE,
        "methods": {"replay": {"fraction": 0.25}},
        "per_task": changes,
        "trainer": recipe["trainer"] | {"accumulate_grad_batches": 2},
    }


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of every step."""
    found = []
    step = Learner.optimizer_step

    def watch(self, *args, **kwargs):
        found.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        step(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "optimizer_step", watch)
    return found


def test_steps_are_counted_before_the_first(uneven, tmp_path, rates):
    record = clbench.run(uneven, tmp_path / "run")
    steps = [event.steps for event in record.tasks]
    # 24 images in batches of 5, two of which make a step; 36 in batches of 6, replayed among them.
    assert steps[0] == 2 * 3
    assert steps[1] > 2 * 3
    made = Setup.of(parse(uneven), tmp_path)
    assert steps_of_stream(parse(uneven), made.stream, made.stages) == steps
    rates = rates[1:]  # the step that is tried before the run
    wanted = expected(sum(steps), 0.4)
    peaks = [0.01] * steps[0] + [0.02] * steps[1]
    assert rates == pytest.approx([p * w for p, w in zip(peaks, wanted, strict=True)])


def test_a_resumed_run_goes_on_with_the_schedule(uneven, tmp_path, monkeypatch, rates):
    whole = clbench.run(uneven, tmp_path / "whole")
    first = len(rates)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(uneven, tmp_path / "cut")
    cut = clbench.run(uneven, tmp_path / "cut", resume=True)
    assert comparable(cut) == comparable(whole)
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    last = whole.tasks[-1].steps
    assert rates[-last:] == rates[first - last : first]


def test_a_constant_schedule_is_the_same_over_the_stream(recipe, tmp_path, no_pictures):
    for over in ("task", "stream"):
        clbench.run(recipe | {"schedule": {"over": over}}, tmp_path / over)
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("task", "stream"))
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_all_tasks_at_once_are_the_stream(recipe, tmp_path, no_pictures):
    recipe["methods"] = {"multitask": {}}
    for over in ("task", "stream"):
        clbench.run(recipe | {"schedule": COSINE | {"over": over}}, tmp_path / over)
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("task", "stream"))
    assert all(torch.equal(x, other[name]) for name, x in one.items())


def test_a_dry_run_counts_the_same_steps(uneven, tmp_path):
    uneven["stream"]["classes"].append([9])
    made = estimate(uneven)
    record = clbench.run(uneven, tmp_path / "run")
    assert [task.steps for task in made.tasks] == [event.steps for event in record.tasks]


def test_a_method_that_mixes_in_more_than_it_said_is_named(uneven, tmp_path, monkeypatch):
    monkeypatch.setattr("clbench.methods.replay.Replay.mixes", 0.0)
    with pytest.raises(ClbenchError, match=r"task 6, 7, 8 has \d+ steps, and \d+ were") as caught:
        clbench.run(uneven, tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "schedule": COSINE,
                "stream": {"name": "transfer6", "independent": True},
                "model": {"weights": "none"},
            },
            "every task starts anew: say over: task",
        ),
        (
            {"schedule": COSINE, "per_task": {"4": {"schedule": {"warmup": 0.1}}}},
            r"per_task\.4\.schedule: a schedule over the stream is one for all tasks",
        ),
        (
            {"per_task": {"4": {"schedule": {"over": "stream"}}}},
            r"per_task\.4\.schedule: a schedule over the stream is one for all tasks",
        ),
        ({"schedule": {"over": "run"}}, r"schedule\.over"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(recipe, changes, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        parse(merge(recipe, changes))
    assert "\n" not in str(caught.value)


def test_the_first_tasks_have_the_schedule_of_the_whole_stream(uneven, tmp_path, rates):
    clbench.run(uneven, tmp_path / "whole")
    whole = rates[1:]
    rates.clear()
    uneven["stream"] = uneven["stream"] | {"first_tasks": 1}  # a try of tuning, say
    first = clbench.run(uneven, tmp_path / "first").tasks[0].steps
    assert rates[1:] == whole[:first]
    assert estimate(uneven).total.steps == first
