"""ZSCL: the paper's loss and mean as slow loops, what it needs, and what a run keeps with it."""

import copy
import math
from types import SimpleNamespace

import clips
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import comparable, interrupt_after
from PIL import Image
from torch import nn

import clbench
from clbench.data.datasets.unlabelled import unlabelled
from clbench.errors import ClbenchError
from clbench.estimate import estimate
from clbench.methods.zscl import ZSCL, similarity_distillation
from clbench.metrics.retained.texts import Texts, write_texts
from clbench.models import ModelConfig
from clbench.models.average import RunningMean
from clbench.models.heads import projects
from clbench.recipe.recipe import parse
from clbench.suite.missing import Inventory

NEW, OLD, TEXTS = (torch.randn(n, 4, generator=torch.Generator().manual_seed(n)).double()
                   for n in (5, 5, 3))  # fmt: skip
OLD = OLD.flip(0) + 0.5


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def divergence(old, new, temperature):
    """KL of two rows of similarities at a temperature."""
    p, q = (softmax([v / temperature for v in row]) for row in (old, new))
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(("temperature", "scale"), [(2.0, 10.0), (1.0, 3.0)])
def test_the_loss_by_loops_over_images_and_texts(temperature, scale):
    tables = []
    for images in (OLD, NEW):
        cosine = [[float(x @ t / x.norm() / t.norm()) for t in TEXTS] for x in images]
        tables.append(scale * np.array(cosine))
    old, new = tables
    of_images = np.mean([divergence(old[i], new[i], temperature) for i in range(5)])
    of_texts = np.mean([divergence(old[:, k], new[:, k], temperature) for k in range(3)])
    found = similarity_distillation(NEW, OLD, TEXTS, temperature, scale)
    assert float(found) == pytest.approx(temperature**2 * (of_images + of_texts))


def test_the_gradient_is_that_of_the_authors_cross_entropies():
    new = NEW.clone().requires_grad_()
    (ours,) = torch.autograd.grad(similarity_distillation(new, OLD, TEXTS, 2.0, 100.0), new)
    z, zo = (100 * F.normalize(x, dim=1) @ F.normalize(TEXTS, dim=1).T for x in (new, OLD))
    total = sum(
        F.cross_entropy(one / 2, (other / 2).softmax(1)) * 4
        for one, other in ((z, zo), (z.T, zo.T))
    )
    torch.testing.assert_close(ours, torch.autograd.grad(total, new)[0])


def test_what_sees_the_same_is_pulled_nowhere():
    same = OLD.clone().requires_grad_()
    found = similarity_distillation(3 * same, OLD, 7 * TEXTS, 2.0, 100.0)  # lengths do not matter
    found.backward()
    assert float(found.detach()) == pytest.approx(0, abs=1e-9)
    assert float(same.grad.abs().max()) < 1e-9


@pytest.mark.parametrize(("interval", "taken"), [(3, [3, 6, 8]), (4, [4, 8]), (99, [8])])
def test_a_task_ends_with_the_mean_of_its_start_and_of_steps(interval, taken):
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3))
    learned = torch.tensor([True, False, False])
    mean = RunningMean(model, ("1.weight", "1.bias"), learned, interval, 8)
    states = [copy.deepcopy(model.state_dict())]
    for step in range(1, 9):
        for value in model.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else value + 1)
        states.append(copy.deepcopy(model.state_dict()))
        mean.after_step(model, step)
        if step < 8:
            assert all(torch.equal(x, states[-1][n]) for n, x in model.state_dict().items())
    assert mean.count == len(taken)
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            assert value == 8
            continue
        since = torch.stack([states[step][name] for step in taken])
        whole = torch.cat([states[0][name][None], since]).mean(0)
        if name.startswith("1."):
            whole[1:] = since.mean(0)[1:]  # new rows were nothing at the start
        torch.testing.assert_close(value, whole)


@pytest.fixture
def small(recipe, no_pictures):
    recipe["stream"] |= {
        "classes": [[4, 5], [6, 7]], "pretrain_classes": [], "train_per_class": 20,
        "test_per_class": 20,
    }  # fmt: skip
    return recipe | {"model": clips.model(), "steps": 4, "batch_size": 8}


def ran(recipe, folder, **fields):
    return clbench.run(recipe | {"methods": {"zscl": clips.settings() | fields}}, folder)


def test_a_run_says_what_it_asks_for(small, tmp_path):
    record = ran(small, tmp_path / "run")
    told = [event.methods["zscl"] for event in record.tasks]
    assert [one["averages"] for one in told] == [2, 2]  # steps 3 and 4
    assert all(one["divergence"] > 0 for one in told)
    footprint = record.summary()["footprint"]
    assert footprint["data_oblivious"]
    assert footprint["reference_data"]
    assert "reference_data" not in clbench.run(small, tmp_path / "2").summary()["footprint"]


