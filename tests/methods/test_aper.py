"""APER, and adapters: a slow loop over plain networks, and what a run changes and keeps."""

import copy

import numpy as np
import pytest
import timm
import torch
from helpers import VIT
from written_out import by_hand, seen_by, three_tasks

import clbench
from clbench.errors import ClbenchError
from clbench.methods.adapters import AdaptedBlock, acting, add_adapters
from clbench.methods.aper import cosines
from clbench.models.backbone import features
from clbench.recipe.recipe import parse
from clbench.record.checkpoints import last
from clbench.runner.exported import rebuilt
from clbench.runner.setup import Setup

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def vit(**options):
    torch.manual_seed(0)
    return timm.create_model("tiny_vit", num_classes=4, img_size=8, depth=2, **options).eval()


def stirred(model):
    """With adapters that do something."""
    for name, parameter in model.named_parameters():
        if ".adapters." in name:
            torch.nn.init.normal_(parameter)
    return model


def test_adapters_are_added_beside_the_mlp_one_at_a_time():
    plain, model = vit(), vit()
    for name in ("one", "two"):
        add_adapters(model, name, 5, 0.3)
    torch.testing.assert_close(model(IMAGES), plain(IMAGES), rtol=0, atol=0)
    copied = copy.deepcopy(stirred(model))
    for name in ("one", "two"):
        own = dict(copied.named_parameters()) | {"name": f"adapters.{name}", "scale": 0.3}
        with acting(copied, name):
            torch.testing.assert_close(features(copied, IMAGES), by_hand(plain, own, IMAGES))
    torch.testing.assert_close(features(copied, IMAGES), by_hand(plain, own, IMAGES))  # the last
    with acting(copied, None):
        torch.testing.assert_close(copied(IMAGES), plain(IMAGES), rtol=0, atol=0)
    add_adapters(copied, "one", 7, 1.0)  # is there
    assert [block.acting for block in copied.blocks] == ["two", "two"]


