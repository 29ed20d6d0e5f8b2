"""Two processes compute what one does, and take over each other's runs."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import clips
import ddp_runs
import numpy as np
import pytest
from helpers import FITTING, RECIPE, VIT
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import clbench
from clbench.methods import METHODS
from clbench.metrics.retained import ANYWHERE
from clbench.record.checkpoints import last
from clbench.record.record import Record
from clbench.weights import distance

CASES = {
    "sfa": {
        "methods": {"sfa": {"p": 0.5}},
        "eval_every": 4,
        "retention": {"measures": ["head", *ANYWHERE]},
    },
    "flow": {"methods": {"flow": {}, "head_refit": {}}},
    "flow_batch": {"methods": {"flow": {"temperature": "batch_median"}, "l2": {"strength": 0.1}}},
    "flow_running": {
        "methods": {
            "flow": {"temperature": "running_median", "per": "batch", "losses": "out_of_fold"},
            "replay": {"fraction": 0.25},
        }
    },
    # One schedule over all tasks; BatchNorm moves in the probe, and is frozen in training.
    "stream": {
        "methods": {},
        "schedule": {"name": "cosine", "warmup": 0.2, "over": "stream"},
        "images": {"size": 16},
        "model": {
            "backbone": "resnet10t",
            "weights": "none",
            "options": {},
            "batch_norm_training": "frozen",
            "head": "linear_probe",
            "probe": {"epochs": 2, "batch_size": 16, "batch_norm": "train"},
        },
        "optimizer": {"name": "sgd", "lr": 1e-3, "momentum": 0.0},
    },
    # Inputs are summed over processes; in the first task each looks at all, as none have met yet.
    "inflora": {"methods": {"inflora": {"energy": 0.8}}},
    # Nothing is trained, and the processes meet all the same, for one pass over the images.
    "slda": {"methods": {"slda": {}}},
    "der_pp": {"methods": {"der_pp": {"size": 40, "batch": 15}, "lwf": {}}},
    "er_ace": {
        "methods": {
            "er_ace": {"size": 40, "batch": 15},
            "ldifs": {},
            "rwalk": {"every": 3},
            "mas": {},
            "align_head": {"epochs": 1},
        },
        "train_logits": "seen",
    },
    "icarl": {"methods": {"icarl": {"size": 21}}, "train_logits": "seen"},
    "shared": {
        "methods": {"flow": {"per": "batch"}, "replay": {"fraction": 0.25}},
        "stream": {"name": "split_digits", "labels": "shared"},
        "evaluate": "all",
    },
    "training": {
        "methods": {"replay": {"fraction": 0.25}},
        "augment": {"randaugment": 1, "erasing": 0.5, "mixup": 0.5, "cutmix": 0.5},
        "label_smoothing": 0.1,
        "ema": 0.5,
        "early_stopping": {"every": 1, "patience": 1, "least": 0.1},
        "loggers": ["csv"],
    },
    # A rate of almost nothing leaves the probed weights: counts must then agree exactly.
    "still": {
        "methods": {},
        "optimizer": {"name": "sgd", "lr": 1e-30},
        "model": {"head": "linear_probe"},
        "steps": 1,
        "retention": {"measures": ["head", *ANYWHERE]},
        "representation": {"measures": ["ridge", "knn", "ncm"], "per_class": 30},
    },
}
#: Settings other than the defaults, where a short run needs them.
SETTINGS = {
    "replay": {"fraction": 0.25},
    "sfa": {"p": 0.5},
    "ewc": {"strength": 10.0},
    "ranpac": {"features": 64},
    **FITTING,
    "zscl": clips.settings(),
}
#: What some methods work with alone.
OWN = {
    "mofo": {"optimizer": {"name": "adamw", "lr": 0.02}},
    **{name: {"model": VIT} for name in ("l2p", "dualprompt", "coda_prompt", "spu", "ease")},
    "zscl": {"model": {"pretraining": {"epochs": 1}} | clips.model()},
}


def recipes(data_dir, methods=()):
    base = copy.deepcopy(RECIPE) | {"data_dir": str(data_dir), "steps": 8, "batch_size": 31}
    cases = dict(CASES)
    for name in methods:
        cases[name] = {"methods": {name: SETTINGS.get(name, {})}} | OWN.get(name, {})
    for name, case in cases.items():
        case = dict(case)
        model = base["model"] | case.pop("model", {})
        yield name, base | case | {"model": model}


def on(recipe, processes):
    return recipe | {"trainer": recipe["trainer"] | {"devices": processes, "log_every_n_steps": 4}}


def run_together(jobs, place, timeout=120):
    """Runs of several processes, in one program: importing torch takes longer than all of them."""
    file = place / "jobs.json"
    file.write_text(json.dumps(jobs, default=str))
    script = Path(__file__).with_name("ddp_runs.py")
    done = subprocess.run(
        [sys.executable, script, file],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def compare(data_dir, place, methods=()):
    """Every recipe on one process and on two; and the runs of one process taken over by two."""
    chosen = dict(recipes(data_dir, methods))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clbench.runner.outputs.write", lambda *_: None)
        patch.setattr("clbench.record.checkpoints.save", ddp_runs.save_and_copy)
        for name, recipe in chosen.items():
            clbench.run(on(recipe, 1), place / "one" / name)
    jobs = []
    for name, recipe in chosen.items():
        jobs.append({"recipe": on(recipe, 2), "folder": place / "two" / name})
        shutil.copytree(place / "one" / f"{name}-cut", place / "one_two" / name)
        jobs.append({"recipe": on(recipe, 2), "folder": place / "one_two" / name, "resume": True})
    return place, chosen, run_together(jobs, place, timeout=120 + 20 * len(methods))


@pytest.fixture(scope="module")
def compared(data_dir, tmp_path_factory):
    return compare(data_dir, tmp_path_factory.mktemp("ddp"))


def assert_equal(one, other, weights=1e-4, but=()):
    states = [load_file(folder / "model.safetensors") for folder in (one, other)]
    assert distance(*({k: v for k, v in s.items() if k not in but} for s in states)) < weights
    first, second = Record.load(one), Record.load(other)
    for scenario in ("task_incremental", "class_incremental"):
        difference = first.accuracy_matrix(scenario) - second.accuracy_matrix(scenario)
        assert np.nanmax(abs(difference)) < 0.03  # at most an image or two of some seventy
    # Written once: no line twice.
    assert [e.event for e in first.events] == [e.event for e in second.events]
    losses = [[task.loss for task in record.tasks] for record in (first, second)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    samples = [[task.samples for task in record.tasks] for record in (first, second)]
    assert samples[0] == samples[1]


def scalars(folder, tag):
    board = EventAccumulator(str(folder))
    board.Reload()
    return [(point.step, point.value) for point in board.Scalars(tag)]


@pytest.mark.parametrize("name", [name for name in CASES if name != "still"])
def test_two_processes_equal_one(compared, name):
    place, *_ = compared
    assert_equal(place / "one" / name, place / "two" / name)
    processes = [task.processes for task in Record.load(place / "two" / name).tasks]
    assert processes == [2, 2, 2]


@pytest.mark.parametrize("name", ["flow", "flow_batch", "flow_running"])
def test_temperatures_and_shares_are_of_all_processes(compared, name):
    place, *_ = compared
    one, two = (Record.load(place / kind / name).tasks for kind in ("one", "two"))
    for first, second in zip(one, two, strict=True):
        found = [event.methods["flow"]["temperature"] for event in (first, second)]
        assert found[0] == pytest.approx(found[1], rel=1e-3)
        if name == "flow_batch":
            found = [event.methods["l2"]["scope"] for event in (first, second)]
            assert found[0] == pytest.approx(found[1], rel=1e-2)


def test_what_methods_saw_last_is_of_all_processes(compared):
    place, *_ = compared
    one, two = (Record.load(place / kind / "der_pp").tasks[-1].methods for kind in ("one", "two"))
    for method, name in (
        ("lwf", "divergence"), ("der_pp", "logits_distance"), ("der_pp", "replayed_loss"),
    ):  # fmt: skip
        assert one[method][name] > 0
        assert two[method][name] == pytest.approx(one[method][name], rel=1e-2)


def test_the_loss_is_of_the_whole_batch_and_written_once(compared):
    place, *_ = compared
    one, two = (scalars(place / kind / "sfa", "train/loss") for kind in ("one", "two"))
    assert [step for step, _ in two] == [4, 8, 12, 16, 20, 24] == [step for step, _ in one]
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], abs=1e-4)
    assert len(list((place / "two" / "sfa").glob("*tfevents*"))) == 1


def test_equal_weights_are_evaluated_exactly_equally(compared):
    place, *_ = compared
    one, two = (Record.load(place / kind / "still").summary() for kind in ("one", "two"))
    kept = [summary["retention"].pop("measures") for summary in (one, two)]
    assert list(kept[0]) == ["head", *ANYWHERE]
    for name, course in kept[0].items():  # features of other batches differ in their last bits
        assert course["after_task"] == pytest.approx(kept[1][name]["after_task"], abs=1e-6)
    for key in ("task_incremental", "class_incremental", "retention", "representation"):
        assert one[key] == two[key]


@pytest.mark.parametrize("name", ["sfa", "flow", "stream"])
def test_two_processes_take_over_a_run_of_one(compared, name):
    place, _, output = compared
    assert "Resuming after task 2/3, on 2 processes in place of 1." in output
    assert_equal(place / "one" / name, place / "one_two" / name)
    processes = [task.processes for task in Record.load(place / "one_two" / name).tasks]
    assert processes == [1, 1, 2]


@pytest.mark.parametrize("name", ["sfa", "flow", "stream"])
def test_one_process_takes_over_a_run_of_two(compared, name, no_pictures, tmp_path, capsys):
    place, chosen, _ = compared
    folder = tmp_path / "taken"
    shutil.copytree(place / "two" / f"{name}-cut", folder)
    clbench.run(on(chosen[name], 1), folder, resume=True)
    assert "Resuming after task 2/3, on 1 process in place of 2." in capsys.readouterr().out
    assert_equal(place / "one" / name, folder)


@pytest.mark.slow
def test_the_state_of_every_method_is_the_same_on_any_number_of_processes(
    data_dir, tmp_path, no_pictures
):
    # All tasks together are one: there is nothing to take over.
    names = [name for name in METHODS if name not in (*CASES, "multitask")]
    place, chosen, _ = compare(data_dir, tmp_path, names)
    faults = {}
    for name, recipe in chosen.items():
        folder = place / "two_one" / name
        shutil.copytree(place / "two" / f"{name}-cut", folder)
        clbench.run(on(recipe, 1), folder, resume=True)
        for kind in ("two", "one_two", "two_one"):
            try:
                # Of a task's two classes, the biases have opposite gradients: which of them MoFO
                # moves is for rounding to say.
                but = ("fc.bias",) if name == "mofo" else ()
                assert_equal(place / "one" / name, place / kind / name, weights=2e-3, but=but)
            except AssertionError as error:
                faults[name, kind] = str(error)[:300]
        states = [last(place / kind / name)["methods"] for kind in ("one", "two")]
        fault = differs(*states)
        if fault:
            faults[name, "state"] = fault
    assert not faults


def differs(one, other, where=""):
    """Where two states differ by more than rounding; an empty string: nowhere."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{where}: other keys"
        return next(filter(None, (differs(one[k], other[k], f"{where}/{k}") for k in one)), "")
    if isinstance(one, list | tuple):
        return differs(dict(enumerate(one)), dict(enumerate(other)), where)
    if hasattr(one, "float"):
        gap = float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
        scale = float(one.double().abs().max()) if one.numel() else 0.0
        return f"{where}: {gap} of {scale}" if gap > 1e-3 * (1 + scale) else ""
    if isinstance(one, float):
        return "" if one == pytest.approx(other, rel=1e-3, abs=1e-5) else f"{where}: {one} {other}"
    return "" if one == other else f"{where}: {one} {other}"
