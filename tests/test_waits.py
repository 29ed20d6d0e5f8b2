"""No step waits for the device more than it must, which a CPU tells already."""

import copy
import importlib.util
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import RECIPE
from methods.test_all import NETWORK, SETTINGS, SMALL
from test_learner import (
    fit,
    make,  # noqa: F401  (a fixture)
)

from clbench.data.sending import sent
from clbench.methods import METHODS
from clbench.methods.base import Method, overriding
from clbench.methods.together import IN_TRAINING
from clbench.recipe.recipe import parse
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run

_FILE = Path(__file__).parents[1] / "benchmarks" / "waits.py"
_SPEC = importlib.util.spec_from_file_location("waits", _FILE)
waits = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(waits)

#: What a step of plain fine-tuning asks for: on a CPU, whether its loss is finite.
PLAIN = Counter({"numbers read": 1})
#: Not on a GPU: there a factor of 1 is multiplied by instead of looked at (`penalty._Attach`).
FACTOR = {"numbers read": 1}
#: What methods may ask for more in a step. Places that are drawn, and the guard of past data, are
#: on the CPU anyway. A reservoir is, too: what it takes in of a batch is waited for.
MORE = {
    **dict.fromkeys(("l1", "l2", "ewc", "ewc_merge", "si", "mas", "rwalk"), FACTOR),
    "l2_sp": {"numbers read": 2},  # two penalties
    "der": {"copies back": 4, "numbers read": 1},  # index, labels, logits; places
    "der_pp": {"copies back": 4, "numbers read": 2},  # two batches of it
    "er_ace": {"copies back": 3, "numbers read": 5},  # one_hot checks labels, on a CPU alone
    "agem": {"numbers read": 3},  # whether to project, and the guard of past data
    # Whether to project, and by what: a quadratic program of a row for each task. The memory's
    # parts pass the guard of past data.
    "gem": {"numbers read": 7, "copies back": 4},
    # Not on a GPU: torch's fused AdamW reads steps, and NumPy selects.
    "mofo": {"numbers read": 11, "copies back": 44},
}


def acting():
    """Plain fine-tuning, and methods that do something in a step."""
    hooks = {*IN_TRAINING, "adapt"} - {"trainable", "rows", "rate"}
    made = {name: method.model_construct() for name, method in METHODS.items()}
    return ["sequential", *(n for n, m in made.items() if any(overriding([m], h) for h in hooks))]


@pytest.mark.parametrize("name", acting())
def test_a_step_asks_for_no_more_than_that_of_plain_fine_tuning(data_dir, tmp_path, name):
    recipe = copy.deepcopy(RECIPE) | copy.deepcopy(SMALL) | {"data_dir": str(data_dir)}
    recipe |= {"model": NETWORK.get(name, recipe["model"]), "steps": 2}
    recipe |= {"methods": {name: SETTINGS.get(name, {})}, "per_task": {"6, 7": {"steps": 10}}}
    recipe["optimizer"] = {"name": (METHODS[name].optimizers or ("sgd",))[0], "lr": 1e-3}
    recipe["trainer"] = recipe["trainer"] | {"log_every_n_steps": 100}
    # Of ten steps, those whose gradients are not looked at for the scope.
    with waits.counting(1, (3, 7)) as found:
        run = Run(Setup.of(parse(recipe), tmp_path), tmp_path)
        run.learn(run.setup.stages)
    allowed = PLAIN + Counter(MORE.get(name, {}))
    assert not found - (allowed + allowed)
    assert found["numbers read"] or not run.recorder.record.tasks[1].steps


class Nosy(Method):
    """Asks what it need not know."""

    summary = "test"
    how: object

    def observe(self, forward):
        self.how(forward.losses_B)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (lambda x_B: x_B.mean().item(), "numbers read"),
        (lambda x_B: float(x_B[0]), "numbers read"),
        (lambda x_B: x_B.max() if x_B.any() else None, "numbers read"),
        (lambda x_B: x_B[x_B > 0], "sizes read"),
        (lambda x_B: (x_B > 0).nonzero(), "sizes read"),
        (lambda x_B: x_B.unique(), "sizes read"),
        (lambda x_B: x_B.tolist(), "copies back"),
        (lambda x_B: x_B.cpu(), "copies back"),
        (lambda x_B: torch.tensor([1.0], device=x_B.device), "plain copies"),
        (lambda x_B: torch.ones(2).to(x_B.device), "plain copies"),
        (lambda x_B: sent(torch.ones(2), x_B.device), None),
        (lambda x_B: x_B.square().mean(), None),
    ],
)
def test_what_a_method_asks_of_its_tensors_is_counted(make, how, kind):  # noqa: F811
    learner, batches = make([Nosy(how=how)], steps=3)
    with waits.counting(1, (2,)) as found:
        fit(learner, batches)
    more = found - PLAIN
    more.subtract({"numbers read": found["numbers read"] > 1 and kind != "numbers read"})
    assert set(+more) == ({kind} if kind else set())


def test_events_of_a_gpu_are_told_apart():
    names = [
        *("aten::item", "aten::_local_scalar_dense", "Memcpy DtoH (Device -> Pageable)"),
        *("cudaStreamSynchronize", "cudaMemcpyAsync", "cudaLaunchKernel", "aten::nonzero"),
        *("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pageable -> Device)"),
        *("cudaStreamSynchronize", "Memcpy DtoD (Device -> Device)", "aten::mm"),
    ]
    found = waits.count(SimpleNamespace(name=name) for name in names)
    assert found == {
        "numbers read": 1,
        "sizes read": 1,
        "copies back": 1,
        "plain copies": 1,
        "waits": 2,
    }


def test_what_is_sent_to_a_gpu_is_pinned_and_not_waited_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: asked.append("pinned") or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *to, **how: asked.append((*to, how)) or x)
    tensor, gpu = torch.ones(2), torch.device("cuda", 0)
    sent(tensor, gpu)
    assert asked == ["pinned", (gpu, {"non_blocking": True})]
    assert sent(tensor, torch.device("cpu")) is tensor
