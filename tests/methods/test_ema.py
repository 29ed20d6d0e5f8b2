"""EMA: in closed form, as the recipe's own average, over tasks, and what it does not go with."""

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods.ema import EMA
from clbench.models.average import MovingAverage, warmed_up
from clbench.recipe.recipe import parse
from clbench.record import checkpoints
from clbench.sweep import sweep
from clbench.weights import snapshot


@pytest.fixture
def small(recipe, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 30}
    return recipe | {"steps": 6, "checkpoints": "all"}


def shown(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
@pytest.mark.parametrize("warm_up", [False, True])
def test_the_average_in_closed_form(decay, warm_up):
    """θ̄ = Σ w_n·θ_n, w_n = (1 − d_n)·Π of later decays, and Π of all for the start."""
    model = nn.Linear(3, 2, dtype=torch.float64)
    average, thetas = MovingAverage(model, decay, warm_up), [model.weight.detach().clone()]
    for _ in range(12):
        with torch.no_grad():
            model.weight.add_(torch.randn_like(model.weight))
        average.update(model)
        thetas.append(model.weight.detach().clone())
    decays = [0.0, *(min(decay, (1 + n) / (10 + n)) if warm_up else decay for n in range(1, 13))]
    weights = [1 - d for d in decays]
    for n in range(13):
        for later in decays[n + 1 :]:
            weights[n] *= later
    assert sum(weights) == pytest.approx(1)
    wanted = sum(w * theta for w, theta in zip(weights, thetas, strict=True))
    torch.testing.assert_close(average.mean["weight"], wanted)


def test_what_it_carries_on_is_the_recipes_own_average(small, tmp_path):
    one = clbench.run(small | {"ema": 0.7}, tmp_path / "one")
    method = {"ema": {"decay": 0.7, "warm_up": False, "carry_on": True}}
    other = clbench.run(small | {"methods": method}, tmp_path / "other")
    assert [e.loss for e in one.tasks] == [e.loss for e in other.tasks]
    weights = shown(tmp_path / "one"), shown(tmp_path / "other")
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())


def test_what_is_shown_alone_leaves_training_as_it_is(small, tmp_path, monkeypatch):
    plain = clbench.run(small, tmp_path / "plain")
    seen, update = [], MovingAverage.update

    def look(self, model):
        update(self, model)
        seen.append(snapshot(model))

    monkeypatch.setattr(MovingAverage, "update", look)
    record = clbench.run(small | {"methods": {"ema": {"decay": 0.8}}}, tmp_path / "ema")
    assert [e.loss for e in record.tasks] == [e.loss for e in plain.tasks]
    last = checkpoints.load(tmp_path / "ema", 2, ("trained", "theta"))
    trained = shown(tmp_path / "plain")
    for part in ("trained", "theta"):
        assert all(torch.equal(x, trained[name]) for name, x in last[part].items())
    begins = checkpoints.load(tmp_path / "plain", 1, ("theta",))["theta"]
    mean = begins["conv2.weight"]
    for n, theta in enumerate(seen[6:], 1):
        mean = torch.lerp(theta["conv2.weight"], mean, warmed_up(0.8, n))
    torch.testing.assert_close(shown(tmp_path / "ema")["conv2.weight"], mean)
    did = record.tasks[1].methods["ema"]
    assert did["active"] == 1
    assert did["distance_moved"] > 0
    assert did["scope"] == warmed_up(0.8, 6)


def test_over_the_stream_it_averages_on(small, tmp_path, monkeypatch):
    seen, update = [], MovingAverage.update

    def look(self, model):
        seen.append(
            (self.updates, snapshot(model)["conv2.weight"], self.mean["conv2.weight"].clone())
        )
        update(self, model)

    monkeypatch.setattr(MovingAverage, "update", look)
    clbench.run(small | {"methods": {"ema": {"decay": 0.8, "over": "stream"}}}, tmp_path)
    assert [updates for updates, *_ in seen] == list(range(12))
    mean = seen[0][2]
    for n, (_, theta, before) in enumerate(seen, 1):
        torch.testing.assert_close(before, mean)
        mean = torch.lerp(theta, before, warmed_up(0.8, n))
    torch.testing.assert_close(shown(tmp_path)["conv2.weight"], mean)


def test_sweeps_know_the_last_average_alone(small, tmp_path):
    small["methods"] = {"ema": {"decay": 0.8}}
    clbench.run(small | {"checkpoints": "last"}, tmp_path / "last")
    assert sweep(tmp_path / "last", "alpha", [1.0]).reproduced
    clbench.run(small, tmp_path / "all")
    with pytest.raises(ClbenchError, match="again with checkpoints: last"):
        sweep(tmp_path / "all", "alpha", [1.0])
    small["methods"]["ema"]["carry_on"] = True
    clbench.run(small, tmp_path / "carried")
    assert sweep(tmp_path / "carried", "alpha", [1.0]).reproduced


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ema": 0.9, "methods": {"ema": {}}}, "so does the recipe's ema: leave one out"),
        ({"methods": {"wise_ft": {}, "ema": {}}}, "put it before wise_ft"),
        ({"methods": {"ewc": {}, "ema": {"carry_on": True}}}, "put it before ewc"),
        ({"methods": {"ema": {}, "lora": {}}}, "without what lora does to weights: say carry_on"),
        ({"methods": {"ema": {}, "cofima": {}}}, "without what cofima does to weights"),
    ],
)
def test_what_it_does_not_go_with(recipe, fields, words):
    with pytest.raises(ClbenchError) as caught:
        parse(recipe | fields)
    assert words in str(caught.value)
    assert str(caught.value).startswith("methods: ema ")
    assert "\n" not in str(caught.value)


def test_what_goes_with_it(recipe):
    for methods in ({"sfa": {}, "ema": {}}, {"ema": {"carry_on": True}, "lora": {}, "ewc": {}}):
        assert parse(recipe | {"methods": methods}).methods.keys() == methods.keys()


def test_refuses_wrong_fields():
    for fields in ({"decay": 1}, {"decay": -0.1}, {"over": "stream", "carry_on": True}):
        with pytest.raises(ValidationError):
            EMA(**fields)
