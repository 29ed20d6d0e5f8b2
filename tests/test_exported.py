"""`load_model.py` where timm alone cannot make the network: it works, or says what to do."""

import runpy
import shutil

import pytest
import torch
from plugins import forget

import clbench
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.plugins.recipes import admitted

NET = """\
import torch
from timm.models import register_model
from torch import nn

from clbench.method import Method
from clbench.models.tiny import TinyCNN


@register_model
def own_net(pretrained=False, num_classes=10, **more):
    return TinyCNN(num_classes=num_classes)


class Twice(Method):
    summary = "a table of its own"
    _table: torch.Tensor | None = None

    def absorb(self, theta, context):
        self._table = torch.eye(theta[context.head[0]].shape[1])[:, :4] * 2

    def classifier(self):
        return None if self._table is None else lambda features_BF: features_BF @ self._table

    def state_dict(self):
        return {"table": self._table}

    def load_state_dict(self, state):
        self._table = state["table"]


class Rows(Method):
    summary = "what it adds depends on classes and on settings of a task"
    width: int = 1
    look: bool = False

    def adapt(self, model, task):
        name = f"rows{task.index}"
        if not hasattr(model, name):
            table = torch.randn(task.classes.stop, self.width)
            model.register_buffer(name, table)
        if self.look:
            len(task.train)
        return model


METHODS = {"twice": Twice, "rows": Rows}
"""
#: A plugin that is loaded again registers its backbone again.
pytestmark = pytest.mark.filterwarnings("ignore:Overwriting own_net")
VIT = {"backbone": "tiny_vit", "weights": "none"}


@pytest.fixture
def own(recipe, place, no_pictures):
    (place / "net.py").write_text(NET)
    recipe["model"]["weights"] = "none"  # no head to measure retention with
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 20, "test_per_class": 5}
    return recipe | {"steps": 2}


@pytest.fixture
def evaluated(monkeypatch):
    """What the run's last evaluation was given, and made of it."""
    seen = {}
    made = Evaluator._classifier

    def look(self, model):
        classify = made(self, model)

        def seen_by(inputs):
            seen["inputs"], seen["logits"] = inputs.clone(), classify(inputs)
            return seen["logits"]

        return seen_by

    monkeypatch.setattr(Evaluator, "_classifier", look)
    return seen


@pytest.mark.parametrize(
    "more",
    [
        {"methods": {"l2p": {"pool": 4}}, "model": VIT},
        {
            "methods": {"coda_prompt": {"pool": 7, "blocks": [0]}},
            "model": VIT,
            "first_tasks": 1,
        },
        {"methods": {"ranpac": {"features": 50}}},
        {"methods": {"aper": {}}},
        {"methods": {"ease": {"bottleneck": 4}}, "model": VIT},
        {"methods": {"twice": {}}, "plugins": ["net.py"]},
        {
            "methods": {"rows": {}},
            "plugins": ["net.py"],
            "per_task": {"4, 5": {"methods": {"rows": {"width": 3}}}},
        },
        {"methods": {"rows": {}, "multitask": {}}, "plugins": ["net.py"]},
        {"model": {"backbone": "own_net", "weights": "none"}, "plugins": ["net.py"]},
        {"methods": {}},
    ],
    ids=[
        "adapts",
        "by the number of tasks",
        "classifies",
        "two networks",
        "several spaces",
        "a method of one's own",
        "by classes and per_task",
        "all tasks at once",
        "a backbone of one's own",
        "timm",
    ],
)
def test_the_network_is_the_run_s(own, place, evaluated, monkeypatch, more):
    more = dict(more)
    own["stream"]["first_tasks"] = more.pop("first_tasks", 2)
    clbench.run(own | more, place / "run")
    monkeypatch.setattr(Evaluator, "_classifier", lambda *_: None)
    forget()
    model = runpy.run_path(str(place / "run/load_model.py"))["model"]
    with torch.no_grad():
        ours = model(evaluated["inputs"])
    torch.testing.assert_close(ours, evaluated["logits"], check_dtype=False)
    assert not model.training
    text = (place / "run/load_model.py").read_text()
    assert ("clbench.runner" in text) == (more != {"methods": {}})


def test_what_classifies_must_have_been_kept(own, place):
    clbench.run(own | {"methods": {"ranpac": {"features": 50}}}, place / "run")
    shutil.rmtree(place / "run/checkpoints")
    with pytest.raises(ClbenchError, match=r"ranpac classifies in place .* run again with"):
        runpy.run_path(str(place / "run/load_model.py"))


def test_it_is_said_where_what_classifies_is_kept(own, place, capsys):
    for keep, told in (("none", "run again with checkpoints"), ("last", "load_model.py takes")):
        values = own | {"methods": {"ranpac": {"features": 50}}, "checkpoints": keep}
        clbench.run(values, place / keep)
        (line,) = (x for x in capsys.readouterr().out.splitlines() if "in place of the head" in x)
        assert told in line
    with pytest.raises(ClbenchError, match="run again with checkpoints: last"):
        runpy.run_path(str(place / "none/load_model.py"))


def test_what_is_added_by_more_than_a_folder_has_is_refused(own, place):
    values = own | {"methods": {"rows": {"look": True}}, "plugins": ["net.py"]}
    clbench.run(values, place / "run")
    with pytest.raises(ClbenchError, match=r"`adapt` asks for images of task 4, 5") as caught:
        runpy.run_path(str(place / "run/load_model.py"))
    assert "\n" not in str(caught.value)
    loader = place / "run/load_model.py"
    loader.write_text(loader.read_text().replace("'4, 5', [0, 2]", "'4, 5', None"))
    with pytest.raises(ClbenchError, match="does not tell the classes of task 4, 5"):
        runpy.run_path(str(loader))


def test_a_plugin_that_has_gone_is_named(own, place):
    model = {"backbone": "own_net", "weights": "none"}
    clbench.run(admitted(own | {"model": model, "plugins": ["net.py"]}), place / "run")
    forget()
    (place / "net.py").unlink()
    with pytest.raises(ClbenchError, match=r"plugin .*net\.py: No such file"):
        runpy.run_path(str(place / "run/load_model.py"))
