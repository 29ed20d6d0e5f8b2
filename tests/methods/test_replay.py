from types import SimpleNamespace

import pytest
import timm
import torch
from helpers import look

import clbench
from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.methods.replay import Replay, herd, quotas
from clbench.models import tiny  # noqa: F401  (registers the tiny backbones)
from clbench.recipe.recipe import parse

SAMPLES = 60
torch.manual_seed(0)
IMAGES = TensorImages(torch.randint(0, 256, (4 * SAMPLES, 3, 8, 8), dtype=torch.uint8))


def make_context(task):
    """Task number ``task`` has 60 images of three classes: 40, 15 and 5."""
    labels = torch.tensor([0] * 40 + [1] * 15 + [2] * 5) + 3 * task
    split = Split(IMAGES, torch.arange(SAMPLES) + SAMPLES * task, labels)
    torch.manual_seed(0)
    return SimpleNamespace(
        task=SimpleNamespace(train=split, classes=range(3 * task, 3 * task + 3)),
        model=timm.create_model("tiny_cnn", num_classes=12, width=8),
        reader=Reader(Transform(8, (0.5,) * 3, (0.5,) * 3, Augment())),
        device=torch.device("cpu"),
        seed=task,
    )


def after(tasks, **fields):
    method = Replay(**fields)
    for task in range(tasks):
        method.start(make_context(task))
        method.finish(make_context(task))
    return method


