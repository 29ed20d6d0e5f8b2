"""The scores: other programs' numbers, formulas written out as loops, matrices worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from clbench.record import scores

FOLDER = Path(__file__).parent / "reference"
REFERENCE = json.loads((FOLDER / "metrics.json").read_text())
NAMES = ["overall_performance", "backward_transfer", "forgetting", "learning_accuracy"]
#: Matrices, and what public programs compute of them (PILOT, PyCIL and LibContinual in per cent).
PEERS = json.loads((FOLDER / "peer_scores.json").read_text())
STREAMS = PEERS["streams"]
ABOVE = ("forward_transfer", "mtil_transfer", "mtil_average")


def matrix(stream):
    return np.array(STREAMS[stream]["R"], dtype=float)


def equal(ours, theirs):
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name):
    assert getattr(scores, name)(REFERENCE["R"]) == pytest.approx(REFERENCE[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_never_reads_above_the_diagonal(name):
    R = np.array(REFERENCE["R"])
    R[np.triu_indices(len(R), 1)] = np.nan
    assert getattr(scores, name)(R) == pytest.approx(REFERENCE[name], abs=1e-12)


@pytest.mark.parametrize("stream", STREAMS)
def test_equals_what_other_programs_compute_where_they_mean_the_same(stream):
    R, about = matrix(stream), STREAMS[stream]
    theirs, images, last = about["programs"], about["images"], len(R)
    found = scores.all_scores(R, images, about["before"], about["independent"])
    op, micro = found["overall_performance"], found["overall_performance_micro"]
    equal(op, theirs["mammoth"]["mean_accuracy_after_each"][-1])
    equal(op, theirs["avalanche"]["mean_of_experience_accuracies_after_each"][-1])
    equal(op, theirs["clarena"]["average_accuracy_after_each"][-1])
    equal(100 * op, theirs["libcontinual"]["task_last_after_each"][-1])
    equal(micro, theirs["continuum"]["accuracy_after_each"][-1])
    equal(micro, theirs["avalanche"]["stream_accuracy_after_each"][-1])
    assert 100 * micro == pytest.approx(theirs["pilot"]["total_after_each"][-1], abs=0.005)
    equal(
        100 * found["average_incremental_accuracy"],
        theirs["libcontinual"]["task_overall_average"],
    )
    mean = 100 * found["average_incremental_accuracy_micro"]
    equal(mean, theirs["libcontinual"]["batch_overall_average"])
    for program in ("pilot", "pycil"):  # they round before they average
        assert mean == pytest.approx(theirs[program]["average_accuracy"], abs=0.005)
    for program in ("mammoth", "avalanche", "clarena"):
        value = theirs[program]
        equal(
            found["backward_transfer"],
            value["bwt_after_task"][str(last)]
            if program == "clarena"
            else value["bwt_after_each"][-1]
            if program == "avalanche"
            else value["backward_transfer"],
        )
    equal(found["forgetting"], theirs["continuum"]["forgetting_after_each"][-1])
    if about["before"]:
        equal(found["forward_transfer"], theirs["mammoth"]["forward_transfer"])
        equal(found["forward_transfer"], theirs["avalanche"]["forward_transfer_after_each"][-1])
        zero = scores.forward_transfer(R, 0)
        equal(zero, theirs["continuum"]["forward_transfer_after_each"][-1])
    else:
        assert [found[name] for name in ABOVE] == [None] * 3
    # CLArena's FWT is intransigence with the other sign, without the first task.
    late = scores.intransigence(R[1:, 1:], about["independent"][1:])
    equal(-late, theirs["clarena"]["fwt_after_task"][str(last)])


def test_where_other_programs_mean_something_else_by_a_name():
    R, theirs = matrix("improving"), STREAMS["improving"]["programs"]
    assert scores.forgetting(R) == pytest.approx(0.05333333)  # a task may improve at the end
    assert theirs["mammoth"]["forgetting_lower_triangle"] == pytest.approx(0.11333333)
    assert theirs["avalanche"]["forgetting_after_each"][-1] == -scores.backward_transfer(R)
    assert scores.backward_transfer(R) == pytest.approx(0.03333333)
    assert theirs["continuum"]["backward_transfer_after_each"][-1] == pytest.approx(0.06333333)
    assert theirs["libcontinual"]["backward_transfer_after_each"][-1] == pytest.approx(5.0)
    R, theirs = matrix("unequal"), STREAMS["unequal"]["programs"]["continuum"]
    assert scores.average_incremental_accuracy(R) == pytest.approx(0.91546296)
    assert theirs["accuracy_A_after_each"][-1] == pytest.approx(0.90722222)
    # Where future tasks are evaluated, Continuum's counts them in.
    assert theirs["average_incremental_accuracy_after_each"][-1] == pytest.approx(0.7125)


def slow(R, images, before, alone):
    """All scores as their formulas say."""
    T = len(R)
    after = [sum(R[t][i] for i in range(t + 1)) / (t + 1) for t in range(T)]
    micro = [
        sum(R[t][i] * images[i] for i in range(t + 1)) / sum(images[: t + 1]) for t in range(T)
    ]
    early = range(T - 1)
    return {
        "overall_performance": after[-1],
        "overall_performance_micro": micro[-1],
        "average_incremental_accuracy": sum(after) / T,
        "average_incremental_accuracy_micro": sum(micro) / T,
        "backward_transfer": sum(R[T - 1][i] - R[i][i] for i in early) / (T - 1),
        "forgetting": sum(max(R[t][i] for t in range(i, T - 1)) - R[T - 1][i] for i in early)
        / (T - 1),
        "learning_accuracy": sum(R[i][i] for i in range(T)) / T,
        "forward_transfer": sum(R[i][i + 1] - before[i + 1] for i in early) / (T - 1),
        "mtil_transfer": sum(sum(R[t][i] for t in range(i)) / i for i in range(1, T)) / (T - 1),
        "mtil_average": sum(map(sum, R)) / T**2,
        "intransigence": sum(alone[i] - R[i][i] for i in range(T)) / T,
    }


@pytest.mark.parametrize("count", [2, 3, 8])
def test_equals_the_formulas_as_loops(count):
    draw = np.random.default_rng(count)
    R, before, alone = draw.random((count, count)), draw.random(count), draw.random(count)
    images = draw.integers(1, 999, count)
    found = scores.all_scores(R, images, before, alone)
    assert list(found) == list(scores.LABELS)
    equal(found, slow(R.tolist(), images.tolist(), before.tolist(), alone.tolist()))


@pytest.mark.parametrize(
    ("count", "row", "column"),
    [(1, 0, 0), *((2, r, c) for r in (0, 1) for c in (0, 1))]
    + [(5, r, c) for r in (0, 2, 4) for c in (0, 2, 4)],
)
def test_what_is_not_known_is_none_and_nothing_else(count, row, column):
    draw = np.random.default_rng(7)
    whole, images = draw.random((count, count)), draw.integers(1, 9, count)
    before, alone = np.zeros(count), np.ones(count)
    known = scores.all_scores(whole, images, before, alone)
    R = whole.copy()
    R[row, column] = np.nan
    found = scores.all_scores(R, images, before, alone)
    for name, value in found.items():
        # A score that does not change with an entry does not need it.
        other = whole.copy()
        other[row, column] = 17
        needs = scores.all_scores(other, images, before, alone)[name] != known[name]
        if name == "forgetting" and not needs and row < count - 1:
            continue  # the greatest may stand in another row
        assert value == (None if needs else known[name]), name


def test_anytime_scores_equal_those_of_their_program():
    given = PEERS["anytime"]
    points = [
        (task, {i: a for i, a in enumerate(row) if a is not None})
        for task, row in zip(given["training_task"], given["accuracies"], strict=True)
    ]
    for number in range(1, len(points) + 1):
        lowest = scores.min_accuracy(points[:number])
        worst = scores.worst_case_accuracy(iter(points[:number]))
        assert lowest == pytest.approx(given["average_min_accuracy"][number - 1], abs=1e-12)
        assert worst == pytest.approx(given["worst_case_accuracy"][number - 1], abs=1e-12)


def test_anytime_scores_of_what_was_not_tested():
    assert scores.min_accuracy([]) is None
    assert scores.min_accuracy([(0, {0: 0.5})]) is None
    assert scores.min_accuracy([(0, {0: 0.5}), (2, {0: 0.4, 2: 0.7})]) is None
    assert scores.worst_case_accuracy([(0, {0: 0.5}), (1, {0: 0.4})]) is None


def test_one_task_has_nothing_to_transfer_to():
    found = scores.all_scores([[0.5]], [10], 0.1, [0.75])
    none = ("backward_transfer", "forgetting", "forward_transfer", "mtil_transfer")
    assert found == dict.fromkeys(scores.LABELS, 0.5) | dict.fromkeys(none) | {
        "intransigence": 0.25
    }


@pytest.mark.parametrize("name", [*NAMES, "average_incremental_accuracy", "mtil_transfer"])
@pytest.mark.parametrize("R", [[0.5, 0.5], [[0.1, 0.2]], []])
def test_refuses_what_is_no_square(name, R):
    with pytest.raises(ValueError, match="must be a"):
        getattr(scores, name)(R)


@pytest.mark.parametrize("argument", ["images", "baseline", "reference"])
def test_refuses_what_does_not_fit_the_matrix(argument):
    with pytest.raises(ValueError, match="must be 2 numbers, one a task"):
        scores.all_scores(np.eye(2), **{argument: [1, 2, 3]})