@pytest.mark.parametrize("number", range(2))
def test_blocks_can_be_computed_again(number):
    torch.manual_seed(number)
    model = vit()
    add_adapters(model, "one", 5, 0.3)
    stirred(model).train()
    once = torch.autograd.grad(model(IMAGES).sum(), list(model.parameters()))
    model.set_grad_checkpointing()
    for ours, theirs in zip(
        torch.autograd.grad(model(IMAGES).sum(), list(model.parameters())), once, strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_blocks_of_other_kinds_are_refused():
    class Other(torch.nn.Identity):
        pass

    model = vit()
    model.blocks[1] = Other()
    with pytest.raises(ClbenchError, match=r"plain ViT blocks, and this \w+ has Block, Other:"):
        add_adapters(model, "one", 5, 0.3)
    with pytest.raises(ClbenchError, match="has none: choose another"):
        add_adapters(timm.create_model("tiny_cnn"), "one", 5, 0.3)
    assert not [m for m in model.modules() if isinstance(m, AdaptedBlock)]


@pytest.fixture
def small(recipe, no_pictures):
    return three_tasks(recipe)


def ran(recipe, folder, **settings):
    return clbench.run(recipe | {"methods": {"aper": settings}}, folder)


def slow_scores(tasks, images, found):
    """Class-incremental accuracy of each task by means of features, sample after sample."""
    means, right = {}, []
    for task in tasks:
        for x, label in zip(found(images(task.train)), task.train.labels.tolist(), strict=True):
            means.setdefault(label, []).append(x)
    means = {label: sum(own) / len(own) for label, own in means.items()}
    for task in tasks:
        hits = []
        for x, label in zip(found(images(task.test)), task.test.labels.tolist(), strict=True):
            cosine = {k: x @ m / np.linalg.norm(x) / np.linalg.norm(m) for k, m in means.items()}
            hits.append(max(cosine, key=cosine.__getitem__) == label)
        right.append(float(np.mean(hits)))
    return right


@pytest.mark.parametrize("variant", ["full", "adapter"])
def test_three_tasks_are_classified_as_by_a_slow_loop(small, tmp_path, variant):
    record = ran(small, tmp_path / "run", variant=variant, scale=1.0)
    assert [event.steps for event in record.tasks] == [3, 0, 0]
    recipe = small | {"methods": {"aper": {"variant": variant}}}
    tasks, images, plain, weights = seen_by(recipe, tmp_path / "run")
    assert any(".adapters.first." in name for name in weights) == (variant == "adapter")
    tuned = copy.deepcopy(plain)
    tuned.load_state_dict({n: x for n, x in weights.items() if "adapters" not in n})
    own = weights | {"name": "adapters.first", "scale": 1.0} if variant == "adapter" else None

    @torch.no_grad()
    def found(inputs):
        parts = [by_hand(plain, None, inputs), by_hand(tuned, own, inputs)]
        return torch.cat(parts, 1).double().numpy()

    wanted = slow_scores(tasks, images, found)
    assert record.tasks[-1].class_incremental == pytest.approx(wanted, abs=1e-6)
    assert not np.allclose(*np.split(found(images(tasks[0].test)), 2, axis=1), atol=1e-3)
    # Retention is that of the adapted network, which rests after the first task.
    told = [event.retention.top1 for event in record.tasks]
    assert len(set(told)) == 1
    moved = [event.distance["pretrained"] for event in record.tasks]
    assert moved[0] > 0
    assert len(set(moved)) == 1


def test_without_training_it_is_the_nearest_mean(small, tmp_path):
    record = ran(small, tmp_path / "run", tuned="never")
    means = clbench.run(small | {"methods": {"ncm": {}}}, tmp_path / "ncm")
    for one, other in zip(record.tasks, means.tasks, strict=True):
        assert one.steps == 0
        assert one.class_incremental == other.class_incremental


@pytest.mark.parametrize("variant", ["full", "adapter"])
def test_what_is_kept_and_what_load_model_makes_of_it(small, tmp_path, variant):
    settings = {"variant": variant, "bottleneck": 3}
    record = ran(small | {"checkpoints": "last"}, tmp_path / "run", **settings)
    stored = {event.footprint["aper"].stored_bytes for event in record.tasks}
    means = 6 * 2 * 32 * 8 + 6 * 8
    network = 4 * (record.run.parameters if variant == "full" else 0)
    assert stored == {means + network}
    adapters = 2 * (2 * 3 * 32 + 3 + 32) + 33 * 6
    trained = adapters if variant == "adapter" else record.run.parameters
    assert record.tasks[0].modes.trained_parameters == trained
    tasks = [(i, name, None) for i, name in enumerate(record.run.tasks)]
    tasks = [(i, name, [2 * i, 2 * i + 2]) for i, name, _ in tasks]
    options = VIT["options"] | {"num_classes": 6, "img_size": 16}
    methods = {"aper": settings}
    setup = Setup.of(parse(small | {"methods": methods}), tmp_path / "run")
    options["img_size"] = setup.recipe.images.size
    model = rebuilt(tmp_path / "run", "tiny_vit", options, methods, tasks, {})
    split, reader = setup.stream.tasks[0].test, setup.network.reader(setup.recipe)
    part = next(iter(reader.batches(split, torch.device("cpu"), [torch.arange(len(split))])))
    with torch.no_grad():
        right = (model(part.inputs).argmax(1) == part.labels).float().mean()
    assert float(right) == pytest.approx(record.tasks[-1].class_incremental[0], abs=0.051)
    sums = last(tmp_path / "run")["methods"]["aper"]["sums"]
    assert cosines(torch.randn(2, 64).double(), sums).shape == (2, 6)


def test_adapters_on_a_cnn_are_refused_as_the_recipe_is_read(recipe):
    with pytest.raises(
        ClbenchError,
        match=r"VisionTransformer alone, .* say methods\.aper\.variant: full, or leave",
    ):
        parse(recipe | {"methods": {"aper": {"variant": "adapter"}}})
    parse(recipe | {"methods": {"aper": {}}})
    for other in ("linear_probe", "lora", "l2p"):
        with pytest.raises(ClbenchError, match=f"aper and {other} do not go together"):
            parse(recipe | {"model": VIT, "methods": {"aper": {}, other: {}}})


def test_the_variant_is_one_for_all_tasks(small, tmp_path):
    recipe = small | {"per_task": {"6, 7": {"methods": {"aper": {"variant": "adapter"}}}}}
    with pytest.raises(ClbenchError, match="say the same for all tasks"):
        ran(recipe, tmp_path / "run")
