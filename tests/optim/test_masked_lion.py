"""Lion, plain and masked, against its paper's Algorithm 2 written out as a loop."""

import pytest
import timm.optim
import torch
from torch import nn

from clbench.optim import MaskedLion
from clbench.optim.settings import LION_BETAS, Optimizer, make_optimizer
from clbench.recipe.recipe import parse


def network():
    torch.manual_seed(0)
    # No bias before BatchNorm: its gradient is rounding, of which Lion takes the sign.
    convolution = nn.Conv2d(3, 6, 3, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 5))


def train(model, optimizer, steps=8):
    for step in range(steps):
        random = torch.Generator().manual_seed(step)
        loss = model(torch.randn(8, 3, 4, 4, generator=random, dtype=dtype(model))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def dtype(model):
    return next(model.parameters()).dtype


class Loop:
    """Algorithm 2 of Lion, tensor by tensor; of each, the entries of largest momentum move."""

    def __init__(self, model, lr, betas, decay, fraction=1.0, everywhere=True):
        self.parameters = list(model.parameters())
        self.momenta = [torch.zeros_like(p) for p in self.parameters]
        self.lr, self.betas, self.decay = lr, betas, decay
        self.fraction, self.everywhere = fraction, everywhere

    def zero_grad(self):
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self):
        one, two = self.betas
        for p, m in zip(self.parameters, self.momenta, strict=True):
            update = torch.sign(one * m + (1 - one) * p.grad)
            m.copy_(two * m + (1 - two) * p.grad)
            count = max(1, int(p.numel() * self.fraction))
            chosen = torch.zeros(p.numel(), dtype=torch.bool)
            chosen[torch.argsort(m.abs().flatten(), descending=True, stable=True)[:count]] = True
            chosen = chosen.view_as(p)
            decayed = chosen | self.everywhere
            p -= self.lr * (update * chosen + self.decay * p * decayed)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_recipes_lion_is_the_papers(decay):
    rules = Optimizer(name="lion", lr=0.003, weight_decay=decay)
    one, other = network().double(), network().double()
    optimizer = make_optimizer(rules, list(one.parameters()))
    assert type(optimizer) is timm.optim.Lion
    found = train(one, optimizer)
    wanted = train(other, Loop(other, 0.003, (0.9, 0.99), decay))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_lion_has_its_own_betas_unless_they_are_given(recipe):
    assert Optimizer(name="lion").betas == LION_BETAS == (0.9, 0.99)
    assert Optimizer(name="lion", betas=(0.95, 0.98)).betas == (0.95, 0.98)
    assert Optimizer(name="adamw").betas == Optimizer().betas == (0.9, 0.999)
    parsed = parse(recipe | {"optimizer": {"name": "lion", "lr": 1e-4}})
    assert parse(parsed.model_dump(mode="json")).optimizer == parsed.optimizer


@pytest.mark.parametrize("fraction", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decay", ["all", "selected"])
def test_masked_lion_against_the_loop(fraction, decay):
    one, other = network().double(), network().double()
    optimizer = MaskedLion(
        one.parameters(), 0.003, weight_decay=0.3, fraction=fraction, decay=decay
    )
    found = train(one, optimizer)
    loop = Loop(other, 0.003, (0.9, 0.99), 0.3, fraction, everywhere=decay == "all")
    for ours, theirs in zip(found, train(other, loop), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    assert optimizer.updated_share == pytest.approx(
        sum(max(1, int(p.numel() * fraction)) for p in found) / sum(p.numel() for p in found)
    )


@pytest.mark.parametrize("select", ["momentum", "gradient", "random"])
def test_as_many_entries_move_as_were_asked_for(select):
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = MaskedLion(model.parameters(), 0.01, fraction=0.25, select=select, seed=3)
    after = train(model, optimizer, steps=1)
    for old, new in zip(before, after, strict=True):
        # Where a gradient is 0, Lion's step is, too.
        assert int((old != new).sum()) <= max(1, old.numel() // 4)
    moved = (before[0] - after[0])[before[0] != after[0]]
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.01), rtol=1e-3, atol=1e-6)


def test_states_go_to_and_fro_with_plain_lion():
    one, other = network(), network()
    plain = timm.optim.Lion(one.parameters(), lr=0.01)
    train(one, plain, steps=3)
    masked = MaskedLion(other.parameters(), lr=0.5, fraction=0.1)
    masked.load_state_dict(plain.state_dict())
    (group,) = masked.param_groups
    assert (group["lr"], group["fraction"]) == (0.01, 0.1)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(plain.state[p]["exp_avg"], masked.state[q]["exp_avg"])
    plain.load_state_dict(masked.state_dict())


@pytest.mark.parametrize("options", [{"lr": -1}, {"betas": (0.9, 1.0)}, {"fraction": 0}])
def test_refuses_wrong_settings(options):
    with pytest.raises(ValueError, match="must be"):
        MaskedLion(network().parameters(), **options)
