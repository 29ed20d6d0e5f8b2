"""Heads that are made of statistics: the numbers of other programs, and what is special in runs."""

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import clbench
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.methods.knn import neighbour_scores
from clbench.methods.ncm import nearest_mean
from clbench.methods.ranpac import CANDIDATES, choose_ridge, ridge
from clbench.methods.slda import discriminant, stream
from clbench.recipe.recipe import parse
from clbench.runner.exported import Classified

PEERS = np.load(Path(__file__).parents[1] / "reference" / "heads.npz")


def peer(name):
    return torch.from_numpy(PEERS[name])


def close(ours, theirs, room=1e-9):
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=room, atol=room)


def means(upto):
    found, labels = peer("ncm/features"), peer("ncm/labels")
    return torch.stack([found[labels == label].mean(0) for label in range(upto)])


@pytest.mark.parametrize(("task", "upto"), [(0, 3), (1, 6)])
def test_nearest_means_by_cosine_are_simplecil_s(task, upto):
    close(means(upto), peer(f"ncm/simplecil_prototypes_task{task}"))
    weight, bias = nearest_mean(means(upto), "cosine")
    assert bias is None
    tested = peer("ncm/test_features")
    cosines = F.normalize(tested, dim=1) @ weight.T
    close(cosines, peer(f"ncm/simplecil_logits_task{task}"))
    chosen = (tested @ weight.T).argmax(1)
    assert torch.equal(chosen, peer(f"ncm/simplecil_predictions_task{task}"))


def test_nearest_means_by_distance_are_avalanche_s():
    weight, bias = nearest_mean(means(6), "euclidean")
    tested = peer("ncm/test_features")
    logits = tested @ weight.T + bias
    distances = (tested.square().sum(1, keepdim=True) - 2 * logits).clamp(min=0).sqrt()
    close(-distances, peer("ncm/avalanche_scores_normalize0"), 1e-5)
    assert torch.equal(logits.argmax(1), peer("ncm/avalanche_predictions_normalize0"))


def streamed(count, batch):
    found, labels = peer("slda/features_in_order")[:count], peer("slda/labels_in_order")[:count]
    sums, counts = torch.zeros(7, 8).double(), torch.zeros(7, dtype=torch.int64)
    scatter = torch.zeros(8, 8).double()
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        stream(sums, counts, scatter, start, found[part], labels[part])
    return sums / counts.clamp(min=1)[:, None], scatter / count, counts


@pytest.mark.parametrize("batch", [1, 7, 200])
@pytest.mark.parametrize("shrinkage", ["0.0001", "0.01"])
def test_a_stream_of_samples_gives_slda_s_head(shrinkage, batch):
    name = f"slda/shrinkage{shrinkage}_streaming"
    early = streamed(10, batch)
    close(early[0], peer(f"{name}/means_after_10"))
    close(early[1], peer(f"{name}/sigma_after_10"))
    mean, sigma, counts = streamed(102, batch)
    close(mean, peer(f"{name}/means"))
    close(sigma, peer(f"{name}/sigma"))
    weight, bias = discriminant(mean, sigma, float(shrinkage))
    close(weight.T, peer(f"{name}/W"), 1e-6)
    scores = peer("slda/test_features") @ weight.T + bias
    close(scores, peer(f"{name}/scores"), 1e-6)
    assert torch.equal(scores.argmax(1), peer(f"{name}/predictions"))
    assert int(counts.sum()) == 102


def test_random_features_give_ranpac_s_heads_and_ridges():
    random = F.relu(peer("ranpac/features") @ peer("ranpac/W_rand"))
    targets = F.one_hot(peer("ranpac/labels"), 7).double()
    tested = F.relu(peer("ranpac/test_features") @ peer("ranpac/W_rand"))
    gram, sums = torch.zeros(20, 20).double(), torch.zeros(20, 7).double()
    close(torch.tensor(CANDIDATES, dtype=torch.float64), peer("ranpac/candidates"))
    ends, labels = np.cumsum([0, *PEERS["ranpac/task_sizes"]]), peer("ranpac/labels")
    for task, (start, end) in enumerate(itertools.pairwise(ends)):
        own = (labels >= start) & (labels < end)
        strength, errors = choose_ridge(random[own], targets[own])
        name = f"ranpac/task{task}/authors"
        assert strength == pytest.approx(float(peer(f"{name}_lambda")))
        found = torch.tensor(errors, dtype=torch.float64)
        close(found, peer(f"{name}_validation_losses"), 1e-6)
        gram += random[own].T @ random[own]
        sums += random[own].T @ targets[own]
        close(gram, peer(f"{name}_G"))
        close(sums, peer(f"{name}_Q"))
        head = ridge(gram, sums, strength)
        wanted = peer(f"{name}_head")
        close(head[: len(wanted)], wanted, 1e-6)
        logits = tested @ head[: len(wanted)].T
        close(logits, peer(f"{name}_logits"), 1e-6)
        assert torch.equal(logits.argmax(1), peer(f"{name}_predictions"))