def test_similarities_are_kept(small, tmp_path):
    """What a run with it and one without make of the reference images, against before."""
    from safetensors.torch import load_file

    from clbench.methods.image_texts import ImageTexts
    from clbench.models.backbone import features, load

    small |= {"steps": 25, "optimizer": {"name": "adamw", "lr": 3e-3}}
    ends = {}
    for strength in (0.0, 1.0):
        ran(small, tmp_path / f"{strength:g}", strength=strength, interval=0)
        ends[strength] = load_file(tmp_path / f"{strength:g}" / "model.safetensors")
    loaded = load(ModelConfig(**clips.model()), 4, 8)
    images = unlabelled(clips.place() / "images", 8, 99)
    inputs = images.take(torch.arange(12)).float() / 255
    texts = ImageTexts.of(
        SimpleNamespace(
            original_head=loaded.head,
            reader=SimpleNamespace(transform=SimpleNamespace(size=8)),
            device=torch.device("cpu"),
        ),
        *(clips.settings()[name] for name in ("data", "embeddings")),
        99,
    )
    found = {}
    with torch.no_grad():
        before = texts.projection(features(loaded.model, inputs))
        for strength, state in ends.items():
            loaded.model.load_state_dict(state)
            now = texts.projection(features(loaded.model, inputs))
            found[strength] = float(similarity_distillation(now, before, texts.texts_KD, 2, 100))
    assert found[1.0] < found[0.0] / 2


def test_reference_images_are_those_that_the_run_began_with(small, tmp_path, monkeypatch):
    random = np.random.default_rng(1)

    def draw(number):
        pixels = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / f"{number}.png")

    (tmp_path / "mine").mkdir()
    for number in range(4):
        draw(number)
    fields = {"data": str(tmp_path / "mine"), "images": 3}
    whole = ran(small, tmp_path / "whole", **fields)
    with monkeypatch.context() as patch:
        interrupt_after(patch)
        with pytest.raises(KeyboardInterrupt):
            ran(small, tmp_path / "cut", **fields)
    kept = (tmp_path / "mine" / "2.png").read_bytes()
    draw(2)
    recipe = small | {"methods": {"zscl": clips.settings() | fields}}
    with pytest.raises(ClbenchError, match="not those that the run began with") as caught:
        clbench.run(recipe, tmp_path / "cut", resume=True)
    assert "\n" not in str(caught.value)
    (tmp_path / "mine" / "2.png").write_bytes(kept)
    assert comparable(clbench.run(recipe, tmp_path / "cut", resume=True)) == comparable(whole)
    # Tasks may have images of their own.
    recipe["per_task"] = {"6, 7": {"methods": {"zscl": {"data": clips.settings()["data"]}}}}
    other = clbench.run(recipe, tmp_path / "other")
    here, there = ([e.methods["zscl"]["divergence"] for e in r.tasks] for r in (other, whole))
    assert here[0] == there[0]
    assert here[1] != there[1]


def refused(recipe, **fields):
    with pytest.raises(ClbenchError) as caught:
        parse(recipe | {"methods": {"zscl": clips.settings() | fields}})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_it_cannot_work_on_is_refused_when_the_recipe_is_read(small):
    plain = {"backbone": "tiny_cnn", "weights": "none"}
    assert "zscl needs an image tower of CLIP" in refused(small | {"model": plain})
    fresh = small | {"model": clips.model() | {"weights": "none"}}
    assert "model.weights = 'none'" in refused(fresh)
    measured = {"data": clips.settings()["data"], "measures": ["ncm"]}
    assert "on which retention.data measures" in refused(small | {"retention": measured})
    sets = {"data": "none", "sets": {"mine": measured}}
    assert "on which retention.sets.mine measures" in refused(small | {"retention": sets})
    with pytest.raises(ClbenchError, match=r"methods\.zscl\.data"):
        parse(small | {"methods": {"zscl": {}}})
    with pytest.raises(ClbenchError, match="zscl and lora do not go together"):
        parse(small | {"methods": {"zscl": clips.settings(), "lora": {}}})


def test_a_recipe_is_read_without_its_files_and_a_run_stops_before_it_begins(small, tmp_path):
    for field, told in (
        ("data", "is no folder: give one"),
        ("embeddings", "is no file: make it with clbench embed"),
    ):
        recipe = small | {"methods": {"zscl": clips.settings() | {field: "nowhere"}}}
        reason = Inventory(fetch=False).reason(parse(recipe))
        assert reason == f"methods.zscl.{field} is missing"
        for act in (estimate, lambda recipe: clbench.run(recipe, tmp_path / "run")):
            with pytest.raises(ClbenchError, match=rf"methods\.zscl\.{field}: nowhere {told}"):
                act(recipe)
        assert not (tmp_path / "run").exists()


def test_texts_of_another_space_are_refused_before_a_step(small, tmp_path):
    write_texts(tmp_path / "wide.npz", Texts(("a",), torch.ones(1, 9)), {})
    with pytest.raises(ClbenchError, match="embeddings of 9 numbers, and the projection of"):
        ran(small, tmp_path / "run", embeddings=str(tmp_path / "wide.npz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClbenchError, match="there is no image in"):
        ran(small, tmp_path / "run2", data=str(tmp_path / "empty"))


def test_tags_of_image_towers():
    def tower(weights, backbone="vit_base_patch16_clip_224"):
        return projects(ModelConfig(backbone=backbone, weights=weights))

    assert tower("openai")
    assert not tower("openai_ft_in1k")
    assert not tower("augreg_in21k", "vit_base_patch16_224")
    assert not tower("none")


def test_images_at_equal_distances():
    few = unlabelled(clips.place() / "images", 8, 5)
    every = unlabelled(clips.place() / "images", 8, 99)
    assert (len(few), len(every)) == (5, 12)
    chosen = every.take(torch.tensor([0, 2, 4, 7, 9]))
    assert torch.equal(few.take(torch.arange(5)), chosen)


def test_home_is_known():
    method = ZSCL(data="~/a", embeddings="~/b")
    assert "~" not in method.data + method.embeddings
