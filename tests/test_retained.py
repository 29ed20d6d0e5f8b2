"""Measures of what is kept, against other programs' numbers and slow, obvious ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.errors import ClbenchError
from clbench.metrics.retained import ANYWHERE, MEASURES
from clbench.metrics.retained.base import Look, one_hot
from clbench.metrics.retained.cka import LinearCKA, linear_cka
from clbench.metrics.retained.knn import KNN, nearest_votes
from clbench.metrics.retained.ncm import NearestMean
from clbench.metrics.retained.ridge import RidgeProbe, ridge_probe

#: DINO's evaluation by nearest neighbours, and CKA by the notebook of its authors.
PEERS = {
    name: torch.from_numpy(np.atleast_1d(value))
    for name, value in np.load(Path(__file__).parent / "reference/knn_cka.npz").items()
}
LEARNED = PEERS["train_features_raw"], PEERS["train_labels"]
ASKED = PEERS["test_features_raw"]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def look(classes=4, each=6, width=8, seed=0, noise=1.0):
    """Classes around means of their own, with numbers that are not 0, 1, …"""
    middles = drawn(classes, width, seed=seed)
    labels = torch.arange(classes).repeat(each)
    learned, asked = (
        middles[labels] + noise * drawn(len(labels), width, seed=seed + i) for i in (1, 2)
    )
    named = 10 * labels + 7
    everything = torch.cat([learned, asked])
    return Look(everything, asked, named, learned, named, everything)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (1, 0.07), (5, 0.2)])
def test_neighbours_vote_as_in_dinos_program(k, temperature):
    features, labels = LEARNED
    votes = nearest_votes(ASKED, features, labels, int(labels.max()) + 1, k, temperature)
    assert torch.equal(votes.argmax(1), PEERS[f"k{k}_T{temperature}/predictions"])


def test_neighbours_vote_by_hand():
    reference = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    votes = nearest_votes(torch.tensor([[5.0, 0.0]]), reference, torch.tensor([0, 1, 1]), 2, 2, 0.5)
    cosines = 1.0, 2**-0.5
    wanted = [np.exp(cosine / 0.5) / np.exp(cosines[0] / 0.5) for cosine in cosines]
    assert votes.tolist() == [pytest.approx(wanted)]


def test_queries_in_parts_are_as_in_one(monkeypatch):
    features, labels = LEARNED
    whole = nearest_votes(ASKED, features, labels, 20)
    monkeypatch.setattr("clbench.metrics.retained.knn.CHUNK", 7)
    torch.testing.assert_close(nearest_votes(ASKED, features, labels, 20), whole)


def test_a_small_temperature_does_not_overflow():
    features, labels = LEARNED
    votes = nearest_votes(ASKED.float(), features.float(), labels, 20, 5, 1e-4)
    assert votes.isfinite().all()
    nearest = nearest_votes(ASKED.float(), features.float(), labels, 20, 1)
    assert torch.equal(votes.argmax(1), nearest.argmax(1))


@pytest.mark.parametrize("pair", ["XY", "XZ", "YZ"])
@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_that_of_its_authors(pair, debiased):
    ours, theirs = (PEERS[f"cka/{name}"] for name in pair)
    wanted = float(PEERS[f"cka/{pair}/linear_{'debiased' if debiased else 'features'}"])
    assert linear_cka(ours, theirs, debiased) == pytest.approx(wanted, abs=1e-12)


def test_debiased_cka_is_by_song_s_estimate_of_grams_without_diagonals():
    ours, theirs = drawn(12, 5).double(), drawn(12, 30, seed=1).double()

    def hsic(a, b):
        n, one = len(a), torch.ones(len(a), dtype=a.dtype)
        k, m = ((g @ g.T).fill_diagonal_(0) for g in (a, b))
        total = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return torch.trace(k @ m) + total - 2 / (n - 2) * (one @ k @ m @ one)

    wanted = hsic(ours, theirs) / (hsic(ours, ours) * hsic(theirs, theirs)).sqrt()
    assert linear_cka(ours, theirs, True) == pytest.approx(float(wanted), abs=1e-12)


def test_cka_of_few_images_tells_strangers_apart_only_without_bias():
    ours, theirs = drawn(50, 400), drawn(50, 400, seed=1)
    assert linear_cka(ours, theirs) > 0.8
    assert abs(linear_cka(ours, theirs, True)) < 0.1
    assert linear_cka(ours, torch.ones(50, 3)) == 0


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_mean_by_looking_at_each(metric):
    features, labels = LEARNED
    classes = int(labels.max()) + 1
    found = NearestMean(metric=metric).answers(ASKED, features, labels, classes)
    means = [features[labels == label].mean(0) for label in range(classes)]
    for query, answer in zip(ASKED, found.tolist(), strict=True):
        if metric == "cosine":
            near = [float(query @ mean / mean.norm()) for mean in means]
        else:
            near = [-float((query - mean).norm()) for mean in means]
        assert answer == int(np.argmax(near))


def test_the_ridge_probe_is_where_the_gradient_vanishes():
    features, labels = LEARNED
    targets = one_hot(labels, int(labels.max()) + 1)
    weight, bias = (x.requires_grad_() for x in ridge_probe(features, targets, 0.3))
    centred = features - features.mean(0)
    penalty = 0.3 * centred.square().sum(0).mean()
    loss = (features @ weight + bias - targets).square().sum() + penalty * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-9
    assert bias.grad.abs().max() < 1e-9


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_has_a_summary_and_a_setting(name):
    assert MEASURES[name].summary
    assert MEASURES[name].model_fields  # by which runs are told apart


@pytest.mark.parametrize("name", ANYWHERE)
def test_scale_alone_changes_nothing(name):
    """A network whose features are all scaled alike has forgotten nothing."""
    measure = KNN(k=5) if name == "knn" else MEASURES[name]()
    plain = look()
    scaled = Look(
        7 * plain.features_NF,
        7 * plain.queries_QF,
        plain.query_labels_Q,
        7 * plain.reference_MF,
        plain.reference_labels_M,
        plain.before_NF,
    )
    found = measure.score(plain)
    assert found == pytest.approx(measure.score(scaled), abs=1e-6)
    assert found > 0.6  # a quarter by chance
    assert name != "cka" or found == pytest.approx(1)


@pytest.mark.parametrize("name", ANYWHERE)
def test_equal_features_are_worth_chance(name):
    same = torch.ones(24, 8)
    labels = torch.arange(4).repeat(6)
    measure = KNN(k=5) if name == "knn" else MEASURES[name]()
    found = measure.score(Look(same, same, labels, same, labels, drawn(24, 8)))
    assert found == (0 if name == "cka" else 0.25)


def test_queries_of_a_class_that_no_reference_has_are_wrong():
    given = look(noise=0.01)
    stranger = given.query_labels_Q.clone()
    stranger[:6] = 1000
    asked = Look(
        given.features_NF, given.queries_QF, stranger, given.reference_MF, given.reference_labels_M
    )
    assert RidgeProbe().score(asked) == 18 / 24


def test_too_few_images_are_said():
    with pytest.raises(ClbenchError, match=r"knn.k = 20, but there are 8 reference images: lower"):
        KNN().score(look(classes=4, each=2))
    few = torch.ones(3, 2)
    with pytest.raises(ClbenchError, match=r"cka needs 4 images, and there are 3"):
        LinearCKA().score(Look(few, few, few[:, 0], few, few[:, 0], few))


def test_cka_of_images_that_the_network_hardly_tells_apart_is_refused():
    """The estimate without bias of their likeness to themselves is negative."""
    own, labels = torch.zeros(10, 5), torch.arange(10)
    own[0] = 1
    with pytest.raises(ClbenchError, match="cka tells nothing of 10 images"):
        LinearCKA().score(Look(own, own, labels, own, labels, own))
    theirs = drawn(10, 5)
    assert LinearCKA().score(Look(own, own, labels, own, labels, theirs)) == 0
