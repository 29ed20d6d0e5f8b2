"""The scores: other programs' numbers, formulas written out as loops, matrices worked by hand."""

import json
import re
from pathlib import Path

import numpy as np
import peers
import pytest

from clbench.record import scores, stability

FOLDER = Path(__file__).parent / "reference"
REFERENCE = json.loads((FOLDER / "metrics.json").read_text())
NAMES = ["overall_performance", "backward_transfer", "forgetting", "learning_accuracy"]
#: Where a program means something else by a name.
OTHER = [
    ("average_incremental_accuracy", "continuum"),
    ("average_incremental_accuracy_micro", "continuum"),
    ("average_incremental_accuracy_micro", "avalanche"),
    ("backward_transfer", "continuum"),
    ("backward_transfer", "libcontinual"),
    ("forgetting", "mammoth"),
    ("forgetting", "pilot"),
    ("forgetting", "avalanche"),
    ("forgetting", "libcontinual"),
    ("forgetting", "coda_prompt"),
    ("forward_transfer", "continuum"),
    ("forward_transfer", "clarena"),
]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name):
    assert getattr(scores, name)(REFERENCE["R"]) == pytest.approx(REFERENCE[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_never_reads_above_the_diagonal(name):
    R = np.array(REFERENCE["R"])
    R[np.triu_indices(len(R), 1)] = np.nan
    assert getattr(scores, name)(R) == pytest.approx(REFERENCE[name], abs=1e-12)


@pytest.mark.parametrize(("score", "program", "name"), peers.NAMES)
def test_equals_what_other_programs_compute_where_they_mean_the_same(score, program, name):
    other, cells = (score, program) in OTHER, []
    for stream in peers.STREAMS:
        here, there = peers.ours(stream)[score], peers.theirs(stream, program, name)
        cells.append(peers.cell(here, there))
        if there is not None and not other:
            rounds = program in ("pilot", "pycil")  # to two decimals of per cent
            assert here == pytest.approx(there, abs=5.1e-5 if rounds else 1e-12), stream
    assert other == any("≠" in text for text in cells)


def test_what_clarena_calls_forward_transfer_is_intransigence_turned_round():
    for stream, about in peers.STREAMS.items():  # without the first task
        late = scores.intransigence(peers.matrix(stream)[1:, 1:], about["independent"][1:])
        assert -late == pytest.approx(peers.theirs(stream, "clarena", "fwt_after_task"), abs=1e-12)


def test_the_page_has_the_table_of_agreement_and_its_matrix():
    page = (FOLDER.parents[1] / "docs/scores.md").read_text()
    lines = page.splitlines()
    assert not [row for row in peers.rows() if row not in lines]
    found = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(found) == 2
    for code in found:
        exec(compile(code, "scores.md", "exec"), {})
    assert all(f"`{name}`" in page for name in scores.LABELS)


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
    wanted = slow(R.tolist(), images.tolist(), before.tolist(), alone.tolist())
    assert found == pytest.approx(wanted, abs=1e-12)


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
    given = peers.PEERS["anytime"]
    points = [
        (task, {i: a for i, a in enumerate(row) if a is not None})
        for task, row in zip(given["training_task"], given["accuracies"], strict=True)
    ]
    for number in range(1, len(points) + 1):
        lowest = stability.min_accuracy(points[:number])
        worst = stability.worst_case_accuracy(iter(points[:number]))
        assert lowest == pytest.approx(given["average_min_accuracy"][number - 1], abs=1e-12)
        assert worst == pytest.approx(given["worst_case_accuracy"][number - 1], abs=1e-12)


def test_anytime_scores_of_what_was_not_tested():
    assert stability.min_accuracy([]) is None
    assert stability.min_accuracy([(0, {0: 0.5})]) is None
    assert stability.min_accuracy([(0, {0: 0.5}), (2, {0: 0.4, 2: 0.7})]) is None
    assert stability.worst_case_accuracy([(0, {0: 0.5}), (1, {0: 0.4})]) is None


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
