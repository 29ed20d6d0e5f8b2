"""The checks that everybody can run on a method or a stream: each fault is named."""

import random
import sys
from dataclasses import replace
from typing import ClassVar, NamedTuple

import pytest
import torch
from pydantic import Field
from test_hooks import Scale
from torch import nn

from clbench.cli.cli import main
from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.method import LOW_RANK, Method, Needs
from clbench.streams import SplitConfig
from clbench.testing import check_method, check_stream


class Pull(Method):
    """Sound, until a twin breaks it."""

    summary: ClassVar[str] = "pulls back"
    share: float = Field(0.1, ge=0, le=1)
    _seen: int = 0

    def start(self, context):
        self._anchor, self._head, self._seen = (
            context.anchors.previous,
            context.head,
            self._seen + 1,
        )

    def after_step(self, model, step):
        if self.share:
            self._anchor.pull(model, self.share * self._seen / 2, self._head)

    def activity(self):
        return {"active": float(self.share > 0)}

    def state_dict(self):
        return {"seen": self._seen}

    def load_state_dict(self, state):
        self._seen = state["seen"]


class NotFinite(Pull):
    def after_step(self, model, step):
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))


class Silent(Pull):
    def activity(self):
        return {}


class Forgets(Pull):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Loses(Pull):
    def load_state_dict(self, state):
        self._seen = 0


class Strange(Pull):
    def state_dict(self):
        return {"seen": self._seen, "net": nn.Linear(1, 1)}


class Place(NamedTuple):
    row: int


class Named(Pull):
    def state_dict(self):
        return {"seen": self._seen, "where": [Place(3)]}


class Draws(Pull):
    def after_step(self, model, step):
        with torch.no_grad():
            next(model.parameters()).add_(torch.rand(()) * 1e-3)


class Idle(Pull):
    def after_step(self, model, step):
        pass


class Boasts(Pull):
    def activity(self):
        return {"active": 1.0}


class Hoards(Pull):
    def stored_samples(self):
        return 7


class Peeks(Pull):
    def start(self, context):
        super().start(context)
        if self._seen > 1:
            images = context.task.train.images
            images.take(torch.arange(40))


class Clashes(Pull):
    def surgery(self, model):
        raise ValueError("no model like this")


class Rough(Pull):
    share: float = Field(0.1, ge=0, le=1, exclude=True)


class Adapts(Method):
    """Sound with the newer hooks, until a twin breaks it."""

    summary: ClassVar[str] = "uses what few need"
    _table: torch.Tensor | None = None

    def adapt(self, model, task):
        head = model.get_classifier()
        if not hasattr(model, "own"):
            model.own = Scale(model.num_features)
            head.register_forward_pre_hook(model.own)
        return model

    def rows(self, context):
        return torch.zeros_like(context.losses.idle)

    def admit(self, labels_B, excluded_BC):
        return excluded_BC | False

    def rate(self, name):
        return 2.0 if name.startswith("own") else 1

    def observe(self, forward):
        self._last = float(forward.losses_B.mean())

    def absorb(self, theta, context):
        width = theta[context.head[0]].shape[1]
        self._table = torch.randn(width, 4, generator=torch.Generator().manual_seed(1))

    def classifier(self):
        return None if self._table is None else lambda features_BF: features_BF @ self._table

    def state_dict(self):
        return {"table": self._table}

    def load_state_dict(self, state):
        self._table = state["table"]


class AddsAgain(Adapts):
    def adapt(self, model, task):
        model.own = Scale(model.num_features)
        model.get_classifier().register_forward_pre_hook(model.own)
        return model


class DrawsElsewhere(Adapts):
    def adapt(self, model, task):
        fresh = not hasattr(model, "own")
        model = super().adapt(model, task)
        if fresh:
            nn.init.constant_(model.own.factor, random.random())
        return model


