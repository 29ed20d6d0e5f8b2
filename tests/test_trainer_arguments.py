"""Values of ``trainer:``: each is refused in one line, or a run can be trained with it."""

import inspect
import math

import lightning as L
import pytest
from helpers import RECIPE

from clbench.errors import ClbenchError
from clbench.learner.trainer import make_trainer, quiet
from clbench.recipe.recipe import parse
from clbench.recipe.trainer_arguments import OWNED, RULES
from clbench.runner.meeting import check_processes, meet
from clbench.runner.preflight import preflight
from clbench.runner.runner import run

#: Values that go: for them a Trainer is built, and a step is made.
GOOD = [
    ("accelerator", ["auto", "cpu"]),
    ("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true"]),
    ("devices", [1, "1", 2, "auto"]),
    ("precision", [32, "32", "32-true", "bf16", "bf16-mixed", None]),
    ("log_every_n_steps", [1, 7, None]),
    ("accumulate_grad_batches", [1, 2, 1000]),
    ("gradient_clip_val", [0, 0.0, 1, 0.5, None]),
    ("enable_progress_bar", [True, False, None]),
    ("enable_model_summary", [True, False]),
    ("deterministic", [False, None]),
    ("benchmark", [False, None]),
    ("detect_anomaly", [True, False]),
    ("sync_batchnorm", [True, False]),
    ("profiler", [None, "simple"]),
    ("num_nodes", [1]),
]
#: What nobody can mean, whichever argument it stands for.
ODD = ["", "foo", -3, 1e400, math.nan, -1.5, {}, {"a": 1}, [], [None], [[1]], "1\n2", 10**400]
#: Values that make no sense, by argument.
BAD = [
    ("accelerator", ["tpu", "gpus", 1, None, True, *ODD]),
    ("strategy", ["ddp_x", "ddp_spawn", "fsdp", "deepspeed", "ddp_notebook", None, *ODD]),
    ("devices", [0, "0", -2, 1.5, True, None, "x", [0, 0], ["0"], [True], 10**6, *ODD]),
    ("num_nodes", [0, -1, 1.0, "2", None, True, *ODD]),
    ("precision", [64, "64-true", "16-true", "bf16-true", "transformer-engine", 8, True, *ODD]),
    ("precision", [32.0, "fp32", "bf16_mixed"]),
    ("log_every_n_steps", [0, 2.0, "5", True, *ODD]),
    ("accumulate_grad_batches", [0, 1.5, "2", None, True, {0: 2}, *ODD]),
    ("gradient_clip_val", [-1, "1", True, 1e40, 1e-300, *ODD]),
    ("gradient_clip_algorithm", ["norm", "value", "max", 1, *ODD]),
    ("enable_progress_bar", [0, 1, "no", *ODD]),
    ("enable_model_summary", ["yes", *ODD]),
    ("deterministic", ["maybe", 1, *ODD]),
    ("benchmark", [1, *ODD]),
    ("detect_anomaly", [None, 1, *ODD]),
    ("sync_batchnorm", [None, "true", *ODD]),
    ("profiler", ["none", True, 1, *ODD]),
    *((name, [None, 1, "x"]) for name in OWNED),
    ("devces", [2]),
]


def pairs(table):
    return [(name, value) for name, values in table for value in values]


