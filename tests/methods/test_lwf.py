"""LwF: other programs' numbers, and what a run keeps with it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import clbench
from clbench.methods.lwf import LwF, distillation

PEERS = np.load(Path(__file__).parents[1] / "reference" / "distillation.npz")
NEW, OLD = (torch.from_numpy(PEERS[f"lwf/{name}_logits"]) for name in ("new", "old"))
KNOWN = torch.arange(int(PEERS["lwf/old_classes"]))


@pytest.mark.parametrize(("temperature", "strength"), [(2.0, 0.5), (2.0, 3.0), (1.0, 3.0)])
def test_value_and_gradient_are_those_of_other_programs(temperature, strength):
    new = NEW.clone().requires_grad_()
    loss = strength * distillation(new, OLD, temperature, [KNOWN]).mean()
    loss.backward()
    name = f"lwf/T{temperature:g}_alpha{strength:g}"
    assert float(loss.detach()) == pytest.approx(float(PEERS[f"{name}/avalanche_loss"]))
    for program in ("avalanche", "mammoth", "pycil"):
        theirs = torch.from_numpy(PEERS[f"{name}/{program}_gradient"])
        torch.testing.assert_close(new.grad, theirs, rtol=1e-6, atol=1e-9)
    # The paper's cross-entropy is larger by the entropy of the old network's answers.
    old = F.softmax(OLD[:, KNOWN] / temperature, 1)
    entropy = -(old * old.log()).sum(1).mean()
    wanted = float(PEERS[f"{name}/mammoth_loss"])
    assert float(loss.detach() + strength * entropy) == pytest.approx(wanted)


def test_each_old_task_has_a_softmax_of_its_own():
    groups = [torch.tensor([0, 1]), torch.tensor([2, 3, 4, 5])]
    apart = sum(distillation(NEW, OLD, 2.0, [group]) for group in groups)
    torch.testing.assert_close(distillation(NEW, OLD, 2.0, groups), apart)
    assert not torch.allclose(apart, distillation(NEW, OLD, 2.0, [KNOWN]))


def test_what_is_remembered_pulls_nowhere():
    same = OLD.clone().requires_grad_()
    loss = distillation(same, OLD, 2.0, [KNOWN]).sum()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert float(same.grad.abs().max()) < 1e-12


@pytest.mark.parametrize(("shared", "moving"), [(False, [1, 1, 0, 0]), (True, [1, 1, 1, 0])])
def test_rows_of_earlier_tasks_move(shared, moving):
    previous = SimpleNamespace(learned=torch.tensor([1, 1, 1, 0]).bool())
    about = SimpleNamespace(
        anchors=SimpleNamespace(previous=previous),
        device="cpu",
        shared=shared,
        task=SimpleNamespace(classes=range(2, 4)),
    )
    method = LwF()
    assert method.rows(about) is None  # the first task
    method._old = nn.Linear(1, 1)
    assert method.rows(about).tolist() == torch.tensor(moving).bool().tolist()


@pytest.mark.parametrize("among", ["task", "all"])
def test_lwf_keeps_earlier_tasks(recipe, tmp_path, no_pictures, among):
    recipe |= {"train_logits": "task" if among == "task" else "seen", "steps": 20}
    plain = clbench.run(recipe, tmp_path / "plain").summary()
    fields = {"strength": 4.0, "among": among}
    record = clbench.run(recipe | {"methods": {"lwf": fields}}, tmp_path / "lwf")
    runs = (record.summary(), plain)
    ours, theirs = (one["task_incremental"]["backward_transfer"] for one in runs)
    assert ours > theirs + 0.02
    told = [event.methods["lwf"] for event in record.tasks]
    assert [one["active"] for one in told] == [0, 1, 1]
    assert told[2]["divergence"] > 0
