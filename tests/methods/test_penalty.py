import pytest
import torch
from helpers import look
from torch import nn

from clbench.methods.penalty import L1, L2, l1_penalty, l2_penalty
from clbench.models.anchors import Anchor
from clbench.weights import snapshot


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double()


def shifted(model):
    """An anchor at some distance, with rows 0 and 1 of the head learned."""
    torch.manual_seed(1)
    state = {name: x + torch.randn_like(x) for name, x in snapshot(model).items()}
    return Anchor(state, torch.tensor([True, True, False, False]))


HEAD = ("2.weight", "2.bias")


def written_out(model, anchor, term):
    """The penalty in plain autograd."""
    total = 0
    for name, weight in model.named_parameters():
        difference = weight - anchor.state[name]
        total = total + term(difference[anchor.learned] if name in HEAD else difference).sum()
    return total


CASES = [
    (L2(strength=0.3), lambda d: 0.15 * d.square()),
    (L1(strength=0.3), lambda d: 0.3 * d.abs()),
]


@pytest.mark.parametrize(("method", "term"), CASES)
def test_value_and_gradient_are_autograds(method, term, fake_context):
    model = network()
    anchor = shifted(model)
    method.start(fake_context(model, anchor, 10, HEAD))
    value, expected = method.penalty(look(model)), written_out(model, anchor, term)
    torch.testing.assert_close(value, expected)
    parameters = list(model.parameters())
    # Scaled, as under gradient accumulation and loss scaling.
    found = torch.autograd.grad(3 * value, parameters)
    wanted = torch.autograd.grad(3 * expected, parameters)
    torch.testing.assert_close(found, wanted)
    for name, gradient in zip(dict(model.named_parameters()), found, strict=True):
        if name in HEAD:
            assert gradient[2:].eq(0).all()


@pytest.mark.parametrize("method", [L1(strength=0.1), L2(strength=0.1)])
def test_frozen_weights_do_not_count(method, fake_context):
    model = network()
    anchor = shifted(model)
    method.start(fake_context(model, anchor, 10, HEAD))
    both = method.penalty(look(model))
    model[0].requires_grad_(False)
    assert 0 < method.penalty(look(model)) < both
    model.requires_grad_(False)
    assert method.penalty(look(model)) is None


@pytest.mark.parametrize("method", [L1(strength=0), L2(strength=0)])
def test_strength_0_is_nothing_at_all(method, fake_context):
    model = network()
    context = fake_context(model, shifted(model), 10, HEAD)
    method.start(context)
    assert method.penalty(look(model)) is None
    method.finish(context)
    assert method.activity() == {"penalty": 0, "gradient_norm": 0, "active": 0}


def test_activity_gives_value_and_gradient_norm(fake_context):
    model, method = network(), L2(strength=0.5)
    anchor = shifted(model)
    context = fake_context(model, anchor, 10, HEAD)
    method.start(context)
    method.penalty(look(model))
    method.finish(context)
    value = written_out(model, anchor, lambda d: 0.25 * d.square()).item()
    # For (λ/2)·d² the gradient's norm is λ·|d|.
    expected = {"penalty": value, "gradient_norm": (2 * 0.5 * value) ** 0.5, "active": 1.0}
    assert method.activity() == pytest.approx(expected)


def test_without_any_effect_it_says_so(fake_context):
    model, method = network(), L2(strength=0.5)
    context = fake_context(model, Anchor(snapshot(model), torch.ones(4).bool()), 10, HEAD)
    method.start(context)
    assert method.penalty(look(model)) == 0
    method.finish(context)
    assert method.activity()["active"] == 0


def test_l2_is_sfa_after_every_step(fake_context):
    """Averaging with β after every step at rate α is ℓ2 at rate η: β = η·λ, α = η/(1 − η·λ)."""
    torch.manual_seed(2)
    eta, strength = 0.1, 0.7
    beta, alpha = eta * strength, eta / (1 - eta * strength)
    inputs, targets = torch.randn(20, 3).double(), torch.randn(20, 4).double()
    averaged, penalised = network(), network()
    anchor = Anchor(snapshot(averaged), torch.ones(4, dtype=torch.bool))
    method = L2(strength=strength, anchor="previous")
    method.start(fake_context(penalised, anchor, 50, HEAD))
    first = torch.optim.SGD(averaged.parameters(), lr=alpha)
    second = torch.optim.SGD(penalised.parameters(), lr=eta)
    for _ in range(50):
        first.zero_grad()
        (averaged(inputs) - targets).square().mean().backward()
        first.step()
        anchor.pull(averaged, beta, HEAD)
        second.zero_grad()
        loss = (penalised(inputs) - targets).square().mean() + method.penalty(look(penalised))
        loss.backward()
        second.step()
    assert anchor.distance(averaged) > 0.1
    for p, q in zip(averaged.parameters(), penalised.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


def test_sfa_matches_the_closed_form_on_a_quadratic():
    """For the loss ½h(θ − m)² ℓ2's minimum is (h·m + λ·θ_o)/(h + λ)."""
    h, m, strength, origin = 2.0, 3.0, 0.5, torch.tensor([1.0], dtype=torch.float64)
    theta = origin.clone().requires_grad_()
    optimizer = torch.optim.SGD([theta], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        (h / 2 * (theta - m).square().sum() + l2_penalty([theta], [origin], strength)).backward()
        optimizer.step()
    assert theta.item() == pytest.approx((h * m + strength * 1.0) / (h + strength), rel=1e-12)


def test_wrong_arguments_are_refused():
    theta = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="strength must be at least 0, got -1"):
        l1_penalty([theta], [theta], -1)
    with pytest.raises(ValueError, match="at least one weight"):
        l2_penalty([], [], 1)
    value = l2_penalty([theta], [torch.ones(2)], 1)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        value.backward()