@pytest.mark.parametrize("least", [0.5, -1e-3])  # where it is below 0, by rounding, not positive
def test_a_ridge_solves_its_equations(least):
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double())[
        0
    ]
    gram = turn @ torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, least]).double().diag() @ turn.T
    targets = torch.arange(12.0).view(6, 2)
    kept = gram.clone()
    weights = ridge(gram, targets, 1e-8)
    assert torch.equal(gram, kept)
    shifted = gram + 1e-8 * torch.eye(6).double()
    torch.testing.assert_close(shifted @ weights.T, targets.double())


def test_ridges_of_few_samples_are_those_of_many_features():
    random = torch.Generator().manual_seed(3)
    features = torch.randn(25, 60, generator=random, dtype=torch.float64).relu()
    targets = F.one_hot(torch.arange(25) % 4, 4).double()
    fitted, judged = features[:20], features[20:]
    strength, errors = choose_ridge(features, targets)
    slow = [
        F.mse_loss(judged @ ridge(fitted.T @ fitted, fitted.T @ targets[:20], s).T, targets[20:])
        for s in CANDIDATES
    ]
    close(torch.tensor(errors, dtype=torch.float64), torch.stack(slow), 1e-5)
    assert strength == CANDIDATES[int(torch.stack(slow).argmin())]


@pytest.fixture
def small(recipe, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 20, "test_per_class": 20}
    return recipe | {"steps": 2, "batch_size": 8}


def ran(recipe, folder, methods):
    record = clbench.run(recipe | {"methods": methods}, folder)
    return record, load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["ncm", "slda", "ranpac", "knn", "fecam"])
def test_what_is_never_trained_makes_no_step_and_forgets_no_feature(small, tmp_path, name):
    fields = {"features": 64} if name == "ranpac" else {}
    record, weights = ran(small, tmp_path / "run", {name: fields})
    assert [event.steps for event in record.tasks] == [0, 0]
    assert [event.retention.top1 for event in record.tasks] == [record.pretrained.top1] * 2
    assert [event.distance["pretrained"] for event in record.tasks] == [0, 0]
    if name in ("ncm", "slda"):  # nothing is drawn, and rows of an earlier class stay as they are
        _, once = ran(small | {"stream": small["stream"] | {"first_tasks": 1}}, tmp_path / "1",
                      {name: fields})  # fmt: skip
        same = torch.equal(weights["fc.weight"][:2], once["fc.weight"][:2])
        assert same == (name == "ncm")
    assert record.tasks[-1].class_incremental[0] > 0.5
    assert min(record.tasks[-1].task_incremental) > 0.7


@pytest.mark.parametrize("name", ["ranpac", "knn", "fecam"])
def test_statistics_classify_in_full_precision_where_the_network_passes_in_less(
    small, tmp_path, monkeypatch, name
):
    kind, found = METHODS[name], []

    def watched(self, features_BF, whole=kind._classify):
        scores = whole(self, features_BF)
        found.append((features_BF.dtype, scores.dtype, (features_BF @ features_BF.T).dtype))
        return scores

    monkeypatch.setattr(kind, "_classify", watched)
    small["trainer"] = small["trainer"] | {"precision": "bf16-mixed"}
    record, _ = ran(small, tmp_path / "run", {name: {"features": 64} if name == "ranpac" else {}})
    assert record.finished
    assert {types[0] for types in found} == {types[2] for types in found} == {torch.float32}
    assert all(types[1].itemsize >= 4 for types in found)


