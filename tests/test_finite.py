"""Numbers that are none stop a run where they appear, and name who is to blame."""

import json
import math

import pytest
import torch
from helpers import RECIPE
from records import task_event
from safetensors.torch import save_file
from torch import nn

import clbench
from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.files.disk import recordable
from clbench.measure.evaluate import Evaluator
from clbench.methods.base import Method
from clbench.models import finite
from clbench.models.backbone import load
from clbench.models.finite import Loss, LossWatch, Term, check_task, flaw, written
from clbench.models.settings import ModelConfig, Probe
from clbench.models.training import linear_probe
from clbench.recipe.recipe import parse
from clbench.record.recorder import Recorder

NAN, INF = math.nan, math.inf


def loss(step=3, value=0.5, losses=(0.25, 0.75), terms=()):
    return Loss(step, torch.tensor(value), torch.tensor(losses), terms)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (loss(7, NAN, (0.5, NAN)), "loss is nan at step 7 of this task: lower optimizer.lr"),
        (loss(7, INF, (0.5, INF)), "loss is inf at step 7 .*gradient_clip_val"),
        (loss(1, NAN, (NAN, NAN)), "before anything was trained.*model.weights"),
        (
            loss(2, NAN, terms=[Term("a sample's weight", "flow", torch.tensor([1.0, INF]))]),
            "methods.flow: a sample's weight is inf at step 2",
        ),
        (
            loss(2, NAN, terms=[Term("the penalty", "l1", torch.tensor(1.0)),
                                Term("the penalty", "ewc", torch.tensor(NAN))]),
            "methods.ewc: the penalty is nan at step 2",
        ),
        (loss(2, INF, (3e38, 3e38)), "loss is inf at step 2"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)  # fmt: skip
def test_who_is_to_blame(bad, message):
    with pytest.raises(ClbenchError, match=message) as error:
        LossWatch().add(bad)
    assert "\n" not in str(error.value)


def test_a_gpu_is_not_made_to_wait_and_the_step_is_named_all_the_same(monkeypatch):
    monkeypatch.setattr(finite, "world_size", lambda: 2)  # looks as seldom as with a GPU
    monkeypatch.setattr(finite, "_all", lambda reasons, _: reasons)
    watch = LossWatch()
    for step in range(1, finite.TOGETHER):
        watch.add(loss(step, NAN if step >= 23 else 0.5, (NAN, NAN)))
    with pytest.raises(ClbenchError, match="at step 23 "):
        watch.add(loss(finite.TOGETHER))
    watch.look()  # and forgets
    watch.add(loss(1, NAN, (NAN, NAN)))
    with pytest.raises(ClbenchError, match="at step 1 "):
        watch.look()


class Poison(Method):
    """Brings a number that is none into one of the hooks."""

    summary = "test"
    hook: str = ""

    def weights(self, forward):
        return torch.full_like(forward.losses_B, NAN) if self.hook == "weights" else None

    def penalty(self, forward):
        return torch.tensor(INF) if self.hook == "penalty" else None

    def project(self, model):
        if self.hook == "project":
            next(model.parameters()).grad[:] = NAN

    def after_step(self, model, step):
        if self.hook == "after_step":
            next(model.parameters()).data[:] = NAN

    def deploy(self, theta, context):
        return {k: v * NAN for k, v in theta.items()} if self.hook == "deploy" else theta

    def state_dict(self):
        return {"deep": [{"memory": torch.tensor([1.0, NAN if self.hook == "state" else INF])}]}

    def activity(self):
        return {"active": 1.0, "tau": INF}


