import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrize

import clbench.models  # noqa: F401  (registers the tiny backbones)
from clbench.models.reference import frozen_copy
from clbench.weights import snapshot


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_a_reference_computes_with_the_weights_where_they_lie():
    model = timm.create_model("resnet18", num_classes=3).train()
    state = {n: x + 0.01 if x.is_floating_point() else x for n, x in snapshot(model).items()}
    kept = copy.deepcopy(state)
    frozen, images = frozen_copy(model, state, True), torch.randn(2, 3, 32, 32)
    plain = timm.create_model("resnet18", num_classes=3).eval()
    plain.load_state_dict(state)
    torch.testing.assert_close(frozen(images), plain(images), rtol=0, atol=0)
    own = frozen.state_dict()
    assert all(own[name].data_ptr() == x.data_ptr() for name, x in state.items())
    assert not any(p.requires_grad for p in frozen.parameters())
    model(images).sum().backward()
    torch.optim.SGD(model.parameters(), 1.0).step()
    assert all(torch.equal(x, kept[name]) for name, x in state.items())


def test_a_reference_of_a_tied_and_of_a_parametrized_network():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    state = {name: x + 1 for name, x in snapshot(model).items()}
    for shared in (True, False):
        frozen = frozen_copy(model, state, shared)
        assert torch.equal(frozen[1].weight, state["1.weight"])
        assert (frozen[1].weight.data_ptr() == state["1.weight"].data_ptr()) is shared
    parametrize.register_parametrization(model[0], "bias", Doubled(), unsafe=True)
    plain = {"0.bias": torch.ones(3)}
    assert torch.equal(frozen_copy(model, plain, True)[0].bias, torch.full((3,), 2.0))


def test_weights_that_lie_otherwise_are_copied():
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    state = {
        name: x.clone(memory_format=torch.contiguous_format) for name, x in snapshot(model).items()
    }
    frozen = frozen_copy(model, state, True)
    assert frozen.weight.is_contiguous(memory_format=torch.channels_last)
    assert frozen.weight.data_ptr() != state["weight"].data_ptr()
    assert torch.equal(frozen.weight, state["weight"])


def test_weights_of_another_kind_are_not_taken_for_the_network_s():
    model = nn.Linear(3, 4)
    state = {name: x.double() for name, x in snapshot(model).items()}
    assert frozen_copy(model, state, True).weight.dtype == torch.float32
    with pytest.raises(RuntimeError, match="must match"):
        frozen_copy(model, snapshot(nn.Linear(3, 5)), True)
