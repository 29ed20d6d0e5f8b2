"""What a report compares with: a reference of the user's, and networks for each task alone."""

import csv
import io
import json

import pytest
from report.made_up import run_folder

from clbench.cli import main
from clbench.errors import ClbenchError
from clbench.report import tables
from clbench.report.boards import leaderboard
from clbench.report.compare import compare
from clbench.report.differences import differences
from clbench.report.pooled import pooled
from clbench.report.spots import spots


def place(folder, methods, seed, values, **more):
    """A run of two tasks with accuracies [[a], [b, c]]."""
    made = run_folder(folder, methods, seed, **more)
    lines = [json.loads(x) for x in (made / "record.jsonl").read_text().splitlines()]
    lines[2] |= {"task_incremental": values[0], "class_incremental": values[0]}
    lines[3] |= {"task_incremental": values[1], "class_incremental": values[1]}
    (made / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return made


@pytest.fixture
def runs(tmp_path):
    for seed in range(3):
        gain = 0.01 * seed
        place(tmp_path, {}, seed, [[0.8], [0.4 + gain, 0.8]], retention=0.5)
        place(tmp_path, {"ewc": {}}, seed, [[0.8], [0.5 + gain, 0.7]], retention=0.6)
        place(tmp_path, {"sfa": {}}, seed, [[0.8], [0.6 + 2 * gain, 0.7]], retention=0.65)
    return tmp_path


def shown(section, scenario="task_incremental"):
    table = leaderboard(section, scenario)
    heads = [head.text for head in table.heads]
    return {line[0].text: dict(zip(heads, line, strict=True)) for line in table.body}


def test_differences_are_from_the_reference_that_was_named(runs):
    usual = shown(compare([runs]).sections[0])
    assert usual["sfa"]["ΔOP sequential"].value == pytest.approx(0.055)
    assert usual["sfa"]["ΔRetention sequential"].value == pytest.approx(0.15)
    comparison = compare([runs], reference="ewc")
    (section,) = comparison.sections
    found = shown(section)
    assert found["sfa"]["ΔOP ewc"].value == pytest.approx(0.055)
    assert found["sfa"]["ΔRetention ewc"].value == pytest.approx(0.05)
    assert found["sequential"]["ΔOP ewc"].value == pytest.approx(0.0)
    assert found["ewc"]["ΔOP ewc"].text == "–"
    assert not [head for head in found["sfa"] if head.endswith(" sequential")]
    rows = {line[0].text: line[1].text for line in differences(section, "task_incremental").body}
    assert rows == {"sfa": "ewc", "sequential": "ewc"}
    assert comparison.notes == ("Differences are from ewc, and from multitask where it was run.",)
    row = next(csv.DictReader(io.StringIO(tables.leaderboard_csv(comparison))))
    assert row["method"] == "sfa"
    assert row["nearest_ewc"] == "ewc"
    assert float(row["overall_performance_minus_ewc_mean"]) == pytest.approx(0.055)


def test_what_else_differs_is_marked(runs):
    for seed in range(3):
        for name, methods, rate in (("ewc", {"ewc": {}}, 0.1), ("a", {"l2": {}}, 0.1),
                                    ("b", {"mas": {}}, 0.2)):  # fmt: skip
            config = {"optimizer": {"name": "sgd", "lr": rate}}
            title, values = f"own {name}-seed{seed}", [[0.8], [0.6, 0.7]]
            place(runs / "rates", methods, seed, values, config=config, title=title)
    found = shown(compare([runs / "rates"], reference="ewc").sections[0])
    marked = {name: line["ΔOP ewc"].text.endswith("†") for name, line in found.items()}
    assert marked == {"own ewc": False, "own a": False, "own b": True}


def test_a_reference_that_is_not_there_is_named_with_those_that_are(runs):
    for name in ("lwf", ""):
        told = f"--reference: there are no runs of {name}; there are ewc"
        with pytest.raises(ClbenchError, match=told):
            compare([runs], reference=name)


def test_the_command_takes_it(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["report", str(runs), "--output", str(out), "--reference", "ewc"]) == 0
    page = (out / "report.html").read_text()
    assert "Differences are from ewc" in page
    assert ">ΔOP ewc</button>" in page


def alone(place, seed, **more):
    """A run of two networks for a task each, right in 0.9 of its images."""
    name = f"{more.get('stream', '')}alone"
    made = run_folder(place, {}, seed, folder=f"{name}-{seed}", independent=True, **more)
    lines = [json.loads(x) for x in (made / "record.jsonl").read_text().splitlines()]
    for task in (0, 1):
        own = {"first": task, "task_incremental": [0.9], "class_incremental": [0.9]}
        lines[2 + task] |= own | {"curve": []}
    lines[0]["title"] = f"alone-seed{seed}"
    (made / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_networks_for_each_task_alone_contend_with_none(runs, tmp_path):
    for seed in range(3):
        alone(runs, seed)
    (section,) = compare([runs]).sections
    for scenario in ("task_incremental", "class_incremental"):
        rows = {row.group.label: row for row in section.leaderboard(scenario)}
        assert not rows["alone"].marks
        assert [n for n, r in rows.items() if r.marks.get("overall_performance") == "best"] == [
            "sfa"
        ]
        board = leaderboard(section, scenario)
        assert "alone: a network for each task alone, not ranked" in board.note
        texts = shown(section, scenario)["alone"]
        assert (texts["OP"].text == "–") == (scenario == "class_incremental")
        assert texts["Retention"].text == "70.0 ± 0.0"  # whatever the classes
        frontier = spots([(row.group, 0.9 if row is rows["alone"] else 0.5, 0.5)
                          for row in rows.values()])  # fmt: skip
        assert not any(spot.front for spot in frontier if spot.group.label == "alone")
        assert any(spot.front for spot in frontier)


def test_they_have_no_rank_over_all_streams(tmp_path):
    for stream in ("one", "two"):
        for seed in range(3):
            for methods, op in (({}, 0.5), ({"sfa": {}}, 0.7)):
                name = "".join(methods) or "plain"
                about = {"folder": f"{stream}{name}{seed}", "title": f"{name}-seed{seed}"}
                run_folder(tmp_path, methods, seed, op, stream=stream, **about)
            alone(tmp_path, seed, stream=stream)
    comparison = compare([tmp_path])
    rows = {row.label: row for row in pooled(comparison, "task_incremental")}
    assert {name: row.rank and row.rank.mean for name, row in rows.items()} == {
        "alone": None, "sfa": 1, "plain": 2,
    }  # fmt: skip
    assert [name for name, row in rows.items() if row.mark == "best"] == ["sfa"]
    assert {row.label for row in pooled(comparison, "class_incremental")} == {"sfa", "plain"}


def test_among_themselves_and_beside_the_bound_they_contend(tmp_path):
    for seed in range(3):
        alone(tmp_path, seed)
        about = {"independent": True, "title": f"sfa-seed{seed}"}
        run_folder(tmp_path, {"sfa": {}}, seed, 0.4, **about)
        run_folder(tmp_path, {"multitask": {}}, seed, 0.95)
    (section,) = compare([tmp_path]).sections
    rows = section.leaderboard("task_incremental")
    best = [row.group.label for row in rows if row.marks.get("overall_performance") == "best"]
    assert best == ["alone"]


def test_intransigence_is_measured_from_networks_for_each_task_alone(runs):
    assert "Intransigence" not in shown(compare([runs]).sections[0])["sfa"]
    for seed in range(3):
        alone(runs, seed)
    comparison = compare([runs])
    (section,) = comparison.sections
    found = shown(section)
    assert found["sequential"]["Intransigence"].value == pytest.approx(0.9 - 0.8)
    assert found["sfa"]["Intransigence"].value == pytest.approx(0.9 - 0.75)
    assert found["alone"]["Intransigence"].text == "–"
    # Networks for one task each are no baseline of methods that keep.
    assert found["sfa"]["ΔOP sequential"].value == pytest.approx(0.055)
    assert "measured from alone: plain" in leaderboard(section, "task_incremental").note
    assert "Intransigence" not in shown(section, "class_incremental")["sfa"]
    rows = csv.DictReader(io.StringIO(tables.leaderboard_csv(comparison)))
    row = next(r for r in rows if (r["method"], r["scenario"]) == ("sfa", "task_incremental"))
    assert (row["intransigence_from"], float(row["intransigence_mean"])) == (
        "alone", pytest.approx(0.15),
    )  # fmt: skip
    assert not section.independent


def test_an_interval_of_what_is_kept_ends_where_everything_is(tmp_path):
    for seed, (before, op) in enumerate([(0.9, 1.0), (0.9, 0.3), (0.9, 0.9)]):
        run_folder(tmp_path, {}, seed, op=op, retention=before)
    (group,) = compare([tmp_path]).sections[0].groups
    found = group.estimate("geometric_mean", "task_incremental")
    assert found.high == pytest.approx((1 / 0.9) ** 0.5)  # of no more than every image
    assert found.interval == "t"


def test_networks_for_each_task_alone_are_no_baseline_of_a_stream(tmp_path):
    """They have nothing to keep."""
    for seed in range(3):
        run_folder(tmp_path, seed=seed, op=0.9, independent=True)
        run_folder(tmp_path, {"sfa": {"p": 0.9}}, seed, op=0.7)
    section = compare([tmp_path]).sections[0]
    (sfa,) = (group for group in section.groups if not group.independent)
    assert section.bases("sequential")
    assert section.baseline("sequential", sfa) is None
