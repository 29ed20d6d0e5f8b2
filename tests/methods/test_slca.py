"""SLCA in two: the slow trunk by its definition, alignment by PILOT's numbers, and in runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import clbench
from clbench.errors import ClbenchError
from clbench.methods.align_head import AlignHead, align, at_one_length, gaussian
from clbench.recipe.recipe import parse

PEERS = np.load(Path(__file__).parents[1] / "reference" / "slca.npz")
CASES = ["equal/logit_norm0.1", "equal/plain", "unequal/logit_norm0.1"]


def peer(case, name):
    return torch.from_numpy(PEERS[f"{case}/{name}"])


def groups_of(case):
    sizes = peer(case, "task_sizes").tolist()
    return list(torch.arange(sum(sizes)).split(sizes))


def head_of(case, name):
    tasks = range(len(groups_of(case)))
    return [torch.cat([peer(case, f"{name}/heads.{t}.{leaf}") for t in tasks])
            for leaf in ("weight", "bias")]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_gaussians_are_pilot_s(case):
    for label in range(len(torch.cat(groups_of(case)))):
        mean, covariance = gaussian(peer(case, f"features_class{label}"))
        torch.testing.assert_close(mean, peer(case, "class_means")[label])
        theirs = peer(case, "class_covariances")[label].double()
        torch.testing.assert_close(covariance, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_three_steps_are_pilot_s(case):
    temperature = None if case.endswith("plain") else 0.1
    groups, (rate, momentum, decay) = groups_of(case), peer(case, "hyper").tolist()
    batches = [(peer(case, f"step{n}/inputs"), peer(case, f"step{n}/targets")) for n in range(3)]
    for number, (inputs, targets) in enumerate(batches):
        logits = F.linear(inputs, *head_of(case, f"step{number}/head_before"))
        if temperature:
            logits = at_one_length(logits, groups, temperature)
        wanted = peer(case, f"step{number}/scaled_logits")
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
        loss = F.cross_entropy(logits, targets)
        torch.testing.assert_close(loss, peer(case, f"step{number}/loss"), rtol=1e-4, atol=0)
    start = head_of(case, "step0/head_before")
    found = align(start, [(rate, batches)], groups, temperature, momentum, decay)
    for ours, theirs in zip(found, head_of(case, "head_after_step2"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def remembered(tasks, samples=20_000, **fields):
    """Alignment that remembers classes of two features, and the draws of its first epoch."""
    from types import SimpleNamespace

    count = len(tasks)
    means = torch.arange(2.0 * count).reshape(count, 2) + 1
    roots = torch.tensor([[2.0, 0.0], [1.0, 0.5]]).expand(count, 2, 2)
    method = AlignHead(samples=samples, epochs=2, **fields)
    labels = torch.arange(count)
    method._memory = {"labels": labels, "tasks": torch.tensor(tasks), "means": means,
                      "roots": roots}  # fmt: skip
    context = SimpleNamespace(seed=0, device=torch.device("cpu"))
    rate, batches = next(iter(method._epochs(context, labels)))
    drawn, rows = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return means, rate, [drawn[rows == label] for label in labels]


def test_draws_have_the_class_s_covariance_and_a_mean_that_shrinks_with_age():
    means, rate, drawn = remembered([1, 1, 1, 2, 2])  # tasks of unequal size
    assert rate == 0.01
    for mean, part, factor in zip(means, drawn, [0.95, 0.95, 0.95, 1, 1], strict=True):
        torch.testing.assert_close(part.mean(0), factor * mean, rtol=0, atol=0.1)
        wanted = torch.tensor([[4.0, 2.0], [2.0, 1.25]])
        torch.testing.assert_close(part.T.cov(), wanted, rtol=0.1, atol=0)
    # With equal tasks the factors are PILOT's.
    theirs = peer(CASES[0], "sampling_means") / peer(CASES[0], "class_means")
    means, _, drawn = remembered([1, 1, 2, 2])
    ours = torch.stack([part.mean(0) for part in drawn]) / means
    torch.testing.assert_close(ours.mean(1), theirs.mean(1).float(), rtol=0, atol=0.03)


def test_one_sample_makes_a_gaussian():
    mean, covariance = gaussian(torch.ones(1, 3, dtype=torch.float64))
    assert mean.tolist() == [1, 1, 1]
    torch.testing.assert_close(covariance, 1e-4 * torch.eye(3, dtype=torch.float64))


def ran(recipe, folder, methods):
    record = clbench.run(recipe | {"methods": methods}, folder)
    return record, load_file(folder / "model.safetensors")


def test_a_step_of_the_trunk_is_that_much_shorter(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"first_tasks": 1}
    recipe |= {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.5}}
    _, start = ran(recipe | {"optimizer": {"name": "sgd", "lr": 1e-30}}, tmp_path / "start", {})
    _, plain = ran(recipe, tmp_path / "plain", {})
    record, slow = ran(recipe, tmp_path / "slow", {"slow_trunk": {"factor": 0.25}})
    assert torch.equal(slow["fc.weight"], plain["fc.weight"])
    for name in ("conv1.weight", "norm3.bias"):
        theirs = 0.25 * (plain[name] - start[name])
        assert theirs.abs().max() > 1e-5
        torch.testing.assert_close(slow[name] - start[name], theirs, rtol=1e-3, atol=1e-6)
    assert record.tasks[0].methods["slow_trunk"]["scope"] == 0.75


@pytest.mark.parametrize("beside", [{}, {"replay": {"fraction": 0.2}}, {"sfa": {"p": 0.5}}])
def test_alignment_lifts_what_is_told_apart_and_is_not_carried_on(
    recipe, tmp_path, no_pictures, beside
):
    recipe |= {"steps": 20, "train_logits": "task"}
    plain, _ = ran(recipe, tmp_path / "plain", beside)
    record, weights = ran(recipe, tmp_path / "aligned", beside | {"align_head": {}})
    ours, theirs = (one.summary()["class_incremental"]["overall_performance"]
                    for one in (record, plain))  # fmt: skip
    assert ours > theirs + 0.03
    told = [event.methods["align_head"] for event in record.tasks]
    assert [one["active"] for one in told] == [0, 1, 1]
    assert [e.loss for e in record.tasks] == [e.loss for e in plain.tasks]  # not carried on
    assert record.tasks[0].class_incremental == plain.tasks[0].class_incremental
    assert record.tasks[-1].footprint["align_head"].stored_samples == 0
    width = weights["fc.weight"].shape[1]
    stored = 6 * (8 + 8 + 4 * width + 4 * width**2)
    assert record.tasks[-1].footprint["align_head"].stored_bytes == stored


def test_a_finished_run_is_aligned_by_a_sweep(recipe, tmp_path, no_pictures):
    from clbench.sweep import sweep

    recipe |= {"steps": 10, "checkpoints": "all"}
    ran(recipe, tmp_path / "plain", {})
    rows = sweep(tmp_path / "plain", "epochs", [0, 2], by="class_incremental").rows
    record, _ = ran(recipe, tmp_path / "aligned", {"align_head": {"epochs": 2}})
    wanted = record.summary()["class_incremental"]["overall_performance"]
    assert rows[1].overall_performance["class_incremental"] == wanted
    assert rows[0].overall_performance["class_incremental"] != wanted


def test_what_makes_no_sense_beside_it(recipe):
    for name in ("ncm", "slda", "ranpac", "fecam", "aper"):
        with pytest.raises(ClbenchError, match="statistics of all classes already"):
            parse(recipe | {"methods": {name: {}, "align_head": {}}})
    with pytest.raises(ClbenchError, match="has no rate to lower"):
        parse(recipe | {"methods": {"linear_probe": {}, "slow_trunk": {}}})
