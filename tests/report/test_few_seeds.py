"""The report says no more than its seeds tell, and warns where there is something to warn of."""

import csv
import io
import json

import numpy as np
import pytest
from report.made_up import run_folder
from scipy import stats

from clbench.report import tables
from clbench.report.bars import bars
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.html import page
from clbench.report.pooled import pooled
from clbench.report.statistics import mean_difference, mean_of, mean_ranks

VALUES = [0.681, 0.683, 0.69, 0.7, 0.66, 0.71, 0.72]


def warnings(comparison):
    return [*comparison.warnings, *(line for s in comparison.sections for line in s.warnings)]


@pytest.mark.parametrize(
    ("count", "kind"), [(1, "none"), (2, "none"), (3, "t"), (4, "t"), (5, "bootstrap")]
)
def test_the_interval_is_what_the_seeds_tell(count, kind):
    found = mean_of(VALUES[:count])
    assert found.interval == kind
    assert (found.low is None) == (kind == "none")
    if kind == "none":
        assert found.values == tuple(VALUES[:count])
    if kind == "t":
        low, high = stats.ttest_1samp(VALUES[:count], 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high))


def test_no_interval_goes_beyond_what_can_be():
    found = mean_of([0.99, 0.95, 1.0], within=(0, 1))
    assert found.high == 1
    assert found.low < 0.95


def test_intervals_of_several_streams_are_satterthwaites():
    one, two = np.array([0.1, 0.2, 0.35]), np.array([0.9, 0.8, 0.95, 0.9])
    # The mean of two streams is half of the sum; the sum's interval is Welch's of a and -b.
    low, high = stats.ttest_ind(one, -two, equal_var=False).confidence_interval(0.95)
    found = mean_of(one, two)
    assert (found.low, found.high) == pytest.approx((low / 2, high / 2))
    gap = mean_difference(dict(enumerate(one)), dict(enumerate(two)))
    assert (gap.low, gap.high) == pytest.approx((low / 2, high / 2))
    assert mean_difference({0: 0.1}, {}) is None
    assert mean_difference({0: 0.1}, {1: 0.3}).low is None


def test_ranks_of_few_seeds_have_no_interval():
    assert mean_ranks([[VALUES[:4]], [VALUES[:4]]])[0].low is None
    assert mean_ranks([[VALUES[:5]], [VALUES[:5]]])[0].low is not None


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_every_table_says_so(tmp_path, seeds):
    for stream in ("one", "two"):
        for seed in range(seeds):
            for name in (None, {"sfa": {}}):
                op = VALUES[seed] + (0.1 + seed / 1000 if name else 0)
                run_folder(tmp_path / "runs", name, seed, op, stream=stream, retention=op / 2,
                           folder=f"{stream}{name}{seed}")  # fmt: skip
    comparison = compare([tmp_path / "runs"])
    told = {1: "none: 1 seed", 2: "none: 2 seeds", 3: "95 % t", 5: "95 % bootstrap"}[seeds]
    for made in (tables.leaderboard_csv, tables.kept_csv, tables.pooled_csv):
        rows = list(csv.DictReader(io.StringIO(made(comparison))))
        key = "target" if made is tables.kept_csv else "overall_performance"
        rows = [row for row in rows if row["method"] != "pretrained"]
        assert {row[f"{key}_interval"] for row in rows} == {told}
        assert all((row[f"{key}_low"] == "") == (seeds < 3) for row in rows)
    text = page(comparison, {}, "title")
    body = text[: text.index('id="how"')]
    if seeds == 1:
        assert "<small>1 seed</small>" in body
        assert "<small>[" not in body
    if seeds == 2:
        assert "<small>68.1 and 68.3</small>" in body
    if seeds == 3:
        assert "] t</small>" in body
    _, caption = bars(comparison.sections[0], "task_incremental")
    said = {3: "with 95 % t intervals", 5: "with 95 % bootstrap intervals"}
    assert said.get(seeds, "without intervals, for want of seeds") in caption
    few = {1: "one seed only", 2: "two seeds only"}
    assert any(few.get(seeds, "nothing") in line for line in warnings(comparison)) == (seeds < 3)