def recipe(trainer):
    fields = {"model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}}}
    return parse(RECIPE | fields | {"trainer": {"accelerator": "cpu"} | trainer})


def one_line(error):
    return len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 700


@pytest.mark.parametrize(("name", "value"), pairs(BAD), ids=lambda x: repr(x)[:20])
def test_nonsense_is_refused_when_the_recipe_is_read(name, value):
    with pytest.raises(ClbenchError, match=f"^trainer.{name}") as error:
        recipe({name: value})
    assert one_line(error)


@pytest.mark.filterwarnings("ignore:.*historical reasons")
@pytest.mark.parametrize(("name", "value"), pairs(GOOD), ids=lambda x: repr(x)[:20])
def test_what_makes_sense_is_taken_and_trains(name, value, tmp_path):
    quiet()
    made = recipe({name: value})
    preflight(made, tmp_path, make_trainer(made, 1))


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"gradient_clip_algorithm": "value"}, "does nothing without trainer.gradient_clip_val"),
        ({"devices": -1}, "a CPU has no numbered devices"),
        ({"devices": "0,1"}, "a CPU has no numbered devices"),
        ({"accelerator": "auto", "devices": [0, 1]}, "devices = .0, 1.: Lightning refuses it"),
        (
            {"accelerator": "gpu"},
            "trainer.accelerator = 'gpu': Lightning refuses it .*leave it out",
        ),
        ({"accelerator": "mps", "precision": 32}, "trainer.accelerator = 'mps': Lightning"),
        ({"devices": 500}, "devices = 500: that many processes"),
        ({"num_nodes": 2, "strategy": "ddp"}, "num_nodes = 2: .*srun or torchrun"),
        ({"sync_batchnorm": True, "devices": 2}, "sync_batchnorm = True: .*GPUs only"),
    ],
    ids=str,
)
def test_what_cannot_be_here_is_refused_before_it_starts(trainer, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)

    def start():
        made = recipe(trainer)
        check_processes(made, make_trainer(made, 1))

    with pytest.raises(ClbenchError, match=message) as error:
        start()
    assert one_line(error)


def test_too_many_processes_are_refused_before_one_is_started(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(
        "clbench.processes.members.start", lambda count: started.append(count) or []
    )
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ClbenchError, match="devices = 100: that many processes"):
        run(recipe({"devices": 100}), tmp_path / "run")
    assert not started
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["16-mixed", 16])
@pytest.mark.filterwarnings("error:.*AMP with fp16", "error:.*historical")
def test_half_precision_on_a_cpu_is_said_to_be_another_once(precision, capsys):
    meet(recipe({"precision": precision}))
    said = capsys.readouterr()
    assert said.out.count("a CPU has bf16-mixed instead") == 1
    assert not said.err


@pytest.mark.parametrize("hardware", [True, False])
def test_emulated_numbers_are_warned_of(hardware, monkeypatch, capsys):
    monkeypatch.setattr("clbench.runner.meeting.has_bfloat16", lambda _: hardware)
    meet(recipe({"precision": "bf16-mixed"}))
    assert ("only emulates bfloat16" in capsys.readouterr().out) is not hardware


@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_processes_that_share_a_cpu_for_want_of_gpus_are_said_to(asked, monkeypatch, capsys):
    class Met:
        world = 2

        def __init__(self, *_):
            pass

        def close(self):
            pass

    monkeypatch.setattr("clbench.runner.meeting.First", Met)
    monkeypatch.setattr("clbench.runner.meeting._here", None)
    monkeypatch.setattr("clbench.runner.meeting.share_cores", lambda _: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("LOCAL_RANK", "NODE_RANK"):
        monkeypatch.setenv(name, "0")
    meet(recipe({"devices": 2, "accelerator": asked}))
    assert ("no GPU here: 2 processes share" in capsys.readouterr().out) == (asked == "auto")


def test_every_argument_of_the_installed_lightning_is_known():
    """A new one needs a rule, or a reason why clbench has no use for it."""
    assert set(inspect.signature(L.Trainer).parameters) <= OWNED.keys() | RULES.keys()
    assert not OWNED.keys() & RULES.keys()


def test_whatever_lightning_raises_becomes_one_line_that_names_the_argument(monkeypatch):
    build = L.Trainer

    def fails(**arguments):
        if arguments.get("detect_anomaly"):
            raise RuntimeError("no\nanomalies today")
        return build(**arguments)

    made = recipe({"detect_anomaly": True, "accumulate_grad_batches": 2})
    monkeypatch.setattr("clbench.learner.trainer.L.Trainer", fails)
    with pytest.raises(ClbenchError, match=r"^trainer.detect_anomaly = True: .*\(no anomalies to"):
        make_trainer(made, 1)
