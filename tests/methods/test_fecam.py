"""FeCAM: the numbers of its authors and of Avalanche, and what is special in runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

import clbench
from clbench.errors import ClbenchError
from clbench.methods.fecam import FeCAM, correlation, mahalanobis, shrunk

PEERS = np.load(Path(__file__).parents[1] / "reference" / "fecam.npz")
#: β, α₁, α₂, and whether covariances are scaled to correlations.
SETTINGS = {
    "full": (0.5, 1, 1, True),
    "shrink_only": (0.5, 0.5, 0.5, False),
    "no_tukey_shrink100_0": (1, 100, 0, True),
}
CASES = sorted({name.split("/")[1] for name in PEERS if name.startswith("authors/")})


def peer(name):
    return torch.from_numpy(PEERS[name]).double()


def close(ours, theirs, room=1e-6):
    torch.testing.assert_close(ours.double(), theirs, rtol=room, atol=room)


def of_class(label):
    return peer("features")[peer("labels") == label]


def classes():
    return range(int(peer("labels").max()) + 1)


@pytest.mark.parametrize("case", CASES)
def test_covariances_and_distances_are_the_authors(case):
    beta, alpha1, alpha2, scaled = SETTINGS[case]
    distances = []
    for label in classes():
        once = shrunk(torch.cov((of_class(label) ** beta).T), alpha1, alpha2)
        close(once, peer(f"authors/{case}/covariances_once_shrunk")[label])
        twice = shrunk(once, alpha1, alpha2)
        used = correlation(twice) if scaled else twice
        close(used, peer(f"authors/{case}/covariances_used")[label])
        mean = of_class(label).mean(0) ** beta
        inverse = torch.linalg.inv(used)
        distances.append(mahalanobis(peer("test_features") ** beta, mean, inverse))
    close(torch.stack(distances, 1), peer(f"authors/{case}/distances"), 1e-3)
    assert torch.equal(torch.stack(distances, 1).argmin(1), peer(f"authors/{case}/predictions"))


def made(parts, **settings):
    """The method after tasks of features and labels, without a network."""
    method, count = FeCAM(**settings), len(classes())
    for features, labels in parts:
        if not method._memory:
            sums = {name: torch.zeros(count, features.shape[1]).double()
                    for name in ("plain", "transformed")}  # fmt: skip
            method._memory = sums | {"counts": torch.zeros(count, dtype=torch.int64)}
        beta = method._power(float(features.min()))
        for label in labels.unique().int().tolist():
            own = features[labels == label]
            method._memory["plain"][label] += own.sum(0)
            method._add(label, own**beta)
    return method


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize(
    ("settings", "case"),
    [({}, "authors/full"), ({"mean": "transformed"}, "avalanche"),
     ({"beta": 1, "alpha1": 100, "alpha2": 0}, "authors/no_tukey_shrink100_0")],
)  # fmt: skip
def test_classes_met_in_several_tasks_are_as_of_one(tasks, settings, case):
    parts = zip(peer("features").chunk(tasks), peer("labels").chunk(tasks), strict=True)
    method = made(parts, **settings)
    scores = method.classifier()(peer("test_features").float())
    theirs = peer(f"{case}/scores") if case == "avalanche" else -peer(f"{case}/distances")
    close(scores, theirs, 1e-3)
    assert torch.equal(scores.argmax(1), peer(f"{case}/predictions"))
    again = FeCAM(**settings)
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.classifier()(peer("test_features").float()), scores)


def test_shrinking_once_is_the_paper_s():
    once = made([(peer("features"), peer("labels"))], shrinkages=1)
    inverse = torch.linalg.inv(correlation(shrunk(torch.cov((of_class(0) ** 0.5).T), 1, 1)))
    ours = -once.classifier()(peer("test_features").float())[:, 0]
    mean = of_class(0).mean(0) ** 0.5
    close(ours, mahalanobis(peer("test_features") ** 0.5, mean, inverse), 1e-4)


def test_features_below_0_are_left_as_they_are_or_refused():
    features, labels = peer("features") - 1, peer("labels")
    assert float(made([(features, labels)])._memory["beta"]) == 1
    for settings, parts in (
        ({"beta": 0.5}, [features]),
        ({}, [features + 1, features]),  # of a trunk that has become another
    ):
        with pytest.raises(ClbenchError, match=r"fecam\.beta = .* say beta: 1"):
            made([(part, labels) for part in parts], **settings)
    changed = made([(features + 1, labels)])
    changed.beta = 1.0
    with pytest.raises(ClbenchError, match=r"all tasks have one, here 0\.5"):
        changed._power(0.1)


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.5, 1e-6, 1])
def test_any_power_is_that_of_all_tasks(beta):
    parts = list(zip(peer("features").chunk(2), peer("labels").chunk(2), strict=True))
    method = made(parts, beta=beta)
    assert float(method._memory["beta"]) == beta
    again = FeCAM(beta=beta)
    again.load_state_dict(method.state_dict())
    assert again._power(0.1) == beta


def test_a_test_image_whose_features_fall_below_0_has_distances():
    classify = made([(peer("features"), peer("labels"))]).classifier()
    features = peer("test_features").float()
    features[0, :2] = torch.tensor([-0.1, -1e-6])
    scores = classify(features)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores[0], classify(features.clamp(min=0))[0])


def test_features_that_rest_and_lone_samples_leave_distances_finite():
    features, labels = peer("features").clone(), peer("labels").clone()
    features[:, 0] = 0
    labels[labels == 4] = 3
    labels[0] = 4  # alone
    for settings in ({}, {"alpha1": 0, "alpha2": 0}):
        scores = made([(features, labels)], **settings).classifier()(features.float())
        assert torch.isfinite(scores).all()
    assert int(scores[0].argmax()) == 4


def test_the_footprint_counts_a_covariance_a_class(recipe, tmp_path, no_pictures):
    recipe["stream"] |= {"classes": [[4, 5], [6, 7]], "train_per_class": 20}
    record = clbench.run(recipe | {"steps": 2, "methods": {"fecam": {}}}, tmp_path / "run")
    stored = [event.footprint["fecam"].stored_bytes for event in record.tasks]
    width, head = 16, 2 * 4 * 16 * 8 + 4 * 8 + 8
    assert stored == [head + seen * 4 * width**2 for seen in (2, 4)]
    assert record.tasks[0].methods["fecam"]["beta"] == 0.5
