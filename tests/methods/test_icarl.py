"""iCaRL: other programs' exemplars and answers, the paper's loss, and what a run keeps with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import clbench
from clbench.data.batches import Examples, Split
from clbench.errors import ClbenchError
from clbench.estimate.estimating import estimate
from clbench.methods.binary import binary_distillation, binary_losses
from clbench.methods.exemplars import exemplar_means, herd_ranks, places, select
from clbench.methods.icarl import ICaRL
from clbench.metrics.retained.ncm import nearest_mean
from clbench.models.reference import plain_network
from clbench.models.training import extract
from clbench.recipe.recipe import parse
from clbench.sweep import sweep

PEERS = np.load(Path(__file__).parents[1] / "reference" / "icarl.npz")
FEATURES, LABELS = (torch.from_numpy(PEERS[name]) for name in ("features", "labels"))
PROGRAMS = ["pilot", "pycil"]


def kept(stored, rows, size):
    """Rows, labels and ranks of the memory after a task of these rows more."""
    wanted = places(stored[1], LABELS[rows], size)
    new = rows, LABELS[rows], herd_ranks(FEATURES[rows], LABELS[rows], wanted)
    index, labels, ranks = (torch.cat(pair) for pair in zip(stored, new, strict=True))
    chosen = select(labels, ranks, size, by_class=True)
    return index[chosen], labels[chosen], ranks[chosen]


def memory(tasks):
    """The memory after tasks, each of some classes and of so many places a class so far."""
    stored = (LABELS[:0], LABELS[:0], FEATURES[:0, 0])
    seen = 0
    for classes, per_class in tasks:
        seen += len(classes)
        rows = torch.isin(LABELS, torch.tensor(classes)).nonzero().flatten()
        stored = kept(stored, rows, per_class * seen)
    return stored


def in_their_order(stored):
    """Rows, class after class, in the order in which each herd was chosen."""
    index, labels, ranks = stored
    return sorted(range(len(index)), key=lambda i: (int(labels[i]), float(ranks[i]))), index


@pytest.mark.parametrize("program", PROGRAMS)
def test_exemplars_and_answers_are_those_of_other_programs(program):
    first, second = int(PEERS["per_class_first"]), int(PEERS["per_class_second"])
    order, index = in_their_order(memory([([0, 1], first)]))
    assert index[order].tolist() == PEERS[f"{program}/exemplar_rows_after_first_task"].tolist()
    stored = memory([([0, 1], first), ([2, 3], second)])
    order, index = in_their_order(stored)
    assert index[order].tolist() == PEERS[f"{program}/exemplar_rows_after_second_task"].tolist()
    assert stored[1][order].tolist() == PEERS[f"{program}/exemplar_targets"].tolist()
    means = exemplar_means(FEATURES[index], stored[1], 4)
    np.testing.assert_allclose(means, PEERS[f"{program}/class_means"], rtol=1e-6)
    tested = torch.from_numpy(PEERS["test_features"])
    answers = F.linear(tested, *nearest_mean(means, "cosine")).argmax(1)
    assert answers.tolist() == PEERS[f"{program}/predictions"].tolist()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_memory_of_the_same_size_for_each_class_is_theirs_too(program):
    stored = memory([([0, 1], 8), ([2, 3], 8)])
    order, index = in_their_order(stored)
    assert index[order].tolist() == PEERS[f"{program}/unified_exemplar_rows"].tolist()
    means = exemplar_means(FEATURES[index], stored[1], 4)
    np.testing.assert_allclose(means, PEERS[f"{program}/unified_class_means"], rtol=1e-6)


def test_a_class_without_exemplars_has_no_mean():
    means = exemplar_means(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), 3)
    assert means.tolist() == [[0, 0], pytest.approx([0.6, 0.8]), [0, 0]]


Z, OLD = (torch.randn(5, 6, generator=torch.Generator().manual_seed(n)).double() for n in (0, 1))
Y = torch.tensor([0, 3, 4, 5, 2])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_the_paper_term_by_term(smoothing):
    """Classes 3 to 5 are new; what is of an old one is of none of them."""
    found = binary_losses(Z, Y, torch.tensor([3, 4, 5]), smoothing)
    for z, y, loss in zip(Z, Y, found, strict=True):
        total = 0.0
        for c in (3, 4, 5):
            target = (1 - smoothing) * float(y == c) + smoothing / 3
            g = 1 / (1 + float((-z[c]).exp()))
            total -= target * np.log(g) + (1 - target) * np.log(1 - g)
        assert float(loss) == pytest.approx(total)


def test_distillation_is_the_papers_but_for_what_cannot_be_changed():
    z, old, classes = Z.clone().requires_grad_(), torch.tensor([0, 2]), [0, 2]
    found = binary_distillation(z, OLD, old)
    q, g = OLD.sigmoid(), z.sigmoid()
    paper = -(q * g.log() + (1 - q) * (1 - g).log())[:, classes].sum(1)
    entropy = -(q * q.log() + (1 - q) * (1 - q).log())[:, classes].sum(1)
    torch.testing.assert_close(found, paper - entropy)
    ours, theirs = (torch.autograd.grad(x.sum(), z, retain_graph=True)[0] for x in (found, paper))
    torch.testing.assert_close(ours, theirs)
    assert not ours[:, [1, 3, 4, 5]].any()
    same = binary_distillation(OLD, OLD, old)
    torch.testing.assert_close(same, torch.zeros(5).double())


@pytest.mark.parametrize("size", [90.0, -90.0])
def test_certain_answers_are_no_infinities(size):
    z = torch.full((1, 2), size, requires_grad=True)
    (
        binary_losses(z, torch.tensor([0]), torch.arange(2)).sum()
        + binary_distillation(z, -z.detach(), torch.arange(2)).sum()
    ).backward()
    assert torch.isfinite(z.grad).all()


@pytest.fixture
def small(recipe, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 20, "test_per_class": 20}
    return recipe | {"steps": 4, "batch_size": 8}


def ran(recipe, folder, fields):
    record = clbench.run(recipe | {"methods": {"icarl": fields}}, folder)
    return record, load_file(folder / "model.safetensors")


def test_an_epoch_passes_over_every_exemplar_once(small, tmp_path):
    del small["steps"]
    small["stream"]["validation"] = 0
    small |= {"epochs": 3, "schedule": {"over": "stream"}}
    record, _ = ran(small, tmp_path / "run", {"size": 11})
    assert [event.samples for event in record.tasks] == [3 * 40, 3 * (40 + 11)]
    assert [event.steps for event in record.tasks] == [3 * 5, 3 * 7]
    made = estimate(small | {"methods": {"icarl": {"size": 11}}})
    assert [task.steps for task in made.tasks] == [15, 21]


def mean_of(unit, rows):
    return sum(unit[i] for i in rows) / len(rows)


def chosen_by_a_loop(unit, count):
    """The herd by Algorithm 4: every sample that is left is tried."""
    found = []
    for _ in range(count):
        left = [i for i in range(len(unit)) if i not in found]
        error = {i: float((unit.mean(0) - mean_of(unit, [*found, i])).norm()) for i in left}
        found.append(min(left, key=error.__getitem__))
    return found


def test_exemplars_and_head_by_the_paper_s_algorithms(small, tmp_path, monkeypatch):
    """On the weights that a task ends with: Algorithms 4 and 5, and 1 for the means."""
    heads = []
    absorb = ICaRL.absorb

    def looked_at(self, theta, context):
        before = {}
        for index, label in zip(self._index.tolist(), self._labels.tolist(), strict=True):
            before.setdefault(label, []).append(index)
        rank = dict(zip(self._index.tolist(), self._ranks.tolist(), strict=True))
        absorb(self, theta, context)
        model, train = plain_network(context.model, theta), context.task.train
        per_class = 12 // int(context.seen_C.sum())
        for label in train.labels.unique().tolist():
            rows = train.index[train.labels == label]
            split = Split(train.images, rows, torch.full((len(rows),), label))
            unit = F.normalize(extract(model, split, context.reader), dim=1)
            before[label] = rows[chosen_by_a_loop(unit, per_class)].tolist()
            rank |= {index: place for place, index in enumerate(before[label])}
        head = torch.zeros(4, theta[context.head[0]].shape[1])
        for label, indices in before.items():
            kept = sorted(indices, key=rank.__getitem__)[:per_class]
            assert {*self._index[self._labels == label].tolist()} == {*kept}
            split = Split(train.images, torch.tensor(kept), torch.full((len(kept),), label))
            unit = F.normalize(extract(model, split, context.reader), dim=1)
            head[label] = F.normalize(unit.mean(0), dim=0)
        heads.append(head)

    monkeypatch.setattr(ICaRL, "absorb", looked_at)
    record, weights = ran(small, tmp_path / "run", {"size": 12})
    torch.testing.assert_close(weights["fc.weight"], heads[1], rtol=1e-4, atol=1e-6)
    assert not weights["fc.bias"].any()
    assert len(heads) == 2
    told = [event.methods["icarl"] for event in record.tasks]
    assert [one["stored_samples"] for one in told] == [12, 12]
    assert told[0]["divergence"] == 0 < told[1]["divergence"]
    assert record.tasks[-1].footprint["icarl"].stored_samples == 12


def test_train_logits_have_no_part_in_the_paper_s_loss(small, tmp_path):
    ends = [
        ran(small | {"train_logits": logits}, tmp_path / f"{loss}{logits}", {"loss": loss})[1]
        for loss in ("binary", "softmax")
        for logits in ("task", "seen")
    ]
    same = [torch.equal(one["conv1.weight"], other["conv1.weight"])
            for one, other in (ends[:2], ends[2:])]  # fmt: skip
    assert same == [True, False]


def test_fewer_exemplars_than_classes_are_told(small, tmp_path, capsys):
    record, weights = ran(small, tmp_path / "run", {"size": 3})
    assert "fewer exemplars than classes: 1 classes have none" in capsys.readouterr().out
    assert [len(event.remarks) for event in record.tasks] == [0, 1]
    lengths = weights["fc.weight"].norm(dim=1)
    torch.testing.assert_close(lengths[:4], torch.tensor([1.0, 1, 1, 0]))


def test_past_classes_are_found_again(small, tmp_path):
    small |= {"train_logits": "seen", "steps": 12}
    plain = clbench.run(small, tmp_path / "plain").summary()["class_incremental"]
    for loss in ("binary", "softmax"):
        record, _ = ran(small, tmp_path / loss, {"loss": loss, "size": 20})
        ours = record.summary()["class_incremental"]
        assert ours["overall_performance"] > plain["overall_performance"] + 0.1


def test_augmented_pairs_of_images_are_refused(small):
    with pytest.raises(ClbenchError, match="icarl looks at single samples"):
        parse(small | {"methods": {"icarl": {}}, "augment": {"mixup": 0.5}})


def test_exemplars_join_the_task_s_own_samples():
    method = ICaRL(size=3)
    method.load_state_dict(
        {"index": torch.tensor([7, 9]), "labels": torch.tensor([0, 1]),
         "ranks": torch.zeros(2).double(), "means": torch.empty(0, 0)}
    )  # fmt: skip
    images = object()
    found = method.examples(Examples(Split(images, torch.tensor([3]), torch.tensor([2]))))
    assert found.current.index.tolist() == [3, 7, 9]
    assert found.labels.tolist() == [0, 1, 2]
    assert [method.added(past) for past in (0, 2, 9)] == [0, 2, 3]


def test_a_sweep_takes_exemplars_and_means_anew(small, tmp_path):
    small |= {"checkpoints": "all", "methods": {"wise_ft": {"alpha": 0.5}, "icarl": {"size": 8}}}
    record = clbench.run(small, tmp_path / "run")
    made = sweep(record.folder, "alpha", [0.1, 0.5])
    assert made.reproduced
    one, own = (row.overall_performance["class_incremental"] for row in made.rows)
    assert one != own