class HoldsOn(Adapts):
    def adapt(self, model, task):
        if not hasattr(model, "own"):
            model.own = Scale(model.num_features)
            model.get_classifier().register_forward_pre_hook(lambda m, x: model.own(m, x))
        return model


class Drops(Adapts):
    def adapt(self, model, task):
        model.reset_classifier(2)
        return model


class Numbers(Adapts):
    def rows(self, context):
        return torch.tensor([True])


class InPlace(Adapts):
    def admit(self, labels_B, excluded_BC):
        excluded_BC[:, 0] = True
        return excluded_BC


class OfClasses(Adapts):
    def admit(self, labels_B, excluded_BC):
        return torch.zeros(excluded_BC.shape[1], dtype=torch.bool)


class Endless(Adapts):
    def rate(self, name):
        return float("inf") if name.startswith("own") else 1.0


class Wavers(Adapts):
    _asked: int = 0

    def rate(self, name):
        self._asked += 1
        return 1.0 + self._asked % 2


class Column(Adapts):
    def weights(self, forward):
        return torch.ones(len(forward.losses_B), 1)


class PerClass(Adapts):
    def penalty(self, forward):
        return forward.logits_BC.mean(0)


class Touches(Adapts):
    def observe(self, forward):
        forward.model.own.factor.mul_(0.9)


class Dices(Adapts):
    def observe(self, forward):
        torch.rand(1)


class OneClassLess(Adapts):
    def classifier(self):
        return lambda features_BF: (features_BF @ self._table)[:, 0]


class Learns(Adapts):
    def classifier(self):
        def classify(features_BF):
            self._table = self._table + 0.1
            return features_BF @ self._table

        return None if self._table is None else classify


class LosesTable(Adapts):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

    def absorb(self, theta, context):
        if context.task.index == 0:
            super().absorb(theta, context)


class EditsWeights(Adapts):
    def deploy(self, theta, context):
        theta["own.factor"].mul_(0.9)
        return theta


class Replaces(Pull):
    def deploy(self, theta, context):
        for name in theta:
            theta[name] = theta[name] * 0.9
        return theta


class EditsAnchor(Pull):
    def deploy(self, theta, context):
        for x in context.anchors.previous.state.values():
            x.mul_(1)
            x[...] = x + 0.5 if x.is_floating_point() else x
        return dict(theta)


class Counts(Pull):
    """Remembers how often it was asked, in its state and in what it returns."""

    _asked: int = 0

    def deploy(self, theta, context):
        self._asked += 1
        return {name: x * (1 - 0.01 * self._asked) for name, x in theta.items()}


class Tallies(Pull):
    def deploy(self, theta, context):
        self._seen += 1
        return {name: x * 0.9 for name, x in theta.items()}


class StartsOnTest(Pull):
    def start(self, context):
        super().start(context)
        context.reader.batches(context.task.test, context.device)
        self._seen += len(context.task.test)


class LooksAtTest(Pull):
    """Test labels decide the penalty."""

    def start(self, context):
        super().start(context)
        self._task = context.task

    def penalty(self, forward):
        return forward.logits_BC[:, self._task.test.labels].mean()


class AdaptsToTest(Adapts):
    def adapt(self, model, task):
        task.test.images.take(task.test.index)
        return super().adapt(model, task)


class TrainsOnTest(Pull):
    needs: ClassVar[Needs] = Needs(past_data=True)

    def arrange(self, tasks):
        return [replace(task, train=Split.joined([task.train, task.test])) for task in tasks]


@pytest.fixture
def check(data_dir):
    def run(kind, **more):
        more = {"neutral": {"share": 0}, "beside": ["sfa"]} | more
        check_method(kind, recipe={"data_dir": str(data_dir)}, **more)

    return run


