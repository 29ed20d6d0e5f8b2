"""EASE: slow loops for what is pure and for a run of three tasks; what a run changes and keeps."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from written_out import by_hand, seen_by, three_tasks

import clbench
from clbench.errors import ClbenchError
from clbench.methods.adapters import add_adapters
from clbench.methods.ease import EASE, complemented, ensemble
from clbench.models.backbone import features
from clbench.recipe.recipe import parse
from clbench.record.checkpoints import last

#: The paper's, and the authors' program's.
WAYS = [{}, {"others": "mean", "complement": "later"}]


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def slow_prototypes(means, own, later):
    """Prototypes of each class in each space, from means in those of its own and earlier tasks."""
    made = {}
    for k in range(max(own) + 1):
        for c, task in enumerate(own):
            if task >= k:
                made[k, c] = means[k][c]
                continue
            others = [j for j, t in enumerate(own) if (t >= k if later else t == k)]
            alike = np.exp([cosine(means[task][c], means[task][j]) for j in others])
            made[k, c] = sum(
                w * means[k][j] for w, j in zip(alike / alike.sum(), others, strict=True)
            )
    return made


def slow_scores(found, made, own, alpha, others):
    """One image's logits, from its features in each space."""
    spaces = max(own) + 1
    share = alpha / max(1, spaces - 1) if others == "mean" else alpha
    return [
        sum((1 if k == task else share) * cosine(found[k], made[k, c]) for k in range(spaces))
        for c, task in enumerate(own)
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("later", [False, True])
def test_prototypes_and_logits_are_those_of_slow_loops(seed, later):
    random = np.random.default_rng(seed)
    own = np.repeat(np.arange(4), random.integers(1, 4, 4)).tolist()
    means, images = random.normal(size=(4, len(own), 5)), random.normal(size=(6, 4, 5))
    wanted = slow_prototypes(means, own, later)
    hidden = torch.from_numpy(means).clone()
    for k in range(4):
        hidden[k, [task < k for task in own]] = 7.0  # not known, and not read
    places = torch.tensor([*own, -1])
    hidden = torch.cat([hidden, torch.zeros(4, 1, 5)], 1)
    made = complemented(hidden, places, later)
    for (k, c), prototype in wanted.items():
        np.testing.assert_allclose(made[k, c].numpy(), prototype, rtol=1e-12)
    assert torch.equal(made[:, -1], torch.zeros(4, 5).double())
    logits = ensemble(torch.from_numpy(images), made, places, 0.1)
    slow = [slow_scores(one, wanted, own, 0.1, "sum") for one in images]
    np.testing.assert_allclose(logits[:, :-1].numpy(), slow, rtol=1e-12)
    assert torch.equal(logits[:, -1], torch.zeros(6).double())


@pytest.fixture
def small(recipe, no_pictures):
    return three_tasks(recipe)


def ran(recipe, folder, **settings):
    return clbench.run(recipe | {"methods": {"ease": settings}}, folder)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_three_tasks_are_classified_as_by_slow_loops(small, tmp_path, way):
    settings = {"scale": 1.0, "alpha": 0.4} | way
    record = ran(small | {"checkpoints": "last"}, tmp_path / "run", **settings)
    assert [event.steps for event in record.tasks] == [3, 3, 3]
    recipe = small | {"methods": {"ease": settings}}
    tasks, images, plain, weights = seen_by(recipe, tmp_path / "run")

    @torch.no_grad()
    def found(inputs):
        """(images, spaces, features)"""
        each = [weights | {"name": f"adapters.{k}", "scale": 1.0} for k in range(3)]
        parts = [by_hand(plain, own, inputs) for own in each]
        return torch.stack(parts, 1).double().numpy()

    own, means = [0, 0, 1, 1, 2, 2], np.zeros((3, 6, 32))
    for task in tasks:
        of_task, labels = found(images(task.train)), task.train.labels.tolist()
        for label in task.classes:
            mine = [x for x, y in zip(of_task, labels, strict=True) if y == label]
            means[:, label] = sum(mine) / len(mine)
    made = slow_prototypes(means, own, way.get("complement") == "later")
    method = EASE(**settings)
    method.load_state_dict(last(tmp_path / "run")["methods"]["ease"])
    for task, right in zip(tasks, record.tasks[-1].class_incremental, strict=True):
        seen = found(images(task.test))
        slow = [slow_scores(one, made, own, 0.4, way.get("others")) for one in seen]
        logits = method.classifier()(torch.from_numpy(seen).flatten(1).float())
        np.testing.assert_allclose(logits.numpy(), slow, atol=1e-5)
        hits = np.argmax(slow, 1) == task.test.labels.numpy()
        assert right == pytest.approx(hits.mean(), abs=1e-6)


def test_each_task_trains_its_adapters_and_the_head_alone(small, tmp_path):
    record = ran(small, tmp_path / "run", bottleneck=3)
    once = ran(
        small | {"stream": small["stream"] | {"first_tasks": 1}}, tmp_path / "1", bottleneck=3
    )
    weights, first = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "1"))
    same = {name for name in first if torch.equal(first[name], weights[name])}
    assert first.keys() - same == {"head.weight", "head.bias"}  # adapters of task 0 are among them
    assert any(".adapters.0." in name for name in same)
    assert {n.split(".adapters.")[1][0] for n in weights if ".adapters." in n} == set("012")
    own = 2 * (2 * 3 * 32 + 3 + 32)
    assert {event.modes.trained_parameters for event in record.tasks} == {own + 33 * 6}
    # Retention is measured with the adapters of the task just learned, and with no others.
    assert record.tasks[0].retention.top1 == once.tasks[0].retention.top1
    stored = [event.footprint["ease"].stored_bytes for event in record.tasks]
    assert stored == [k * (6 * 32 * 8 + 6 * 8 + 8) + 6 * 8 for k in (1, 2, 3)]


def test_other_measures_see_the_last_adapters_alone(small, tmp_path):
    settings = {"scale": 1.0}
    ran(small, tmp_path / "run", **settings)
    recipe = small | {"methods": {"ease": settings}}
    _, _, plain, weights = seen_by(recipe, tmp_path / "run")
    images = torch.rand(3, 3, *plain.patch_embed.img_size)
    wanted = by_hand(plain, weights | {"name": "adapters.2", "scale": 1.0}, images)
    for k in range(3):
        add_adapters(plain, str(k), 64, 1.0)
    plain.load_state_dict(weights)
    torch.testing.assert_close(features(plain, images), wanted)


def test_without_training_the_trunk_keeps_what_it_knew(small, tmp_path):
    record = ran(small, tmp_path / "run", tuned="never")
    assert [event.steps for event in record.tasks] == [0, 0, 0]
    assert {event.retention.top1 for event in record.tasks} == {record.pretrained.top1}


def test_it_goes_on_alone_and_on_plain_vits(small, recipe):
    for other in ("replay", "sfa", "lora", "ncm", "multitask"):
        for names in (("ease", other), (other, "ease")):
            with pytest.raises(ClbenchError, match=r"ease .* goes with no other; leave it out"):
                parse(small | {"methods": {name: {} for name in names}})
    with pytest.raises(ClbenchError, match=r"ease works on timm's VisionTransformer alone"):
        parse(recipe | {"methods": {"ease": {}}})
