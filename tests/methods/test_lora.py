import copy
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from clbench.errors import ClbenchError
from clbench.methods.kinds import LOW_RANK
from clbench.methods.lora import LoRA, freedom
from clbench.models import head_names, tiny  # noqa: F401  (registers the tiny backbones)
from clbench.recipe.recipe import parse
from clbench.weights import snapshot

BACKBONES = [
    ("resnet18", 32),
    ("resnext50_32x4d", 32),  # grouped convolutions
    ("mobilenetv2_050", 32),  # depthwise convolutions
    ("vit_tiny_patch16_224", 224),
    ("tiny_vit", 32),
    ("tiny_cnn", 32),
]


def make(name="tiny_cnn"):
    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=5)


def adapted(model, **fields):
    """The changed copy as the runner trains it, and its method."""
    method = LoRA(**fields)
    changed = method.surgery(model)
    method.start(SimpleNamespace(head=head_names(model)))
    for name, parameter in changed.named_parameters():
        parameter.requires_grad_(method.trainable(name))
    return method, changed


def shake(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


@pytest.mark.parametrize(("name", "size"), BACKBONES)
def test_merged_is_unmerged(name, size):
    model = make(name).eval()
    before = snapshot(model)
    images = torch.randn(2, 3, size, size)
    expected = model(images)
    method, changed = adapted(model, rank=4)
    changed.eval()
    assert torch.equal(changed(images), expected)  # B = 0
    shake(changed)
    unmerged = changed(images)
    assert not torch.allclose(unmerged, expected)
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())
    merged = method.unwrap(snapshot(changed, "cpu"))
    assert merged.keys() == before.keys()
    model.load_state_dict(merged)
    torch.testing.assert_close(model(images), unmerged, rtol=1e-5, atol=1e-5)
    activity = method.activity()
    assert activity["active"] == 1
    assert activity["update_norm"] > 0


def test_only_factors_and_head_are_trained():
    _, changed = adapted(make("resnet18"), rank=2)
    trained = {n for n, p in changed.named_parameters() if p.requires_grad}
    assert {"fc.weight", "fc.bias"} <= trained
    assert all(n.endswith((".A", ".B")) for n in trained - {"fc.weight", "fc.bias"})
    convolutions = [m for m in changed.modules() if isinstance(m, nn.Conv2d)]
    assert len(trained) == 2 + 2 * len(convolutions)
    assert changed.get_submodule("conv1").parametrizations.weight[0].A.shape == (2, 3 * 7 * 7)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_freedom_is_the_rank_of_the_jacobian(rank):
    up, down = torch.randn(5, rank).double(), torch.randn(rank, 7).double()
    jacobians = torch.autograd.functional.jacobian(torch.matmul, (up, down))
    moved = torch.cat([j.reshape(35, -1) for j in jacobians], dim=1)
    assert freedom(5, 7, rank) == int(torch.linalg.matrix_rank(moved))


@pytest.mark.parametrize("rank", [1, 3, 10_000])
def test_its_scope_is_the_share_of_directions_that_its_rank_leaves_out(rank):
    model = make("tiny_vit")
    method, changed = adapted(model, rank=rank, targets=("*.attn.qkv",))
    method.unwrap(snapshot(changed, "cpu"))
    rows, columns = model.get_submodule("blocks.0.attn.qkv").weight.shape
    left = 1 - freedom(rows, columns, min(rank, rows, columns)) / (rows * columns)
    assert method.activity()["scope"] == pytest.approx(left)
    assert (left == 0) == (rank == 10_000)


def test_updates_have_the_rank():
    model = make("tiny_vit")
    method, changed = adapted(model, rank=3, targets=("*.attn.qkv",))
    shake(changed)
    merged, before = method.unwrap(snapshot(changed, "cpu")), model.state_dict()
    difference = merged["blocks.0.attn.qkv.weight"] - before["blocks.0.attn.qkv.weight"]
    singular = torch.linalg.svdvals(difference.double())
    assert singular[2] > 1e-3
    assert singular[3] < 1e-6
    assert torch.equal(merged["blocks.0.mlp.fc1.weight"], before["blocks.0.mlp.fc1.weight"])


def test_factor_is_alpha_over_rank():
    model = make()
    method, changed = adapted(model, rank=4, alpha=2.0, targets=("conv2",))
    factors = changed.conv2.parametrizations.weight[0]
    shake(changed)
    expected = model.conv2.weight + 0.5 * (factors.B @ factors.A).view_as(model.conv2.weight)
    merged = method.unwrap(snapshot(changed, "cpu"))
    torch.testing.assert_close(merged["conv2.weight"], expected.detach(), rtol=0, atol=0)


def test_frozen_weights_are_shared_not_copied():
    model = make()
    _, changed = adapted(model)
    original = changed.conv2.parametrizations.weight.original
    assert original.data_ptr() == model.conv2.weight.data_ptr()
    assert changed.fc.weight.data_ptr() != model.fc.weight.data_ptr()
    assert all(p.requires_grad for p in model.parameters())


def test_training_leaves_the_original_network_alone():
    model = make("resnet18")
    before = copy.deepcopy(model.state_dict())
    _, changed = adapted(model, rank=2)
    optimizer = torch.optim.SGD([p for p in changed.parameters() if p.requires_grad], 0.1)
    changed(torch.randn(4, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())


def test_pattern_without_a_layer():
    with pytest.raises(
        ClbenchError, match=r"'\*\.qkv' matches no .* there are conv1, conv2, conv3"
    ):
        LoRA(targets=("*.qkv",)).surgery(make())


@pytest.mark.parametrize("name", LOW_RANK)
def test_a_pattern_without_a_layer_is_refused_as_the_recipe_is_read(recipe, name):
    with pytest.raises(ClbenchError, match=r"'tiny_cnn': .*'\*\.qkv' matches no") as caught:
        parse(recipe | {"methods": {name: {"targets": ["*.qkv"]}}})
    assert "\n" not in str(caught.value)
    parse(recipe | {"methods": {name: {"targets": ["conv?"]}}})


def test_plain_weights_pass_through():
    state = make().state_dict()
    deployed = LoRA().unwrap(state)
    assert deployed.keys() == state.keys()
    assert all(deployed[name] is state[name] for name in state)


def test_full_precision_under_autocast():
    model = make().eval()
    method, changed = adapted(model)
    shake(changed)
    merged = method.unwrap(snapshot(changed, "cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(changed.conv1.weight, merged["conv1.weight"])
