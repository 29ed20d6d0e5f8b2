"""Runs whose last batch is one image, which BatchNorm cannot normalise."""

import pytest
import timm
import torch
from helpers import interrupt_after
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.models.batch_norm import chunks, frozen, least_batch
from clbench.recipe.merging import merge
from clbench.seeding import seed_everything
from clbench.weights import snapshot


@pytest.fixture
def single(recipe, no_pictures, tmp_path):
    """Tasks of 16 images, in batches of 5: one is left."""
    stream = {"name": "split_digits", "classes": [[4, 5], [6, 7]], "validation": 0}
    recipe["stream"] = stream | {"train_per_class": 8, "test_per_class": 3}
    recipe["model"] = {"backbone": "resnet10t", "weights": "none"}
    del recipe["steps"]
    return recipe | {"images": {"size": 16}, "epochs": 1, "batch_size": 5}


def everything(_):
    return True


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [
        ("resnet10t", 32, 2),
        ("resnet10t", 64, 1),
        ("tf_efficientnet_lite0", 32, 2),
        ("tiny_vit", 32, 1),
    ],
)
def test_least_batch(name, size, least):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3).train()
    before = snapshot(model)
    assert least_batch(model, (), everything, size) == least
    assert all(torch.equal(before[key], x) for key, x in model.state_dict().items())
    model.train()
    images = torch.randn(1, 3, size, size)
    if least == 1:
        model(images)
    else:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model(images)


def test_frozen_layers_take_single_images():
    model = timm.create_model("resnet10t", num_classes=3)
    head = ("fc.weight", "fc.bias")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert frozen(model, head, head.__contains__) == norms
    assert least_batch(model, head, head.__contains__, 32) == 1
    assert frozen(model, head, everything) == []


def test_the_recipe_freezes_all_layers():
    model = timm.create_model("resnet10t", num_classes=3)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert frozen(model, ("fc.weight", "fc.bias"), everything, "frozen") == norms
    assert least_batch(model, (), everything, 32, "frozen") == 1
    head = ("fc.weight", "fc.bias")
    assert frozen(model, head, head.__contains__, "update_all") == []
    assert least_batch(model, head, head.__contains__, 32, "update_all") == 2


@pytest.mark.parametrize("method", ["linear_probe", "lora"])
@pytest.mark.parametrize("rule", ["update", "update_all", "frozen"])
def test_only_the_statistics_move(single, tmp_path, method, rule):
    """What anybody can run to see what moving them does, with no weight of the trunk changed."""
    single["model"] |= {"batch_norm_training": rule}
    record = clbench.run(single | {"methods": {method: {}}}, tmp_path / rule)
    seed_everything(0)
    fresh = timm.create_model("resnet10t", num_classes=4).state_dict()
    trained = load_file(tmp_path / rule / "model.safetensors")
    for name in (n for n in fresh if "bn" in n or "running" in n):
        moves = rule == "update_all" and name.endswith(("running_mean", "running_var", "tracked"))
        assert torch.equal(trained[name], fresh[name]) is not moves
    moving = record.tasks[-1].modes.batch_norms_in_training_mode
    assert (moving > 0) is (rule == "update_all")
    # Where the batch normalises, the sixteenth image is not taken alone.
    assert record.tasks[-1].steps == (3 if rule == "update_all" else 4)


@pytest.mark.parametrize("methods", [{}, {"gem": {"samples": 4}}, {"sfa": {"p": 0.5}}], ids=str)
def test_frozen_by_the_recipe_statistics_stay_over_the_stream(
    single, tmp_path, monkeypatch, methods
):
    single["model"] |= {"batch_norm_training": "frozen"}
    single |= {"methods": methods, "epochs": 2}
    record = clbench.run(single, tmp_path / "run")
    torch.manual_seed(0)
    fresh = timm.create_model("resnet10t", num_classes=4).state_dict()
    trained = load_file(tmp_path / "run" / "model.safetensors")
    moved = 0
    for name, x in fresh.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(trained[name], x)
        elif "bn" in name:
            moved += not torch.equal(trained[name], x)
    assert moved >= 10  # weights and biases train
    # A last image alone is trained on: nothing is normalised by the batch.
    assert [(e.steps, e.samples) for e in record.tasks] == [(8, 32)] * 2
    assert record.tasks[-1].modes.batch_norms_in_training_mode == 0
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(single, tmp_path / "cut")
    clbench.run(single, tmp_path / "cut", resume=True)
    again = load_file(tmp_path / "cut" / "model.safetensors")
    assert all(torch.equal(again[name], x) for name, x in trained.items())


def test_chunks():
    index = torch.arange(9)
    assert [c.tolist() for c in chunks(index, 4, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7, 8]]
    assert [len(c) for c in chunks(index, 4, 1)] == [4, 4, 1]
    assert [len(c) for c in chunks(index[:1], 4, 2)] == [1]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 3),
        ({"epochs": 2, "methods": {"replay": {"fraction": 0.2}}}, None),
        ({"methods": {"gem": {"samples": 1}}}, 3),
        ({"methods": {"agem": {"samples": 4, "batch": 1}}}, 3),
        ({"eval_batch_size": 5, "methods": {"sfa": {}}}, 3),
        ({"methods": {"linear_probe": {}}}, 4),  # frozen BatchNorm takes the sixteenth alone
    ],
    ids=str,
)
def test_every_image_is_trained_on_and_none_alone(single, tmp_path, changes, steps):
    if "eval_batch_size" in changes:
        single["model"] |= {"batch_norm": "recompute"}
    record = clbench.run(single | changes, tmp_path / "run")
    if steps:
        assert [(e.steps, e.samples) for e in record.tasks] == [(steps, 16)] * 2


def test_pretraining_too(single, tmp_path):
    single["stream"] |= {"pretrain_classes": [0, 1]}
    single["model"] |= {"weights": "pretrain", "pretraining": {"epochs": 1, "batch_size": 5}}
    single["data_dir"] = str(tmp_path / "data")
    assert clbench.run(single, tmp_path / "run").finished


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stream": {"classes": [[6, 7], [4]], "train_per_class": 1}},
            "task 4: .* 1 training image",
        ),
        ({"per_task": {"6, 7": {"batch_size": 1}}}, "task 6, 7: batch_size = 1"),
    ],
    ids=str,
)
def test_a_task_without_two_images_is_refused_before_the_first(single, tmp_path, changes, message):
    with pytest.raises(ClbenchError, match=message) as error:
        clbench.run(merge(single, changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "record.jsonl").exists()
