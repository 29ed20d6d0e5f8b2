"""Optimisers and schedules by name, and parameters in groups: timm's and torch's own numbers."""

import math

import pytest
import timm
import torch
from helpers import RECIPE
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from torch import nn

import clbench.models  # noqa: F401  (registers the tiny backbones)
from clbench.errors import ClbenchError
from clbench.learner.rates import scale
from clbench.optim import MaskedAdamW
from clbench.optim.groups import parameter_groups
from clbench.optim.settings import OWN, Optimizer, Schedule, learning_rate, make_optimizer
from clbench.recipe.recipe import parse


def trained(make, steps=3):
    """Weights after a few steps of a small network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    optimizer = make(model)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(3, 4) / 7).square().sum().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    ("fields", "peer"),
    [
        ({"name": "adan"}, lambda p: create_optimizer_v2(p, "adan", lr=0.01)),
        ({"name": "lamb", "weight_decay": 0.1},
         lambda p: create_optimizer_v2(p, "lamb", lr=0.01, weight_decay=0.1)),
        ({"name": "rmsprop", "momentum": 0.5, "options": {"alpha": 0.8}},
         lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, alpha=0.8)),
        ({"name": "nadam", "betas": [0.8, 0.9], "eps": 1e-6},
         lambda p: torch.optim.NAdam(p, lr=0.01, betas=(0.8, 0.9), eps=1e-6)),
        ({"name": "Rprop", "options": {"etas": [0.4, 1.3]}},
         lambda p: torch.optim.Rprop(p, lr=0.01, etas=(0.4, 1.3))),
        ({"name": "AdamW"}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0)),
        ({"name": "AdamW", "weight_decay": 0, "head_rate": 1},
         lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0)),
        ({"name": "AdamW", "weight_decay": 0.3},
         lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3)),
        ({"name": "SGD", "nesterov": True},
         lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True)),
        ({"name": "momentum", "nesterov": True, "momentum": 0.5},
         lambda p: create_optimizer_v2(p, "nesterov", lr=0.01, momentum=0.5)),
        ({"name": "Adamax"}, lambda p: torch.optim.Adamax(p, lr=0.01)),
    ],
)  # fmt: skip
def test_by_name(fields, peer):
    rules = Optimizer.model_validate({"lr": 0.01, **fields})
    assert Optimizer.model_validate(rules.model_dump(mode="json")) == rules
    ours = trained(lambda model: make_optimizer(rules, list(model.parameters())))
    assert torch.equal(ours, trained(lambda model: peer(list(model.parameters()))))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "adamm"}, "there is no optimiser 'adamm' (did you mean adam"),
        ({"name": "LBFGS"}, "evaluates the loss several times"),
        ({"name": "adahessian"}, "second derivatives"),
        ({"name": "rmsprop", "betas": [0.8, 0.9]}, "rmsprop has no betas"),
        ({"name": "Rprop", "weight_decay": 0.1}, "Rprop has no weight_decay"),
        ({"name": "sgd", "betas": [0.8, 0.9]}, "sgd has no betas, and (0.8, 0.9) would do nothing"),
        ({"name": "sgd", "eps": 1e-3}, "sgd has no eps"),
        ({"name": "lion", "eps": 1e-3}, "lion has no eps"),
        ({"name": "lion", "momentum": 0.5}, "lion has no momentum"),
        ({"name": "adan", "momentum": 0.5}, "adan has no momentum"),
        ({"name": "Rprop", "momentum": 0.5}, "Rprop has no momentum"),
        ({"name": "adamw", "nesterov": True}, "adamw has no nesterov"),
        ({"name": "nadam", "nesterov": True}, "nadam has no nesterov"),
        ({"name": "AdamW", "options": {"weight_decay": 0.1}}, "it is a field of its own"),
        ({"name": "adan", "options": {"speed": 2}}, "adan cannot be made of these settings"),
        ({"name": "adan", "betas": [0.8, 0.9]}, "adan cannot be made of these settings"),
        ({"name": "sgd", "options": {"dampening": 0.1}}, "takes no options"),
        ({"name": "sgd", "decay_norms": False}, "does nothing without weight_decay"),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(ClbenchError) as error:
        parse(RECIPE | {"optimizer": fields})
    assert words in str(error.value)
    assert str(error.value).startswith("optimizer")
    assert "\n" not in str(error.value)


def test_a_method_with_an_optimiser_of_its_own_takes_no_groups():
    fields = {"methods": {"mofo": {}}, "optimizer": {"name": "adamw", "head_rate": 10}}
    with pytest.raises(ClbenchError, match=r"mofo brings an optimiser of its own.*head_rate"):
        parse(RECIPE | fields)


def groups_of(**fields):
    model = timm.create_model("tiny_vit", num_classes=3)
    named = list(model.named_parameters())
    head = ("head.weight", "head.bias")
    rules = Optimizer(lr=0.1, weight_decay=0.5, **fields)
    groups = parameter_groups(rules, named, model, head)
    if not rules.grouped:
        assert groups == [p for _, p in named]
        return {}
    of = {id(p): group for group in groups for p in group["params"]}
    return {name: (of[id(p)]["lr"], of[id(p)]["weight_decay"]) for name, p in named}


def test_groups():
    assert groups_of() == {}
    found = groups_of(head_rate=10)
    assert found["head.weight"] == found["head.bias"] == (1.0, 0.5)
    assert {pair for name, pair in found.items() if "head" not in name} == {(0.1, 0.5)}
    found = groups_of(decay_norms=False)
    model = timm.create_model("tiny_vit", num_classes=3)
    still = {n for n, p in model.named_parameters() if p.ndim < 2} | model.no_weight_decay()
    still &= found.keys()
    assert {"pos_embed", "head.bias"} <= still
    assert {name for name, (_, decay) in found.items() if not decay} == still
    found = groups_of(layer_decay=0.5, head_rate=2, decay_norms=False)
    torch.manual_seed(0)
    peers = param_groups_layer_decay(model, 0.5, model.no_weight_decay(), layer_decay=0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    for group in peers:
        for parameter in group["params"]:
            name = names[id(parameter)]
            rate = 0.1 * group["lr_scale"] * (2 if name.startswith("head") else 1)
            decay = 0.0 if name in still else 0.5
            assert found[name] == (pytest.approx(rate), decay)
    assert len({rate for rate, _ in found.values()}) > 2


def test_a_network_without_layers_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(ClbenchError, match="layer_decay"):
        parameter_groups(Optimizer(layer_decay=0.5), list(model.named_parameters()), model, ())


@pytest.mark.parametrize("name", ["AdamW", "Muon", "lamb"])
def test_decay_is_what_the_recipe_says(name):
    """With and without groups, whatever the optimiser's own default is."""
    for decay in (0.0, 0.2):
        for head_rate in (1, 2):
            rules = Optimizer(name=name, weight_decay=decay, head_rate=head_rate)
            model = nn.Linear(2, 2, bias=False)
            groups = parameter_groups(rules, list(model.named_parameters()), model, ("weight",))
            assert [g["weight_decay"] for g in make_optimizer(rules, groups).param_groups] == [
                decay
            ]