def test_a_sound_method_has_no_fault(check):
    check(Pull)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (NotFinite, "trains: "),
        (Silent, r"trains: activity\(\) has no entry"),
        (Forgets, "resumes: .* differ"),
        (Loses, "state: load_state_dict loses"),
        (Strange, "trains: .* its state_dict has a Linear: tensors and primitives alone"),
        (Named, "trains: .* its state_dict has a Place: tensors and primitives alone"),
        (Draws, "neutral: with {'share': 0} .* differ from plain fine-tuning"),
        (Idle, "acts: the weights are those of plain fine-tuning"),
        (Boasts, "neutral: .* says that it was active"),
        (Hoards, "past data: 7 samples are kept"),
        (Peeks, r"trains: .*needs\.past_data"),
        (Clashes, "trains: ValueError: no model like this"),
        (Rough, "settings: share is another"),
        (Replaces, "deploy: it edits the weights it is given"),
        (EditsAnchor, "deploy: it edits the anchor `previous`"),
        (Counts, "deploy: asked twice for the same weights, it gives two answers"),
        (Tallies, "deploy: it changes what the method remembers"),
        (StartsOnTest, "trains: a method asked for the test data of task 4, 5"),
        (LooksAtTest, "trains: a method asked for the test data of task 4, 5"),
        (TrainsOnTest, "trains: a method asked for the test data of task 4, 5"),
    ],
)
def test_a_broken_twin_is_named(check, kind, told):
    settings = {"share": 0.3} if kind is Rough else {}
    with pytest.raises(AssertionError, match=rf"(?m)^{told}"):
        check(kind, beside=[], settings=settings)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Adapts, None),
        (AddsAgain, "adapt: a second call for a task changes the network"),
        (DrawsElsewhere, "adapt: what it adds is not the same twice"),
        (HoldsOn, r"adapt: a copy of the network does not have own\.factor of its own"),
        (Drops, r"trains: methods\..*fc\.weight is gone"),
        (Numbers, r"rows: it returns bool \(1,\), not a mask"),
        (InPlace, "admit: it edits excluded_BC in place"),
        (OfClasses, r"admit: it returns bool \(4,\), not a mask"),
        (Endless, r"rate: inf for own\.factor"),
        (Wavers, "rate: asked twice for"),
        (Column, r"weights: it gives \(16, 1\) for 16 samples"),
        (PerClass, r"penalty: it gives \(4,\), not one number"),
        (Touches, r"observe: it changes own\.factor, and may only look"),
        (Dices, "observe: it draws by torch's own generator"),
        (OneClassLess, r"classifier: it makes float32 \(20,\) of 20 samples"),
        (Learns, "classifier: asked twice, it gives two answers"),
        (LosesTable, "resumes: the weights are the same, but what is made of images"),
        (EditsWeights, "deploy: it edits the weights it is given"),
        (AdaptsToTest, "trains: a method asked for the test data"),
    ],
)
def test_the_fault_of_a_rarer_hook_is_named(check, kind, told):
    if told is None:
        check(kind, neutral=None)
        return
    with pytest.raises(AssertionError, match=rf"(?m)^{told}"):
        check(kind, neutral=None, beside=[])


def test_hooks_are_the_method_s_own_again(check):
    Adapts.model_rebuild()  # else pydantic does when it is first used
    before = dict(vars(Adapts))
    check(Adapts, neutral=None, beside=[])
    assert dict(vars(Adapts)) == before
    assert "deploy" not in before


def test_a_method_that_fails_beside_another_is_told(check, monkeypatch):
    from clbench.methods import METHODS

    class Other(Pull):
        def finish(self, context):
            raise RuntimeError("not beside that")

    monkeypatch.setitem(METHODS, "other", Other)
    with pytest.raises(AssertionError, match=r"(?m)^beside other: RuntimeError: not beside that"):
        check(Pull, beside=["other"])


SPLIT = {"name": "own_split", "tasks": 2, "train_per_class": 20, "test_per_class": 5}