@pytest.fixture
def small(recipe, no_pictures):
    model = {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}}
    stream = {"name": "split_digits", "first_tasks": 1, "train_per_class": 20, "test_per_class": 5}
    return recipe | {"model": model, "stream": stream, "steps": 1}


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("weights", "methods.poison: a sample's weight is nan at step 1 of"),
        ("penalty", "methods.poison: the penalty is inf at step 1 of this task"),
        ("project", "weights diverged in task 4, 5 .*conv1.weight holds 216 values"),
        ("after_step", "weights diverged in task 4, 5 .*conv1.weight holds 216 values"),
        ("deploy", "methods.poison: what it makes of the weights after task 4, 5 is not finite"),
        ("state", "methods.poison: what it remembers of task 4, 5 holds values that are no num"),
    ],
)
def test_a_method_that_brings_no_number_is_named(small, tmp_path, hook, message):
    with pytest.raises(ClbenchError, match=message) as error:
        clbench.run(small | {"methods": {"poison": Poison(hook=hook)}}, tmp_path / "run")
    assert "\n" not in str(error.value)
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert not left & {"model.safetensors", "summary.json", "checkpoints"}
    assert '"event": "task"' not in (tmp_path / "run" / "record.jsonl").read_text()


def test_what_is_recorded_is_json(small, tmp_path):
    methods = {"flow": {"temperature": INF}, "poison": Poison()}
    record = clbench.run(small | {"methods": methods}, tmp_path / "run")

    for line in (tmp_path / "run" / "record.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert record.run.methods["flow"]["temperature"] == "inf"
    assert parse(RECIPE | {"methods": {"flow": {"temperature": "inf"}}})  # reads as the number
    assert record.tasks[0].methods["poison"] == {"scope": 1.0, "active": 1.0, "tau": None}


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "sgd", "lr": 1e30}},
        {"optimizer": {"name": "sgd", "lr": 1e38}},
        {"optimizer": {"name": "adamw", "lr": 1e30}},
        {"optimizer": {"name": "sgd", "lr": 1e30}, "methods": {"sfa": {}}},
        {"methods": {"task_arithmetic": {"scale": 1e300}}},
        {"methods": {"l2": {"strength": 1e300}}, "steps": 3},
    ],
    ids=str,
)
def test_diverged_runs_have_no_results(small, tmp_path, changes):
    """Also where the last step spoils the weights, after the last loss."""
    with pytest.raises(ClbenchError, match=r"not finite|diverged|loss is|penalty is") as error:
        clbench.run(small | changes, tmp_path / "run")
    assert "\n" not in str(error.value)
    if "task_arithmetic" in str(changes):
        assert "methods.task_arithmetic" in str(error.value)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert '"event": "task"' not in (tmp_path / "run" / "record.jsonl").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images": {"std": [0, 0.5, 0.5]}}, "images.std"),
        ({"images": {"std": [1e-30, 0.5, 0.5]}}, "images.std"),
        ({"images": {"std": [NAN, 0.5, 0.5]}}, "images.std"),
        ({"images": {"mean": [123.0, 0.5, 0.5]}}, "images.mean"),
        ({"images": {"mean": [INF, 0.5, 0.5]}}, "images.mean"),
        ({"optimizer": {"lr": INF}}, "optimizer.lr"),
        ({"optimizer": {"lr": NAN}}, "optimizer.lr"),
        ({"optimizer": {"weight_decay": INF}}, "optimizer.weight_decay"),
        ({"optimizer": {"name": "adamw", "betas": [2, 0.9]}}, "optimizer.betas"),
        ({"optimizer": {"name": "adamw", "betas": [NAN, 0.9]}}, "optimizer.betas"),
        ({"optimizer": {"nesterov": True, "momentum": 0}}, "nesterov: true needs a momentum"),
        ({"schedule": {"warmup": NAN}}, "schedule.warmup"),
        ({"model": RECIPE["model"] | {"probe": {"lr": INF}}}, "model.probe.lr"),
        ({"model": RECIPE["model"] | {"pretraining": {"lr": INF}}}, "model.pretraining.lr"),
    ],
    ids=str,
)
def test_settings_that_give_no_numbers_are_refused_when_read(fields, message):
    with pytest.raises(ClbenchError, match=message) as error:
        parse(RECIPE | fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [NAN, INF])
