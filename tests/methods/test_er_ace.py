"""DER by itself, and ER-ACE: other programs' numbers, and what a run remembers with them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import clbench
from clbench.methods.er_ace import ERACE
from clbench.models.loss import ClassLoss

PEERS = np.load(Path(__file__).parents[1] / "reference" / "er_ace.npz")
CASES = ["present_4_5", "present_5_only", "present_out_of_order"]


class Replaying(ERACE):
    """Given the replayed batch's logits, in place of a network that makes them."""

    def _replayed(self, forward, key):
        return torch.arange(len(self._index)), self._given, 1.0

    _given: torch.Tensor = torch.empty(0)


def compared(classes, smoothing=0.0):
    """What a run gives a method, as far as its losses go."""
    everything = torch.arange(classes)
    losses = ClassLoss("all", everything, everything * 0, everything >= 0, smoothing)
    return SimpleNamespace(losses=losses)


def parts(case, strength=1.0):
    """Logits of new and replayed samples, and the losses of both, by the hooks of the method."""
    logits, labels, replayed, stored = (
        torch.from_numpy(PEERS[f"er_ace/{case}/{name}"])
        for name in ("logits", "labels", "replayed_logits", "stored_labels")
    )
    logits.requires_grad_()
    method = Replaying(strength=strength)
    method._given, method._labels = replayed.requires_grad_(), stored
    method._context = compared(10)
    method._index, method._known = torch.arange(len(stored)), torch.ones(10) > 0
    left_out = method.admit(labels, torch.zeros_like(logits, dtype=torch.bool))
    new = F.cross_entropy(logits.masked_fill(left_out, -torch.inf), labels)
    batch = SimpleNamespace(part=1.0)
    old = method.penalty(SimpleNamespace(step=1, batch=batch, logits_BC=logits))
    return logits, replayed, new, old


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_other_programs(case):
    logits, replayed, new, old = parts(case)
    loss = (new + old) / 2  # Avalanche's
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(PEERS[f"er_ace/{case}/avalanche_loss"]))
    ours = torch.cat([logits.grad, replayed.grad])
    theirs = torch.from_numpy(PEERS[f"er_ace/{case}/avalanche_gradient"])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    _, _, new, old = parts(case, 7 / 3)
    survey = float(PEERS[f"er_ace/{case}/ocl_survey_loss_current0.3_buffer0.7"])
    assert float(0.3 * (new + old).detach()) == pytest.approx(survey)


def test_off_is_off_the_mask_too():
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    assert ERACE(strength=0).admit(torch.tensor([0, 1]), nothing) is nothing
    found = ERACE().admit(torch.tensor([0, 2]), nothing)
    assert found.tolist() == [[False, True, False, True]] * 2


def test_the_mask_is_put_on_what_the_loss_leaves_out():
    owner = torch.tensor([0, 0, 1, 1])
    losses = ClassLoss("task", torch.arange(4), owner, torch.ones(4) > 0)
    labels = torch.tensor([0, 2])
    found = ERACE().admit(labels, losses.left_out(labels))
    assert found.tolist() == [[False, True, True, True], [True, True, False, True]]


def test_stored_samples_are_among_classes_seen():
    method = Replaying()
    method._given = torch.zeros(2, 4)
    method._labels = torch.tensor([0, 1])
    method._index, method._known = torch.arange(2), torch.tensor([True, True, True, False])
    method._context = compared(4)
    look = SimpleNamespace(step=1, batch=SimpleNamespace(part=0.5), logits_BC=torch.zeros(1, 4))
    assert float(method.penalty(look)) == pytest.approx(0.5 * np.log(3))
    # With labels smoothed as the new samples' are.
    method._context, method._given = compared(4, 0.2), torch.tensor([[2.0, 1, 0, 5], [0, 3, 1, 5]])
    wanted = F.cross_entropy(method._given[:, :3], method._labels, label_smoothing=0.2)
    assert float(method.penalty(look)) == pytest.approx(0.5 * float(wanted))


def test_der_is_der_pp_without_labels(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 2}
    weights = []
    for name, fields in (("der", {"size": 30}), ("der_pp", {"size": 30, "beta": 0})):
        record = clbench.run(recipe | {"methods": {name: fields}}, tmp_path / name)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
        assert record.tasks[-1].footprint[name].extra_passes_per_step == 1
    assert all(torch.equal(x, weights[1][n]) for n, x in weights[0].items())


def test_both_remember(recipe, tmp_path, no_pictures):
    recipe |= {"train_logits": "seen", "steps": 12}
    plain = clbench.run(recipe, tmp_path / "plain").summary()
    for name, fields in (("er_ace", {"size": 60}), ("der", {"size": 60, "alpha": 2.0})):
        record = clbench.run(recipe | {"methods": {name: fields}}, tmp_path / name)
        ours, theirs = (one["class_incremental"]["overall_performance"]
                        for one in (record.summary(), plain))  # fmt: skip
        assert ours > theirs + 0.05
        assert record.tasks[-1].footprint[name].stored_samples == 60
