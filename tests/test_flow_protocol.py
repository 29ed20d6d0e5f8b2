"""FLOW's protocol, small: probe, τ, round 1, round 2 and retention, each data set its own way."""

import copy

import numpy as np
import pytest
import timm
import torch
from helpers import interrupt_after
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo

import clbench
from clbench.data.datasets import DataSet, Labelled
from clbench.errors import ClbenchError
from clbench.methods import head_refit
from clbench.runner import network
from clbench.streams import transfer

OWN = {
    "cifar10": {
        "steps": 3,
        "batch_size": 12,
        "optimizer": {"lr": 0.02},
        "augment": {"flip": True},
        "model": {"probe": {"epochs": 3, "lr": 0.2}},
        "methods": {"flow": {"temperature": 0.5}},
        "images": {"stored": 12, "mean": [0.3, 0.4, 0.5], "std": [0.2, 0.25, 0.3]},
    },
    "flowers102": {
        "steps": 5,
        "model": {"probe": {"epochs": 4, "lr": 0.1}},
        "methods": {"flow": {"per": "batch"}, "head_refit": {"probe": {"epochs": 7, "lr": 0.3}}},
        "images": {"fit": "squash"},
    },
}


def load(root):
    """CIFAR-10 as an array of 12 × 12 pixels, the flowers as files that are not square."""

    def made(name, root_, download):
        random = np.random.default_rng(len(name))
        parts, count = [], {"cifar10": 2, "flowers102": 3}[name]
        for part, each in (("train", 12), ("test", 4)):
            labels = np.tile(np.arange(count), each)
            shape = (len(labels), 12, 12, 3) if name == "cifar10" else (len(labels), 20, 40, 3)
            pixels = random.integers(0, 80, shape) + 60 * labels.reshape(-1, 1, 1, 1)
            images = pixels.astype(np.uint8)
            if name != "cifar10":
                folder = root / name / part
                folder.mkdir(parents=True, exist_ok=True)
                paths = [folder / f"{number}.png" for number in range(len(labels))]
                for path, array in zip(paths, images, strict=True):
                    Image.fromarray(array).save(path)
                images = tuple(paths)
            parts.append(Labelled(images, labels))
        return DataSet(name, *parts, tuple(f"{name} {c}" for c in range(count)))

    return made


@pytest.fixture
def recipe(tmp_path, monkeypatch, no_pictures):
    monkeypatch.setattr(transfer.datasets, "load", load(tmp_path))
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=1000).eval()
    torch.nn.init.constant_(model.fc.bias, -1e6)
    for number, label in enumerate([1, 7, 207]):
        wnid = ImageNetInfo("imagenet-1k").index_to_label_name(label)
        folder = tmp_path / "imagenet" / "val" / wnid
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (24, 20), (90 * number, 40 + i, 90)).save(folder / f"{i}.JPEG")
        # The head knows these three classes by the nearest mean of features.
        colour = torch.tensor([90 * number, 40, 90]) / 127.5 - 1
        with torch.no_grad():
            image = colour.view(1, 3, 1, 1).expand(1, 3, 16, 16)
            mean = model.forward_head(model.forward_features(image), pre_logits=True)[0]
            model.fc.weight[label] = 2 * mean
            model.fc.bias[label] = -(mean @ mean)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return {
        "data_dir": str(tmp_path),
        "stream": {
            "name": "transfer6",
            "datasets": ["cifar10", "flowers102"],
            "independent": True,
            "validation": 0.25,
        },
        "images": {"size": 16, "stored": 20},
        "augment": {"crop": "random"},
        "model": {
            "backbone": "test_resnet",
            "weights": str(tmp_path / "weights.safetensors"),
            "head": "linear_probe",
            "probe": {"batch_size": 8, "augment": True},
        },
        "retention": {"batch_norm": "pretrained"},
        "methods": {"flow": {}, "head_refit": {}},
        "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
        "steps": 4,
        "batch_size": 8,
        "per_task": copy.deepcopy(OWN),
        "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
    }


