import pytest

from clbench.errors import ClbenchError
from clbench.methods.flow import FLOW
from clbench.recipe.per_task import check_names
from clbench.recipe.recipe import parse

TRANSFER = {
    "stream": {"name": "transfer6", "datasets": ["cifar10", "flowers102"], "independent": True},
    "model": {"backbone": "tiny_cnn", "weights": "none", "probe": {"momentum": 0.5}},
    "methods": {"flow": {"per": "batch"}, "head_refit": {}},
    "epochs": 1,
}


def test_probe_methods_and_images_of_one_task():
    own = {
        "model": {"probe": {"lr": 0.05}},
        "methods": {"flow": {"temperature": 0.3}, "head_refit": {"probe": {"epochs": 3}}},
        "images": {"stored": 32, "fit": "squash", "mean": [0.1, 0.2, 0.3]},
    }
    recipe = parse(TRANSFER | {"per_task": {"cifar10": own}})
    task = recipe.for_task("cifar10")
    assert (task.model.probe.lr, task.model.probe.momentum) == (0.05, 0.5)
    flow = task.methods["flow"]
    assert (flow.temperature, flow.per) == (0.3, "batch")
    assert task.methods["head_refit"].probe.epochs == 3
    assert (task.images.stored, task.images.fit, task.images.std) == (32, "squash", None)
    assert parse(recipe.model_dump(mode="json")) == recipe
    assert recipe.for_task("flowers102").methods["flow"].temperature == "median"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"model": {"backbone": "x"}}, r"cifar10\.model\.backbone cannot differ .*model\.probe"),
        ({"images": {"size": 3}}, r"cifar10\.images\.size cannot differ between tasks"),
        ({"methods": {"sfa": {}}}, r"cifar10\.methods\.sfa: .*the same methods \(flow, head_refit"),
        ({"methods": {"flow": None}}, r"cifar10\.methods\.flow: all tasks have the same methods"),
        ({"methods": {"flow": {"temperature": -1}}}, r"per_task\.cifar10: methods\.flow\.temp"),
        ({"methods": {"flow": {"tau": 1}}}, r"per_task\.cifar10: unknown key methods\.flow\.tau"),
        ({"methods": 3}, r"per_task\.cifar10: methods"),
        ({"images": 3}, r"per_task\.cifar10: images"),
        ({"model": {"probe": {"lr": "much"}}}, r"per_task\.cifar10: model\.probe\.lr = 'much'"),
    ],
)
def test_what_cannot_differ_between_tasks(own, message):
    with pytest.raises(ClbenchError, match=message) as caught:
        parse(TRANSFER | {"per_task": {"cifar10": own}})
    assert "\n" not in str(caught.value)


def test_a_sequence_sees_all_images_alike():
    stream = TRANSFER["stream"] | {"independent": False}
    own = {"cifar10": {"images": {"mean": [0.5, 0.5, 0.5]}}}
    with pytest.raises(ClbenchError, match=r"cifar10\.images needs .*independent: true"):
        parse(TRANSFER | {"stream": stream, "per_task": own})


@pytest.mark.parametrize("given", [["4, 5"], ["all 3 tasks"], ["flowers102"], []])
def test_tasks_that_are_there_and_data_sets_that_may_be_left_out(given):
    check_names(given, ["4, 5", "6, 7", "all 3 tasks"])


def test_a_task_that_is_not_there_is_named():
    with pytest.raises(ClbenchError, match=r"4,5: .*\(did you mean 4, 5\?\); .*4, 5; 6, 7"):
        check_names(["4, 5", "4,5"], ["4, 5", "6, 7"])


def test_methods_with_the_settings_of_every_task():
    own = {"cifar10": {"methods": {"flow": {"per": "sample"}}}}
    found = parse(TRANSFER | {"per_task": own}).all_methods()
    assert [m.per for m in found if isinstance(m, FLOW)] == ["batch", "sample"]


def test_a_method_takes_settings_up_and_remembers_what_it_knows():
    method = FLOW(temperature=2.0)
    method._tau = 7.0
    method.take_settings(FLOW(temperature=3.0, per="batch"))
    assert (method.temperature, method.per, method._tau) == (3.0, "batch", 7.0)
    assert method.needs.copies == 1