class OwnSplit(SplitConfig):
    summary: ClassVar[str] = "digits"
    pretrain_classes: list = []
    leave_out: list = []

    def build(self, data_dir, storage, *shelf):
        made = SplitConfig.model_validate({**self.model_dump(), "name": "split_digits"})
        return made.build(data_dir, storage, *shelf)


class Shuffled(OwnSplit):
    def build(self, *about):
        stream = super().build(*about)
        order = torch.randperm(len(stream.tasks[0].test.index))
        first = stream.tasks[0]
        test = replace(first.test, index=first.test.index[order], labels=first.test.labels[order])
        return replace(stream, tasks=(replace(first, test=test), *stream.tasks[1:]))


class Repainted(OwnSplit):
    """Other pixels each time it is built, in its validation images alone."""

    def build(self, *about):
        stream = super().build(*about)
        first = stream.tasks[0]
        count = int(first.validation.index.max()) + 1
        pixels = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8)
        validation = replace(first.validation, images=TensorImages(pixels))
        return replace(stream, tasks=(replace(first, validation=validation), *stream.tasks[1:]))


class Raising(OwnSplit):
    def build(self, *about):
        return {}["no such class"]


class Mislabelled(OwnSplit):
    def build(self, *about):
        stream = super().build(*about)
        first = stream.tasks[0]
        test = replace(first.test, labels=first.test.labels + 5)
        return replace(stream, tasks=(replace(first, test=test), *stream.tasks[1:]))


class Overlapping(OwnSplit):
    def build(self, *about):
        stream = super().build(*about)
        first = replace(stream.tasks[0], validation=stream.tasks[0].train)
        return replace(stream, tasks=(first, *stream.tasks[1:]))


class Unplain(OwnSplit):
    def build(self, *about):
        stream = super().build(*about)
        return replace(stream, manifest={**stream.manifest, "tasks": {1, 2}})


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (OwnSplit, None),
        (Repainted, "again: .* has other validation images"),
        (Raising, "tasks: KeyError: 'no such class'"),
        (Shuffled, "again: .* has other test images"),
        (Mislabelled, r"tasks: .*: test images have the labels \[5, 6, 7, 8, 9\]"),
        (Overlapping, "tasks: .* images are for training and validation"),
        (Unplain, "manifest: it cannot be written as JSON"),
    ],
)
def test_a_broken_stream_is_named(kind, told):
    recipe = {"images": {"size": 8}}
    if told is None:
        check_stream(SPLIT, kind, recipe=recipe)
        return
    with pytest.raises(AssertionError, match=rf"(?m)^{told}"):
        check_stream(SPLIT, kind, recipe=recipe)


def test_new_writes_a_method_whose_test_passes(place, monkeypatch, data_dir, capsys):
    assert main(["new", "method", "my_own"]) == 0
    assert "my_own.py and test_my_own.py" in capsys.readouterr().out
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    made = __import__("my_own")
    beside = ["sfa", *LOW_RANK]
    check_method(made.MyOwn, neutral={"pull": 0}, beside=beside, recipe={"data_dir": data_dir})
    compile((place / "test_my_own.py").read_text(), "test_my_own.py", "exec")
    assert main(["--list", "--plugins", "my_own.py"]) == 0
    assert "my_own" in capsys.readouterr().out
    del sys.modules["my_own"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["method"], "takes `method NAME`"),
        (["stream", "x"], "takes `method NAME`"),
        (["method", "Own"], "names are small letters"),
        (["method", "class"], "names are small letters"),
        (["method", "sfa"], "sfa is a method of clbench's"),
        (["method", "random"], "random is a module of Python's"),
        (["method", "there"], "there.py is there, and is not overwritten"),
    ],
)
def test_new_refuses(place, capsys, words, told):
    (place / "test_there.py").write_text("mine")
    assert main(["new", *words]) == 2
    assert told in capsys.readouterr().err
    assert (place / "test_there.py").read_text() == "mine"
    assert not (place / "there.py").exists()