@pytest.fixture
def heads(monkeypatch):
    """What every training of a head was told: whose, with which settings, through which eyes."""
    seen = []

    def watch(module):
        real = module.train_head

        def train_head(model, task, reader, rules, *keys, **more):
            transform = reader.transform
            images = task.train.images.take(task.train.index[:1])
            shift = tuple(round(x, 2) for x in (-transform.shift / transform.scale / 255)[:, 0, 0]
                          .tolist())  # fmt: skip
            stage = module.__name__.rsplit(".", 1)[-1]
            found = real(model, task, reader, rules, *keys, **more)
            losses = found[1]
            seen.append((stage, task.name, rules.epochs, rules.lr, images.shape[-1], shift, losses))
            return found

        monkeypatch.setattr(module, "train_head", train_head)

    watch(network)
    watch(head_refit)
    return seen


def numbers(event):
    """What was measured in a task, but for clocks, memory and its place in the stream."""
    found = {key: getattr(event, key) for key in ("loss", "steps", "samples")}
    found |= event.retention.model_dump(include={"top1", "top5"})
    for name, activity in event.methods.items():
        found |= {f"{name}.{key}": value for key, value in activity.items()}
    validation = event.validation.task_incremental[-1]
    return found | {"test": event.task_incremental[-1], "validation": validation}


def test_every_data_set_goes_its_own_way(recipe, heads, tmp_path):
    record = clbench.run(recipe, tmp_path / "run")
    usual = (0.5, 0.5, 0.5)  # what the network's weights expect
    assert [told[:-1] for told in heads] == [
        ("network", "cifar10", 3, 0.2, 12, (0.3, 0.4, 0.5)),
        ("head_refit", "cifar10", 3, 0.2, 12, (0.3, 0.4, 0.5)),
        ("network", "flowers102", 4, 0.1, 20, usual),
        ("head_refit", "flowers102", 7, 0.3, 20, usual),
    ]
    first, second = record.tasks
    assert [event.steps for event in (first, second)] == [3, 5]
    assert [event.samples for event in (first, second)] == [30, 35]
    # The first data set's τ is not left behind: the second one's is the median again.
    assert first.methods["flow"]["temperature"] == 0.5
    median = float(np.median(heads[2][-1].numpy()))
    assert second.methods["flow"]["temperature"] == pytest.approx(median)
    assert [event.footprint["flow"].weight_copies for event in (first, second)] == [0, 1]
    assert all(event.methods["head_refit"]["active"] == 1 for event in (first, second))
    assert first.methods["head_refit"]["loss"] == pytest.approx(float(heads[1][-1].mean()))
    assert all(event.retention for event in record.tasks)


@pytest.mark.parametrize("name", OWN)
def test_settings_of_a_data_set_are_as_good_as_settings_of_the_run(recipe, tmp_path, name):
    """The data set first in a stream of two, and alone with its settings at the top."""
    order = sorted(OWN, key=lambda other: other != name)
    recipe["stream"]["datasets"] = order
    both = clbench.run(recipe, tmp_path / "both")
    recipe["stream"]["datasets"] = [name]
    alone = clbench.recipe.recipe.merge(recipe, OWN[name]) | {"per_task": {}}
    found = [numbers(run.tasks[0]) for run in (both, clbench.run(alone, tmp_path / "alone"))]
    for one in found:  # images of the pretraining are seen as the run says, not as a task does
        del one["top1"], one["top5"]
    # Alone, the head has fewer rows, so that sums round otherwise.
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_resumes_bit_for_bit(recipe, tmp_path, monkeypatch):
    whole = clbench.run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(recipe, tmp_path / "cut")
    cut = clbench.run(recipe, tmp_path / "cut", resume=True)
    assert [numbers(event) for event in cut.tasks] == [numbers(event) for event in whole.tasks]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_retention_puts_the_original_batch_normalisation_back(recipe, tmp_path):
    """Weights that do not move retain everything; their running statistics moved all the same."""
    recipe |= {"methods": {}, "per_task": {}, "optimizer": {"lr": 1e-30}}
    found = {}
    for rule in ("pretrained", "current"):
        recipe["retention"] = {"batch_norm": rule}
        record = clbench.run(recipe, tmp_path / rule)
        before = record.pretrained
        assert before.top1 == 1
        found[rule] = [event.retention.top1 for event in record.tasks]
    assert found["pretrained"] == [1, 1]
    assert max(found["current"]) < 1


def test_a_task_that_is_not_there_is_named(recipe, tmp_path):
    recipe["per_task"]["flowers101"] = {"steps": 2}
    with pytest.raises(ClbenchError, match=r"flowers101: .* \(did you mean flowers102\?\)"):
        clbench.run(recipe, tmp_path / "run")
