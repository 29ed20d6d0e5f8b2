import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.sfa import SFA, averaging_steps
from clbench.models.anchors import Anchor
from clbench.recipe.recipe import parse


@pytest.mark.parametrize("total", [1, 7, 50, 100])
@pytest.mark.parametrize("p", [0.01, 0.25, 0.33, 0.5, 0.75, 0.9, 0.96, 0.98, 1.0])
def test_steps_are_the_multiples_of_pT_and_the_end(total, p):
    wanted = {total}
    for k in range(1, round(2 / p) + 1):
        if 1 <= round(k * (p * total)) <= total:
            wanted.add(round(k * (p * total)))
    assert averaging_steps(total, p) == sorted(wanted)


def test_steps_of_the_paper():
    assert averaging_steps(200, 0.25) == [50, 100, 150, 200]
    assert averaging_steps(200, 0.98) == [196, 200]
    assert averaging_steps(10, 0.1) == list(range(1, 11))


@pytest.mark.parametrize("p", [0.0, 1.2, -1])
def test_refuses_p_out_of_range(p):
    with pytest.raises(ValueError, match=r"p must be in \(0, 1\]"):
        averaging_steps(10, p)


def test_algorithm_1_against_a_plain_loop(fake_context):
    """SGD on a quadratic, with the averaging written out."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4).double()
    start = {name: x.clone() for name, x in model.state_dict().items()}
    inputs, targets = torch.randn(20, 3).double(), torch.randn(20, 4).double()
    method = SFA(p=0.3, beta=0.4, start_at=1)
    anchor = Anchor(start, torch.ones(4, dtype=torch.bool))
    method.start(fake_context(model, anchor, total_steps=10, head=("weight", "bias")))
    slow = {name: x.clone().requires_grad_() for name, x in start.items()}
    for step in range(1, 11):
        loss = ((model(inputs) - targets) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
        method.after_step(model, step)

        slow_loss = ((inputs @ slow["weight"].T + slow["bias"] - targets) ** 2).mean()
        gradients = torch.autograd.grad(slow_loss, list(slow.values()))
        with torch.no_grad():
            for (name, x), gradient in zip(slow.items(), gradients, strict=True):
                x -= 0.1 * gradient
                if step in (3, 6, 9, 10):
                    x.copy_(0.4 * start[name] + 0.6 * x)
    for name, x in model.state_dict().items():
        torch.testing.assert_close(x, slow[name].detach(), rtol=1e-12, atol=1e-12)
    assert method.activity()["averages"] == 4
    assert method.activity()["distance_after"] < method.activity()["distance_before"]


def test_rows_the_anchor_never_learned_are_not_diluted(fake_context):
    model = nn.Linear(3, 4)
    before = model.weight.detach().clone()
    zeros = {name: torch.zeros_like(x) for name, x in model.state_dict().items()}
    learned = torch.tensor([True, False, True, False])
    method = SFA(p=1.0, beta=0.5, start_at=1)
    method.start(fake_context(model, Anchor(zeros, learned), 1, ("weight", "bias")))
    method.after_step(model, 1)
    assert torch.equal(model.weight[[1, 3]], before[[1, 3]])
    torch.testing.assert_close(model.weight[[0, 2]].detach(), before[[0, 2]] / 2)


def test_averages_nothing_in_the_first_task_unless_told_to(fake_context):
    model = nn.Linear(2, 2)
    zeros = {name: torch.zeros_like(x) for name, x in model.state_dict().items()}
    before = model.weight.detach().clone()
    method = SFA(p=1.0)
    anchor = Anchor(zeros, torch.ones(2, dtype=torch.bool))
    method.start(fake_context(model, anchor, 1, (), task=0))
    method.after_step(model, 1)
    assert torch.equal(model.weight, before)
    assert method.activity()["active"] == 0
    method.start(fake_context(model, anchor, 1, (), task=1))
    method.after_step(model, 1)
    torch.testing.assert_close(model.weight.detach(), before / 2)
    assert method.activity()["active"] == 1
    method = SFA(p=1.0, start_at=1)
    method.start(fake_context(model, anchor, 1, (), task=0))
    method.after_step(model, 1)
    torch.testing.assert_close(model.weight.detach(), before / 4)


def test_algorithm_1_to_the_letter_averages_new_rows_of_the_head(fake_context):
    """All of θ, against the formula; without it, rows that θ_o never learned stay."""
    torch.manual_seed(0)
    anchor = nn.Linear(3, 4).state_dict()
    learned = torch.tensor([True, False, True, False])
    for new_rows, averaged in (("average", torch.ones(4) > 0), ("keep", learned)):
        model = nn.Linear(3, 4)
        before = {name: x.clone() for name, x in model.state_dict().items()}
        method = SFA(p=1.0, beta=0.25, new_rows=new_rows)
        head = ("weight", "bias")
        method.start(fake_context(model, Anchor(anchor, learned), 1, head, task=1))
        method.after_step(model, 1)
        for name, x in model.state_dict().items():
            mean = 0.25 * anchor[name] + 0.75 * before[name]
            torch.testing.assert_close(x[averaged], mean[averaged])
            assert torch.equal(x[~averaged], before[name][~averaged])
        assert method.activity()["averaged_head_rows"] == averaged.sum()
    assert torch.equal(learned, torch.tensor([True, False, True, False]))


@pytest.mark.parametrize("settings", [{}, {"start_at": 1}, {"new_rows": "average"}], ids=str)
def test_p_1_is_wise_ft_with_the_previous_weights_bit_for_bit(
    recipe, tmp_path, no_pictures, settings
):
    sfa = {"sfa": {"p": 1.0, "beta": 0.25} | settings}
    wise = {"wise_ft": {"alpha": 0.75, "anchor": "previous", "carry_on": True} | settings}
    records = []
    for name, methods in (("sfa", sfa), ("wise", wise)):
        records.append(clbench.run(recipe | {"methods": methods}, tmp_path / name))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("sfa", "wise"))
    assert all(torch.equal(x, other[name]) for name, x in one.items())
    for first, second in zip(records[0].tasks, records[1].tasks, strict=True):
        assert first.task_incremental == second.task_incremental
        rows = [first.methods["sfa"], second.methods["wise_ft"]]
        assert rows[0]["averaged_head_rows"] == rows[1]["averaged_head_rows"]
        acted = first.task > 0 or settings == {"start_at": 1}
        assert rows[0]["active"] == rows[1]["active"] == acted
    told = records[0].run.methods["sfa"]
    assert told == {"p": 1.0, "beta": 0.25, "start_at": 2, "new_rows": "keep"} | settings


@pytest.mark.parametrize("name", ["sfa", "wise_ft"])
def test_independent_tasks_have_no_previous_weights(name):
    settings = {"anchor": "previous"} if name == "wise_ft" else {}
    base = {
        "stream": {"name": "transfer6", "independent": True},
        "model": {"backbone": "tiny_cnn", "weights": "none"},
        "steps": 1,
    }
    with pytest.raises(ClbenchError, match=rf"methods.{name}.start_at: 1") as caught:
        parse(base | {"methods": {name: settings}})
    assert "\n" not in str(caught.value)
    parse(base | {"methods": {name: settings | {"start_at": 1}}})


@pytest.mark.parametrize("name", ["sfa", "wise_ft"])
def test_the_one_stage_of_multitask_training_has_none_before_it(recipe, name):
    settings = {"anchor": "previous"} if name == "wise_ft" else {}
    recipe["methods"] = {"multitask": {}, name: settings}
    with pytest.raises(ClbenchError, match=f"methods.{name}.start_at: 1 averages with the pretrai"):
        parse(recipe)
    recipe["methods"][name] = settings | {"start_at": 1}
    assert parse(recipe).methods[name].first_task == 1