def stored(method):
    split = method.examples(Examples(make_context(3).task.train)).mixed[0].split
    owner = split.index // SAMPLES
    assert torch.equal(split.labels // 3, owner)
    assert len(split.index.unique()) == len(split)
    return split


def counts(method):
    labels, numbers = stored(method).labels.unique(return_counts=True)
    return dict(zip(labels.tolist(), numbers.tolist(), strict=True))


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_mixture_over_an_epoch(fraction):
    method, context = after(3, fraction=fraction), make_context(3)
    examples = method.examples(Examples(context.task.train))
    method.start(context)
    replayed = total = 0
    seen = []
    for batch in Batches(examples, 8, (0,)):
        method.observe(look(None, batch))
        past = batch.labels < 9
        seen.append(batch.indices[~past])
        replayed, total = replayed + int(past.sum()), total + len(past)
    assert replayed / total == pytest.approx(fraction, abs=0.02)
    assert torch.equal(torch.cat(seen).sort().values, context.task.train.index)
    activity = method.activity()
    assert activity["replayed_share"] == replayed / total
    assert activity["stored_samples"] == method.stored_samples() == 3 * SAMPLES
    assert activity["active"] == 1


def test_neutral_hands_back_the_examples():
    examples = Examples(make_context(3).task.train)
    assert after(3, fraction=0).examples(examples) is examples
    assert Replay().examples(examples) is examples  # nothing stored yet


@pytest.mark.parametrize("selection", ["reservoir", "balanced", "herding"])
def test_size_bounds_all_tasks_together(selection):
    assert len(stored(after(3, size=50, selection=selection))) == 50
    assert len(stored(after(1, size=500, selection=selection))) == SAMPLES


@pytest.mark.parametrize("selection", ["balanced", "herding"])
def test_classes_get_equal_parts(selection):
    assert counts(after(1, size=12, selection=selection)) == {0: 4, 1: 4, 2: 4}
    assert counts(after(1, size=25, selection=selection)) == {0: 10, 1: 10, 2: 5}
    assert counts(after(2, size=25, selection=selection)) == dict(
        zip(range(6), [5, 4, 4, 4, 4, 4], strict=True)
    )


@pytest.mark.parametrize("selection", ["balanced", "herding"])
def test_share_of_each_class(selection):
    method = after(2, share=0.2, selection=selection)
    assert counts(method) == {0: 8, 1: 3, 2: 1, 3: 8, 4: 3, 5: 1}


def test_share_of_each_task():
    assert len(stored(after(2, share=0.25))) == 30


def test_reservoir_is_uniform_over_all_seen():
    hits = torch.zeros(3 * SAMPLES)
    for trial in range(200):
        method = Replay(size=30)
        for task in range(3):
            context = make_context(task)
            context.seed = 1000 * trial + task
            method.finish(context)
        hits[stored(method).index] += 1
    by_task = hits.view(3, SAMPLES).mean(1) / 200
    torch.testing.assert_close(by_task, torch.full((3,), 1 / 6), rtol=0.1, atol=0)


def test_herding_against_a_plain_loop():
    torch.manual_seed(0)
    features = torch.randn(12, 4)
    unit = features / features.norm(dim=1, keepdim=True)
    chosen = []
    for k in range(1, 6):
        candidates = [i for i in range(12) if i not in chosen]
        errors = [(unit.mean(0) - unit[[*chosen, i]].sum(0) / k).norm().item() for i in candidates]
        chosen.append(candidates[errors.index(min(errors))])
    assert herd(features, 5).tolist() == chosen
    assert sorted(herd(features, 12).tolist()) == list(range(12))
    with pytest.raises(ValueError, match=r"count must be in 0…12, got 13"):
        herd(features, 13)


def test_herding_keeps_the_first_of_each_herd_when_places_get_fewer():
    one, two = after(1, size=24, selection="herding"), after(2, size=24, selection="herding")
    old = set(stored(one).index.tolist())
    kept = {i for i in stored(two).index.tolist() if i < SAMPLES}
    assert kept < old


def test_herding_where_tasks_share_labels(recipe, tmp_path, no_pictures):
    """A class has more places than the second task has samples of it."""
    recipe["stream"] |= {"labels": "shared", "classes": [[4, 5], [7, 6]], "train_per_class": 10}
    methods = {"replay": {"size": 500, "selection": "herding"}}
    record = clbench.run(recipe | {"methods": methods, "steps": 1}, tmp_path / "run")
    assert record.tasks[-1].methods["replay"]["stored_samples"] == 2 * 18


@pytest.mark.parametrize("size", [0, 1, 5, 11, 20, 99])
def test_quotas(size):
    sizes = torch.tensor([2, 9, 0, 9, 1])
    places = quotas(sizes, size)
    assert int(places.sum()) == min(size, 21)
    assert (places <= sizes).all()
    open_ = places[places < sizes]
    assert not len(open_) or open_.max() - open_.min() <= 1
    assert not len(open_) or places.max() <= open_.max() + 1


@pytest.mark.parametrize("selection", ["reservoir", "balanced", "herding"])
def test_resumes(selection, tmp_path):
    straight, stopped = (
        after(2, size=20, selection=selection),
        after(1, size=20, selection=selection),
    )
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    resumed = Replay(size=20, selection=selection)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.finish(make_context(1))
    assert torch.equal(stored(resumed).index, stored(straight).index)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 5, "share": 0.1}, "give either size or share"),
        ({"selection": "herding"}, "herding has nothing to choose"),
        ({"fraction": 1.0}, "less than 1"),
        ({"share": 0}, "greater than 0"),
    ],
)
def test_refuses(recipe, fields, message):
    with pytest.raises(ClbenchError, match=message):
        parse(recipe | {"methods": {"replay": fields}})


def test_replay_remembers(recipe, tmp_path):
    recipe |= {"train_logits": "seen", "steps": 12}
    plain = clbench.run(recipe, tmp_path / "plain").summary()
    methods = {"replay": {"fraction": 0.5, "size": 60, "selection": "herding"}}
    record = clbench.run(recipe | {"methods": methods}, tmp_path / "replay")
    name = "class_incremental"
    assert record.summary()[name]["overall_performance"] > plain[name]["overall_performance"] + 0.1
    tasks = [event.methods["replay"] for event in record.tasks]
    assert [task["replayed_share"] for task in tasks] == [0, 0.5, 0.5]
    assert [task["active"] for task in tasks] == [0, 1, 1]