def test_ties_over_all_streams_are_told_with_two_seeds_too(tmp_path):
    for stream in ("one", "two"):
        for seed in range(2):
            run_folder(tmp_path, {"sfa": {}}, seed, 0.7, stream=stream, folder=f"{stream}a{seed}")
            op = 0.69 + (0.02 if seed else -0.02)
            run_folder(tmp_path, {"ewc": {}}, seed, op, stream=stream, folder=f"{stream}b{seed}")
    rows = {row.label: row for row in pooled(compare([tmp_path]), "task_incremental")}
    assert {label.split("-")[1]: row.mark for label, row in rows.items()} == {
        "sfa": "best",
        "ewc": "tie",
    }


@pytest.mark.parametrize("source", ["none", "pretrain"])
def test_weights_that_the_seed_draws_are_no_alarm(tmp_path, source):
    for seed in range(2):
        for methods in (None, {"sfa": {}}):
            run_folder(tmp_path, methods, seed, source=source, weights=str(seed) * 64)
    assert not [line for line in warnings(compare([tmp_path])) if "weights" in line]
    run_folder(tmp_path, {"ewc": {}}, 1, source=source, weights="9" * 64)
    assert [line for line in warnings(compare([tmp_path])) if f"{source} (seed 1)" in line]


def test_one_file_in_two_places_is_no_alarm(tmp_path):
    run_folder(tmp_path, None, 0, source="/home/a/vit.safetensors")
    run_folder(tmp_path, {"sfa": {}}, 0, source="/mnt/b/vit.safetensors")
    assert not [line for line in warnings(compare([tmp_path])) if "weights" in line]
    run_folder(tmp_path, {"ewc": {}}, 0, source="/mnt/c/vit.safetensors", weights="c" * 64)
    assert [line for line in warnings(compare([tmp_path])) if "under one name" in line]


def test_a_method_that_waits_for_the_second_task_is_no_alarm(tmp_path):
    run_folder(tmp_path, None, 0)
    run_folder(tmp_path, {"ewc": {}}, 0, active=0.0, end=False)
    assert not [line for line in warnings(compare([tmp_path])) if "no effect" in line]


def test_other_hardware_and_other_lengths_are_said(tmp_path):
    for number, (methods, epochs) in enumerate(
        ((None, 1), ({"sfa": {}}, 5), ({"multitask": {}}, 9))
    ):
        folder = run_folder(tmp_path, methods, 0, config={"epochs": epochs, "steps": None})
        about = {"python": "3.11", "packages": {}, "processor": "x86_64", "device": "cpu"}
        about |= {"device": f"cuda:{number}", "gpus": ["H100"] * number} if number else {}
        (folder / "environment.json").write_text(json.dumps(about))
    lines = warnings(compare([tmp_path]))
    assert [line for line in lines if line.startswith("Hardware is mixed, so times do not compare")]
    (line,) = [line for line in lines if line.startswith("Methods were trained for different len")]
    assert "epochs = 1 in sequential-seed0; epochs = 5 in sfa-seed0" in line
    assert "multitask" not in line


def test_two_gpus_of_a_machine_are_no_alarm(tmp_path):
    for seed in range(2):
        folder = run_folder(tmp_path, None, seed)
        about = {"processor": "x86_64", "device": f"cuda:{seed}", "gpus": ["H100"] * (seed + 1)}
        (folder / "environment.json").write_text(json.dumps({"python": "3.11"} | about))
    assert not [line for line in warnings(compare([tmp_path])) if "Hardware" in line]


def test_nothing_is_called_the_same_that_nobody_told(tmp_path):
    for seed in range(3):
        folder = run_folder(tmp_path / "runs", None, seed)
        (folder / "environment.json").unlink()
    text = build(compare([tmp_path / "runs"]), tmp_path / "out").read_text()
    assert "No warnings: same splits and weights throughout, but versions are unknown." in text


def test_many_methods_of_one_seed_are_one_line(tmp_path):
    for number in range(8):
        run_folder(tmp_path, {f"m{number}": {}})
    (line,) = [line for line in warnings(compare([tmp_path])) if "one seed only" in line]
    assert line.startswith("m0, m1, m2, m3, m4 and 3 more: one seed only")


def test_the_note_of_a_table_does_not_deny_the_intervals_in_it():
    assert "Fewer than three seeds give no interval" not in tables.NOTE
    assert "t interval from two pairs on" in tables.NOTE
