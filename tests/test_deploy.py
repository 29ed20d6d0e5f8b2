"""When the running statistics of averaged weights are looked after."""

from clbench.learner.deploy import Weights, deploy, unwrap
from clbench.methods.base import Method


class Step(Method):
    """Adds its letter to weights that are a string."""

    summary = "test"
    letter: str

    def deploy(self, theta, context):
        return theta + self.letter


class Average(Step):
    averages = True


class ShownOnly(Average):
    @property
    def carries(self):
        return False


class WhileTraining(Method):
    summary = "test"
    averages = True


class Surgery(Step):
    def surgery(self, model):
        return model

    def unwrap(self, theta):
        return theta + self.letter.upper()


class Counting(Step):
    """Remembers what it is shown, once a task."""

    _seen: list = []

    def absorb(self, theta, context):
        self._seen = [*self._seen, theta]


def refresh(theta):
    return theta + "*"


def test_after_the_last_average_and_before_what_builds_on_it():
    methods = [Step(letter="a"), Average(letter="B"), Average(letter="C"), Step(letter="d")]
    assert deploy(methods, "", None, refresh) == Weights("", "aBC*d", "aBC*d")
    assert deploy(methods, "", None) == Weights("", "aBCd", "aBCd")


def test_before_everything_where_training_averaged_but_after_surgery_is_undone():
    methods = [Step(letter="a"), WhileTraining(), Surgery(letter="s"), Surgery(letter="t")]
    assert deploy(methods[:2], "", None, refresh) == Weights("", "*a", "*a")
    theta = unwrap(methods, "")
    assert theta == "TS"  # the last first
    assert deploy(methods, theta, None, refresh) == Weights("TS", "TS*ast", "TS*ast")


def test_weights_that_go_on_and_weights_that_are_shown():
    weights = deploy([ShownOnly(letter="B"), Step(letter="c")], "", None, refresh)
    assert weights == Weights("", "*c", "B*c")
    weights = deploy([Step(letter="c")], "", None, refresh)
    assert weights.carried is weights.shown


def test_a_task_is_remembered_once_as_it_will_be_shown():
    counting = Counting(letter="c")
    methods = [ShownOnly(letter="B"), counting]
    assert deploy(methods, "", None) == Weights("", "c", "Bc")
    assert counting._seen == ["B"]
    deploy(methods, "", None, absorb=False)
    assert counting._seen == ["B"]
