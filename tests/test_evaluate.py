from dataclasses import replace

import pytest
import torch
import torchmetrics.metric
from torch import nn

from clbench.data.batches import Split
from clbench.data.images import JoinedImages, TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.measure import evaluate
from clbench.measure.evaluate import Evaluator
from clbench.metrics import METRICS
from clbench.models.modes import evaluating
from clbench.models.tiny import TinyCNN

OWNER = torch.tensor([0, 0, 1, 1, 2, 2])
PLAIN = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment())


class SlowImages(TensorImages):
    slow = True


def data(count=37, classes=6, kind=TensorImages):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (50, 3, 8, 8), generator=random, dtype=torch.uint8)
    index = torch.randperm(50, generator=random)[:count]
    return Split(kind(pixels), index, torch.arange(count) % classes)


def by_owner(split):
    """A split for each task, in the order of the images."""
    rows = [(OWNER[split.labels] == task).nonzero().flatten() for task in range(3)]
    return [Split(split.images, split.index[r], split.labels[r]) for r in rows]


def evaluator(batch_size=10, workers=0):
    return Evaluator(Reader(PLAIN, batch_size, workers))


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = TinyCNN(6, width=8)
    nn.init.normal_(model.fc.weight, std=3)
    return model


@torch.no_grad()
def each(model, split):
    """Logits and label of one image after the other."""
    model.eval()
    for position, label in zip(split.index.tolist(), split.labels.tolist(), strict=True):
        yield model(PLAIN.test(split.images.tensor[position][None]))[0].tolist(), label


def fraction(right):
    return sum(right) / len(right)


def test_accuracy_against_a_loop(network):
    seen = torch.tensor([True, True, True, True, False, False])
    split = data()
    by_task, by_class = ([], [], []), ([], [], [])
    for logits, label in each(network, split):
        task = int(OWNER[label])
        own = [c for c in range(6) if OWNER[c] == task]
        by_task[task].append(max(own, key=lambda c: logits[c]) == label)
        by_class[task].append(max(range(4), key=lambda c: logits[c]) == label)
    found = evaluator().accuracy(network, by_owner(split), OWNER, seen)
    assert found.task_incremental == [fraction(right) for right in by_task]
    assert found.class_incremental == [fraction(right) for right in by_class]
    assert 0 < min(found.task_incremental) <= max(found.task_incremental) < 1
    assert found.class_incremental[2] == 0  # its classes were not seen


def test_only_the_tasks_asked_for_are_reported(network):
    seen = torch.ones(6, dtype=torch.bool)
    splits = by_owner(data())
    every = evaluator().accuracy(network, splits, OWNER, seen)
    some = evaluator().accuracy(network, [splits[2], splits[0]], OWNER, seen)
    for name in ("task_incremental", "class_incremental"):
        assert getattr(some, name) == [getattr(every, name)[task] for task in (2, 0)]


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (36, 0), (37, 0), (500, 0), (10, 3)])
def test_batches_and_workers_change_nothing(network, batch_size, workers):
    seen = torch.ones(6, dtype=torch.bool)
    wanted = evaluator().accuracy(network, by_owner(data()), OWNER, seen)
    slow = by_owner(data(kind=SlowImages))
    found = evaluator(batch_size, workers).accuracy(network, slow, OWNER, seen)
    assert found == wanted


@pytest.fixture
def processes(monkeypatch):
    """What every process of several would count, and at the end the sum of it all."""

    def run(world, measure):
        counted = []  # the states of each process, in the order in which they are gathered
        monkeypatch.setattr(torchmetrics.metric, "jit_distributed_available", lambda: True)
        for rank in range(world):
            mine = []

            def gather(state, group=None, mine=mine):
                mine.append(state.clone())
                number = len(mine) - 1
                return [others[number] for others in (*counted, mine)]

            monkeypatch.setattr(torchmetrics.metric, "gather_all_tensors", gather)
            monkeypatch.setattr(evaluate, "rank_and_world", lambda rank=rank: (rank, world))
            result = measure()
            counted.append(mine)
        return result

    return run


@pytest.mark.parametrize("world", [2, 3, 5, 40])
@pytest.mark.parametrize("top_k", [False, True])
def test_no_sample_counts_twice_on_several_processes(network, processes, world, top_k):
    split = data()
    split = Split(JoinedImages([split.images]), split.index, split.labels)

    def measure():
        if top_k:
            return evaluator().look(network, split, network.fc)[0]
        seen = torch.ones(6, dtype=torch.bool)
        reading = evaluator().reader
        return Evaluator(reading, tuple(METRICS)).accuracy(network, by_owner(split), OWNER, seen)

    wanted = measure()
    found = processes(world, measure)
    if not top_k:  # sums of numbers that are not whole depend on their order
        for name, values in wanted.metrics.items():
            for scenario, numbers in values.items():
                assert found.metrics[name][scenario] == pytest.approx(numbers, rel=1e-6)
        found, wanted = (replace(scores, metrics={}) for scores in (found, wanted))
    assert found == wanted


@pytest.mark.parametrize("classes", [3, 40])
def test_top_k_against_a_loop(network, classes):
    torch.manual_seed(1)
    head = nn.Linear(network.num_features, classes)
    nn.init.normal_(head.weight, std=3)
    split = data(classes=classes)
    first, best = [], []
    network.fc = nn.Identity()  # another head than the network's own
    for features, label in each(network, split):
        logits = head(torch.tensor(features)).tolist()
        ranks = sorted(range(classes), key=lambda c: -logits[c])
        first.append(ranks[0] == label)
        best.append(label in ranks[:5])
    found = evaluator().look(network, split, head)[0]
    assert found == {"top1": fraction(first), "top5": fraction(best)}
    assert found["top5"] > found["top1"]


def test_every_training_mode_is_as_before(network):
    model = nn.Sequential(nn.BatchNorm2d(3), network, nn.Dropout())
    model.train()
    model[0].eval()  # a frozen normalisation layer
    network.norm2.eval()
    before = {name: module.training for name, module in model.named_modules()}
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert {name: module.training for name, module in model.named_modules()} == before
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert {name: module.training for name, module in model.named_modules()} == before


def test_measuring_leaves_weights_statistics_and_gradients_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 8), nn.BatchNorm2d(6), nn.Flatten()).train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    evaluator().accuracy(model, [data()], OWNER, torch.ones(6, dtype=torch.bool))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    model(torch.zeros(2, 3, 8, 8)).sum().backward()  # still possible afterwards