@pytest.mark.parametrize("name", OWN)
def test_one_group_is_none(name):
    """A factor of one in groups moves as no groups do."""
    rules = Optimizer(name=name, lr=0.01, weight_decay=0.1)

    def grouped(model):
        group = {"params": list(model.parameters()), "lr": 0.01, "scale": 1.0, "weight_decay": 0.1}
        return make_optimizer(rules, [group])

    plain = trained(lambda model: make_optimizer(rules, list(model.parameters())))
    assert torch.equal(trained(grouped), plain)


def test_names_of_parameters_are_divided_with_them():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = MaskedAdamW(model.named_parameters(), lr=0.1)
    scale(optimizer, {p: 2.0 if n == "0.weight" else 1.0 for n, p in model.named_parameters()})
    named = {id(p): n for n, p in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group["param_names"] == [named[id(p)] for p in group["params"]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()


def rates(steps=20, **fields):
    factor = learning_rate(Schedule(**fields), steps)
    return [factor(step) for step in range(steps)]


def test_schedules():
    found = rates(name="step", options={"decay_epochs": 0.5, "decay_rate": 0.1})
    assert found == pytest.approx([1.0] * 10 + [0.1] * 10)
    found = rates(name="multistep", options={"decay_milestones": [0.25, 0.5], "decay_rate": 0.5})
    assert found == pytest.approx([1.0] * 4 + [0.5] * 5 + [0.25] * 11)  # timm's, a step early
    found = rates(name="poly", options={"decay_rate": 2.0})
    assert found == pytest.approx([(1 - t / 20) ** 2 for t in range(20)])
    found = rates(name="cosine", options={"min_lr": 0.2})
    assert found == pytest.approx([0.2 + 0.4 * (1 + math.cos(math.pi * t / 20)) for t in range(20)])
    found = rates(name="wsd", options={"decay_epochs": 0.5})
    assert found[:10] == pytest.approx([1.0] * 10)
    assert sorted(found[10:], reverse=True) == found[10:]
    assert found[-1] < 0.1
    found = rates(name="tanh", warmup=0.25)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert sorted(found[5:], reverse=True) == found[5:]
    found = rates(name="rsqrt", options={"stable_timescale": 0.1, "decay_epochs": 0.1})
    assert sorted(found, reverse=True) == found
    # A task of a stream is a part of the whole.
    rules = Schedule(name="poly", options={"decay_rate": 1.0}, over="stream")
    part = learning_rate(rules, 5, 10, 20)
    assert [part(step) for step in range(5)] == pytest.approx([1 - t / 20 for t in range(10, 15)])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "plateau"}, "schedule.name"),
        ({"name": "step"}, "step needs options.decay_epochs"),
        ({"name": "step", "options": {"decay": 1}}, "options.decay: there is none"),
        ({"name": "constant", "options": {"min_lr": 1}}, "a constant rate has no options"),
        ({"name": "poly", "options": {"decay_rate": "fast"}}, "poly cannot be made"),
        ({"name": "wsd", "options": {"decay_epochs": 3}}, "wsd cannot be made"),
        ({"name": "poly", "options": {"decay_rate": 1, "min_lr": 1e9}}, "without bound"),
    ],
)
def test_schedules_that_cannot_be(fields, words):
    with pytest.raises(ClbenchError) as error:
        parse(RECIPE | {"schedule": fields})
    assert words in str(error.value)
