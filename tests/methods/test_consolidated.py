"""SI, MAS and RWalk: other programs' numbers, step by step, and what a run keeps with them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.base import Context
from clbench.methods.mas import sensitivity
from clbench.methods.rwalk import RWalk, scaled_sum
from clbench.methods.si import SI, path_importance
from clbench.models.anchors import Anchor, Anchors
from clbench.recipe.recipe import parse
from clbench.weights import snapshot

PEERS = np.load(Path(__file__).parents[1] / "reference" / "importance.npz")
HEAD = ("2.weight", "2.bias")


def peer(name):
    return torch.from_numpy(PEERS[name])


def network():
    inputs, hidden, outputs = PEERS["data/sizes"].tolist()
    model = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, outputs))
    put(model.double(), peer("data/initial_parameters"))
    return model


def put(model, flat):
    nn.utils.vector_to_parameters(flat, model.parameters())


def flat(state, model):
    return torch.cat([state[name].flatten() for name, _ in model.named_parameters()])


def context(model):
    anchor = Anchor(snapshot(model), torch.ones(3, dtype=torch.bool))
    return Context(
        task=SimpleNamespace(classes=range(3)),
        model=model,
        head=HEAD,
        anchors=Anchors(anchor, anchor),
        total_steps=10,
        reader=None,
        losses=None,
        seed=0,
        batch_size=1,
    )


def trained(method, tasks=2):
    """The two tasks of the other programs, by plain SGD: weights after each step, and Ω."""
    model, rate, size = network(), float(PEERS["data/lr"]), int(PEERS["data/batch"])
    optimizer = torch.optim.SGD(model.parameters(), rate)
    after, penalties, importance = [], [], []
    for task in range(tasks):
        x, y = peer("data/x")[task], peer("data/y")[task]
        about = context(model)
        method.start(about)
        for step in range(10):
            rows = torch.arange(step * size, (step + 1) * size) % len(x)
            loss = F.cross_entropy(model(x[rows]), y[rows])
            penalty = method.penalty(SimpleNamespace(model=model))
            penalties.append(0.0 if penalty is None else float(penalty.detach()))
            optimizer.zero_grad()
            (loss if penalty is None else loss + penalty).backward()
            method.project(model)
            optimizer.step()
            method.after_step(model, step + 1)
            after.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone())
        method.finish(about)
        importance.append(flat(method._importance, model))
    return model, torch.stack(after), penalties, importance


def test_si_takes_the_steps_of_a_public_program():
    name = "si/gt_ripl/coef0.7_damping0.1"
    _, after, _, importance = trained(SI(strength=0.7, xi=0.1))
    torch.testing.assert_close(after, peer(f"{name}/parameters_after"), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(importance, peer(f"{name}/importance"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("xi", ["0.1", "0.001"])
def test_si_s_importance_is_mammoth_s(xi):
    name = f"si/mammoth/c0.5_xi{xi}"
    before, after, gradient, wanted = (
        peer(f"{name}/{part}")
        for part in ("parameters_before", "parameters_after", "task_gradient", "big_omega")
    )
    total = 0.0
    for task in range(2):
        steps = slice(10 * task, 10 * task + 10)
        omega = -(gradient[steps] * (after[steps] - before[steps])).sum(0)
        moved = after[steps][-1] - before[steps][0]
        total = total + path_importance(omega, moved, float(xi))
        torch.testing.assert_close(total, wanted[task], rtol=1e-9, atol=1e-12)


def test_what_raised_the_loss_can_be_dropped():
    _, _, _, keep = trained(SI(strength=0.7), tasks=1)
    _, _, _, drop = trained(SI(strength=0.7, negative="drop"), tasks=1)
    made_up = SI(negative="drop")
    model = network()
    made_up.start(context(model))
    made_up._omega = {name: -torch.ones_like(p) for name, p in model.named_parameters()}
    assert not any(x.any() for x in made_up._matters(context(model)).values())
    torch.testing.assert_close(drop[0], keep[0].clamp(min=0))


@pytest.mark.parametrize("program", ["avalanche", "gt_ripl"])
def test_mas_is_what_public_programs_have_for_single_samples(program):
    model, x = network(), peer("data/x")[0]
    put(model, peer("mas/gt_ripl/parameters"))
    wanted = peer(f"mas/{program}/importance_task0_batch1")
    # GT-RIPL's is a mean over outputs, too.
    times = 1 / 3 if program == "gt_ripl" else 1.0
    for size in (1, 7, 30):  # batches do not matter
        found = flat(sensitivity(model, x.split(size)), model)
        torch.testing.assert_close(times * found, wanted, rtol=1e-9, atol=1e-12)


def test_mas_looks_at_chosen_outputs_of_each_sample():
    model, x = network(), peer("data/x")[0][:3]
    found = flat(sensitivity(model, [x], torch.tensor([True, False, True])), model)
    total = 0.0
    for one in x:
        model.zero_grad()
        model(one[None])[:, [0, 2]].square().sum().backward()
        total = total + torch.cat([p.grad.abs().flatten() for p in model.parameters()])
    torch.testing.assert_close(found, total / 3)
    with pytest.raises(ValueError, match="no samples"):
        sensitivity(model, [])


def test_rwalk_takes_the_steps_of_avalanche():
    name = "rwalk/avalanche/lambda0.1_alpha0.9_delta5"
    method = RWalk(strength=0.1, alpha=0.9, every=5)
    model, after, penalties, importance = trained(method)
    # ε decides where a weight hardly moved: scores are right to about a hundred-millionth.
    torch.testing.assert_close(after, peer(f"{name}/parameters_after"), rtol=1e-6, atol=1e-9)
    assert penalties == pytest.approx(peer(f"{name}/penalty").tolist(), rel=1e-6, abs=1e-9)
    for ours, theirs in zip(importance, peer(f"{name}/penalties"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    for ours, part in ((method._fisher, "importance"), (method._scores, "scores")):
        theirs = peer(f"{name}/{part}")[1]
        torch.testing.assert_close(flat(ours, model), theirs, rtol=1e-6, atol=1e-9)


def test_rwalk_s_parts_are_scaled_over_all_weights():
    fisher = {"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([2.0])}
    scores = {"a": torch.tensor([-3.0, 1.0]), "b": torch.tensor([2.0])}
    found = scaled_sum(fisher, scores)
    assert found["a"].tolist() == [0.25, 1.5]
    assert found["b"].tolist() == [1.5]
    nothing = {name: torch.zeros_like(x) for name, x in scores.items()}
    assert scaled_sum(fisher, nothing)["a"].tolist() == [0.25, 1.0]


def test_steps_that_are_left_over_count():
    """Seven steps with a look at every five: the last two are looked at when the task ends."""
    method, model = RWalk(every=5), network()
    about = context(model)
    method.start(about)
    for step in range(1, 8):
        before = snapshot(model)
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        method.project(model)
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.1
        method.after_step(model, step)
        back = before["0.bias"] - model[0].bias.detach()
        assert torch.equal(method._before["0.bias"], back)
    found = method._matters(about)["0.bias"]
    wanted = 0.5 / (0.5 * 0.5**2) + 0.2 / (0.5 * 0.2**2)
    torch.testing.assert_close(found, torch.full_like(found, wanted))


@pytest.mark.parametrize(
    ("name", "fields", "mild", "strong"),
    [
        ("si", {"negative": "drop"}, 2.0, 50.0),
        ("mas", {}, 0.003, 0.3),
        ("rwalk", {"every": 5}, 1.0, 10.0),
    ],
)
def test_a_run_forgets_less_and_says_what_it_did(
    recipe, tmp_path, no_pictures, name, fields, mild, strong
):
    """Strong forgets less on any processor; where all logits train it diverges, so that is mild."""

    def ran(strength, logits):
        methods = {name: fields | {"strength": strength}}
        values = recipe | {"methods": methods, "train_logits": logits}
        return clbench.run(values, tmp_path / logits)

    recipe |= {"steps": 20}
    plain = clbench.run(recipe, tmp_path / "plain").summary()
    every, record = ran(mild, "all"), ran(strong, "task")
    ours, theirs = (one["task_incremental"]["backward_transfer"]
                    for one in (record.summary(), plain))  # fmt: skip
    assert ours > theirs
    told = [event.methods[name] for event in record.tasks]
    assert [one["active"] for one in told] == [0, 1, 1]
    assert told[2]["penalty"] > 0
    assert 0 < told[2]["scope"] <= 1
    assert every.summary()["footprint"]["data_oblivious"]


def test_ways_of_factors_cannot_be_followed(recipe):
    for name in ("si", "rwalk"):
        with pytest.raises(ClbenchError, match="ewc and mas go with it"):
            parse(recipe | {"methods": {name: {}, "lora": {}}})
    parse(recipe | {"methods": {"mas": {}, "lora": {}}})


def test_rows_that_no_task_has_learned_do_not_matter():
    method, model = METHODS["si"](), network()
    about = context(model)
    about.anchors.previous.learned[:] = False
    about.task.classes = range(1)
    method.start(about)
    method._omega = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    method.finish(about)
    assert method._importance["2.weight"][0].all()
    assert not method._importance["2.weight"][1:].any()
    assert method._importance["0.weight"].all()