@pytest.mark.parametrize("name", ["knn", "product"])
def test_what_was_exported_classifies_in_full_precision_under_autocast(name):
    random = torch.Generator().manual_seed(0)
    model, images = nn.Flatten(), torch.rand(4, 3, 2, 2, generator=random)
    method = SimpleNamespace(to_classify=lambda model, images: model(images).bfloat16())
    features, labels = torch.rand(6, 12, generator=random), torch.arange(6) % 3
    classify = {
        "knn": lambda found: neighbour_scores(found, features, labels, 3, 2, 0.07),
        "product": lambda found: found @ features.T,
    }[name]
    exported = Classified(model, method, classify)
    plain = exported(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(exported(images), plain)


@pytest.mark.parametrize(
    ("tuned", "steps"), [("never", [0, 0]), ("first", [2, 0]), ("always", [2, 2])]
)
def test_tasks_in_which_the_network_is_tuned(small, tmp_path, tuned, steps):
    record, weights = ran(small, tmp_path / "run", {"ncm": {"tuned": tuned}})
    assert [event.steps for event in record.tasks] == steps
    lengths = weights["fc.weight"].norm(dim=1)
    torch.testing.assert_close(lengths[:4], torch.ones(4))


def test_the_footprint_counts_what_grows_as_the_square(small, tmp_path):
    record, _ = ran(small, tmp_path / "run", {"ranpac": {"features": 500}})
    stored = record.tasks[-1].footprint["ranpac"].stored_bytes
    assert stored == 4 * (500 * 500 + 500 * 16 + 2 * 500 * 4)


def test_ranpac_on_a_trunk_that_lora_tuned_in_the_first_task(small, tmp_path):
    methods = {"lora": {"rank": 2}, "ranpac": {"features": 64, "tuned": "first"}}
    record, _ = ran(small, tmp_path / "run", methods)
    assert [event.steps for event in record.tasks] == [2, 0]


def test_one_head_alone(small):
    heads = ("ncm", "slda", "ranpac", "knn", "fecam", "aper", "head_refit")
    for pair in itertools.combinations(heads, 2):
        for names in (pair, pair[::-1]):
            with pytest.raises(ClbenchError, match="each makes the head"):
                parse(small | {"methods": {name: {} for name in names}})
    with pytest.raises(ClbenchError, match=r"or say methods\.ncm\.tuned: first"):
        parse(small | {"methods": {"ncm": {}, "l2": {}}})
    for tuned in ("never", "first"):
        with pytest.raises(
            ClbenchError, match=r"nothing to train.* in training.* one of them out$"
        ):
            parse(small | {"methods": {"ncm": {"tuned": tuned}, "lwf": {}}})
    parse(small | {"methods": {"ncm": {"tuned": "first"}, "l2": {}}})
    parse(small | {"methods": {"ncm": {"tuned": "always"}, "lwf": {}}})


KNN_PEERS = np.load(Path(__file__).parents[1] / "reference" / "knn_cka.npz")


@pytest.mark.parametrize("key", [k for k in KNN_PEERS if k.endswith("/predictions")])
def test_neighbours_vote_as_in_dino_s_evaluation(key):
    numbers = re.fullmatch(r"k(\d+)_T([\d.]+)/predictions", key)
    stored, labels, asked = (
        torch.from_numpy(KNN_PEERS[name])
        for name in ("train_features_raw", "train_labels", "test_features_raw")
    )
    count = int(labels.max()) + 1
    given = (count + 2, int(numbers[1]), float(numbers[2]))  # two classes that nothing is stored of
    votes = neighbour_scores(asked, stored, labels, *given)
    assert torch.equal(votes.argmax(1), torch.from_numpy(KNN_PEERS[key]))
    assert (votes[:, count:] < votes[:, :count].min()).all()


def test_among_classes_without_a_neighbour_the_nearest_sample_decides():
    random = torch.Generator().manual_seed(0)
    stored, asked = (torch.randn(n, 5, generator=random, dtype=torch.float64) for n in (60, 9))
    labels = torch.arange(6).repeat(10)
    found = neighbour_scores(asked, stored, labels, 6, 1, 0.07)
    cosines = F.normalize(asked, dim=1) @ F.normalize(stored, dim=1).T
    for row, near in zip(found, cosines, strict=True):
        best = [near[labels == c].max() for c in range(6)]
        assert row.argmax() == labels[near.argmax()]
        assert row.argsort(descending=True).tolist() == sorted(range(6), key=lambda c: -best[c])
    few = neighbour_scores(asked, stored[:3], labels[:3], 6, 20, 0.07)  # fewer than k are stored
    assert few.isfinite().all()


def test_so_many_features_of_each_class_are_kept_and_no_image(small, tmp_path):
    record, _ = ran(small, tmp_path / "run", {"knn": {"per_class": 5}})
    assert [event.methods["knn"]["stored"] for event in record.tasks] == [10, 20]
    footprint = record.tasks[-1].footprint["knn"]
    assert (footprint.stored_samples, footprint.past_data) == (0, False)
    assert footprint.stored_bytes == 20 * (16 * 4 + 8)
