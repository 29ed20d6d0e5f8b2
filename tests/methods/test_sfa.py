import pytest
import torch
from torch import nn

from clbench.anchors import Anchor
from clbench.methods.sfa import SFA, averaging_steps


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
    method = SFA(p=0.3, beta=0.4)
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
    method = SFA(p=1.0, beta=0.5)
    method.start(fake_context(model, Anchor(zeros, learned), 1, ("weight", "bias")))
    method.after_step(model, 1)
    assert torch.equal(model.weight[[1, 3]], before[[1, 3]])
    torch.testing.assert_close(model.weight[[0, 2]].detach(), before[[0, 2]] / 2)


def test_waits_for_start_at(fake_context):
    model = nn.Linear(2, 2)
    zeros = {name: torch.zeros_like(x) for name, x in model.state_dict().items()}
    before = model.weight.detach().clone()
    method = SFA(p=1.0, start_at=2)
    anchor = Anchor(zeros, torch.ones(2, dtype=torch.bool))
    method.start(fake_context(model, anchor, 1, (), task=0))
    method.after_step(model, 1)
    assert torch.equal(model.weight, before)
    assert method.activity()["active"] == 0
    method.start(fake_context(model, anchor, 1, (), task=1))
    method.after_step(model, 1)
    torch.testing.assert_close(model.weight.detach(), before / 2)
    assert method.activity()["active"] == 1
