from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from clbench.errors import ClbenchError
from clbench.methods.mofo import MoFO, bias_and_norm
from clbench.optim import MaskedAdamW, MaskedLion
from clbench.recipe.recipe import Optimizer, parse
from clbench.runner.runner import run

ADAMW = Optimizer(name="adamw", lr=0.01, weight_decay=0.1, betas=(0.8, 0.99), eps=1e-6)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 5))


def started(method, model, seed=0):
    method.start(SimpleNamespace(model=model, seed=seed))
    return method.optimizer(list(model.named_parameters()), ADAMW)


def step(model, optimizer):
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    return {name: int((p != before[name]).sum()) for name, p in model.named_parameters()}


def test_takes_the_settings_of_the_recipe():
    optimizer = started(MoFO(fraction=0.2, decay="selected", select="gradient"), network())
    assert isinstance(optimizer, MaskedAdamW)
    (group,) = optimizer.param_groups
    expected = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-6}
    expected |= {"fraction": 0.2, "decay": "selected", "select": "gradient"}
    assert {key: group[key] for key in expected} == expected


def test_the_paper_filters_all_tensors():
    model, method = network(), MoFO(fraction=0.25, decay="selected")
    moved = step(model, started(method, model))
    wanted = {name: max(1, p.numel() // 4) for name, p in model.named_parameters()}
    assert moved == wanted
    total = sum(p.numel() for p in model.parameters())
    assert method.activity()["updated_share"] == pytest.approx(sum(wanted.values()) / total)
    assert method.activity()["scope"] == pytest.approx(1 - sum(wanted.values()) / total)
    assert method.activity()["active"] == 1


def test_the_authors_code_leaves_biases_and_norms_alone():
    model, method = network(), MoFO(fraction=0.25, filter="not_bias_norm", decay="selected")
    moved = step(model, started(method, model))
    assert moved == {
        "0.weight": 54,
        "0.bias": 8,
        "1.weight": 8,
        "1.bias": 8,
        "3.weight": 10,
        "3.bias": 5,
    }


def test_norm_layers_are_found_by_kind():
    timm = pytest.importorskip("timm")
    resnet = timm.create_model("resnet18")
    found = bias_and_norm(resnet)
    assert {"bn1.weight", "layer2.0.downsample.1.weight", "fc.bias"} <= found
    left = {name for name, _ in resnet.named_parameters()} - found
    assert left == {name for name, p in resnet.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("select", ["momentum", "gradient", "random"])
def test_full_fraction_hands_over_to_the_plain_optimiser(select):
    method = MoFO(fraction=1, select=select)
    assert started(method, network()) is None
    assert method.activity() == {"updated_share": 1.0, "active": 0.0, "scope": 0.0}


def test_random_selection_follows_the_seed_of_the_task():
    outcomes = []
    for seed in (1, 1, 2):
        model = network()
        optimizer = started(MoFO(select="random"), model, seed)
        torch.manual_seed(5)
        step(model, optimizer)
        outcomes.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


@pytest.mark.parametrize("name", ["sgd"])
def test_needs_an_optimiser_with_a_momentum_it_can_filter(recipe, name):
    message = r"mofo .* updates of adamw or lion: set optimizer\.name: adamw or lion, not sgd"
    with pytest.raises(ClbenchError, match=message):
        parse(recipe | {"optimizer": {"name": name}, "methods": {"mofo": {}}})


def test_filters_lion_by_lions_momentum():
    model = network()
    method = MoFO(fraction=0.25)
    method.start(SimpleNamespace(model=model, seed=0))
    lion = Optimizer(name="lion", lr=0.01, weight_decay=0.1)
    optimizer = method.optimizer(list(model.named_parameters()), lion)
    assert type(optimizer) is MaskedLion
    (group,) = optimizer.param_groups
    expected = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.99), "fraction": 0.25}
    assert {key: group[key] for key in expected} == expected
    method = MoFO(fraction=1)
    method.start(SimpleNamespace(model=model, seed=0))
    assert method.optimizer(list(model.named_parameters()), lion) is None


@pytest.mark.parametrize("fields", [{"fraction": 0}, {"fraction": 1.3}, {"select": "half_blocks"}])
def test_refuses_wrong_fields(fields):
    with pytest.raises(ValidationError):
        MoFO(**fields)


def final_weights(recipe, folder, methods, optimizer="adamw"):
    from safetensors.torch import load_file

    own = {"optimizer": {"name": optimizer, "lr": 0.003}}
    record = run(parse(recipe | own | {"methods": methods, "steps": 4}), folder)
    (file,) = folder.rglob("*.safetensors")
    return record, load_file(file)


@pytest.mark.parametrize("optimizer", ["adamw", "lion"])
def test_in_a_stream(recipe, tmp_path, optimizer):
    def weights(name, methods):
        return final_weights(recipe, tmp_path / name, methods, optimizer)

    _, plain = weights("plain", {})
    _, neutral = weights("neutral", {"mofo": MoFO(fraction=1)})
    record, mofo = weights("mofo", {"mofo": MoFO()})
    assert all(torch.equal(neutral[name], x) for name, x in plain.items())
    assert not all(torch.equal(mofo[name], x) for name, x in plain.items())
    shares = [event.methods["mofo"]["updated_share"] for event in record.tasks]
    assert all(0.14 < share < 0.16 for share in shares)