def test_weights_files_are_refused_by_name_and_tensor(tmp_path, value):
    config = ModelConfig(backbone="tiny_cnn", weights="none", options={"width": 8})
    state = load(config, 3, 8).model.state_dict()
    state["conv2.weight"][0, 0, 0, 0] = value
    path = tmp_path / "broken.safetensors"
    save_file(state, path)
    with pytest.raises(ClbenchError, match=r"broken.safetensors.*conv2.weight holds 1 values of"):
        load(config.model_copy(update={"weights": str(path)}), 3, 8)


def test_buffers_may_hold_the_infinite_but_no_nan():
    state = {"mask": torch.tensor([0.0, -INF]), "weight": torch.ones(2), "count": torch.tensor(3)}
    assert flaw(state, {"weight"}) == ""
    assert "mask holds 1" in flaw(state, {"weight", "mask"})
    assert "mask holds 1" in flaw(state | {"mask": torch.tensor([0.0, NAN])}, {"weight"})


def test_equal_states_are_looked_at_once(monkeypatch):
    looked = []
    monkeypatch.setattr(finite, "flaw", lambda state, _: looked.append(id(state)) or "")
    state = {"weight": torch.ones(2)}
    check_task(state, (state, state), {}, [], {"weight"}, "a")
    assert looked == [id(state)]


def test_the_network_is_not_scored_without_finite_output():
    split = Split(
        TensorImages(torch.zeros(4, 3, 4, 4)), torch.arange(4), torch.tensor([0, 0, 1, 1])
    )

    class Half(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            return logits.masked_fill(torch.eye(4)[:, :2] > 0, NAN)

        def forward_features(self, images):
            return images

        def forward_head(self, x, pre_logits):
            return x

    plain = Transform(4, (0.5,) * 3, (0.5,) * 3, Augment())
    evaluator = Evaluator(Reader(plain, 4, 0, torch.no_grad))
    model = Half(48, 2)
    with pytest.raises(ClbenchError, match="output is not finite for 2 of the images"):
        evaluator.accuracy(model, [split], torch.tensor([0, 0]), torch.ones(2) > 0)
    with pytest.raises(ClbenchError, match="output is not finite for 2 of the images"):
        evaluator.look(model, split, model)


def test_diverged_pretraining_is_not_kept(recipe, tmp_path):
    recipe |= {"data_dir": str(tmp_path / "data")}
    recipe["model"] = recipe["model"] | {"pretraining": {"epochs": 2, "lr": 1e30}}
    for name in ("first", "second"):
        with pytest.raises(ClbenchError, match=r"pretraining tiny_cnn diverged .*pretraining.lr"):
            clbench.run(recipe, tmp_path / name)
    assert not list((tmp_path / "data").rglob("*.safetensors"))


def test_a_linear_probe_that_diverges():
    features, labels = torch.randn(20, 4), torch.arange(20) % 2
    with pytest.raises(ClbenchError, match=r"linear probe diverged.*rate of 1e\+30"):
        linear_probe(features * 100, labels, 2, Probe(lr=1e30), 0)
    features[3, 2] = NAN
    with pytest.raises(ClbenchError, match="features are not finite"):
        linear_probe(features, labels, 2, Probe(), 0)


def test_recordable():
    value = {"a": [1, NAN, (INF, "x")], "b": {"c": -INF, "d": True, "e": None}, "f": 0.5}
    kept = recordable(value)
    assert kept == {"a": [1, None, [None, "x"]], "b": {"c": None, "d": True, "e": None}, "f": 0.5}
    assert written({"tau": INF, "p": [0.5]}) == {"tau": "inf", "p": [0.5]}


def test_the_recorder_writes_json_only(tmp_path):
    activity = {"poison": {"active": 1.0, "tau": INF}}
    Recorder(tmp_path).add(task_event(0, loss=NAN, methods=activity))
    event = json.loads((tmp_path / "record.jsonl").read_text())
    assert event["loss"] is None
    assert event["methods"] == {"poison": {"active": 1.0, "tau": None}}


def test_a_method_that_changes_the_network_is_named(small, tmp_path):
    with pytest.raises(ClbenchError, match=r"not finite.* settings of methods\.lora"):
        clbench.run(small | {"methods": {"lora": {"alpha": 1e300}}}, tmp_path / "run")
