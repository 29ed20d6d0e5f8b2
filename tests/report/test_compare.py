import csv
import importlib.util
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from clbench.errors import ClbenchError
from clbench.report import tables
from clbench.report.boards import kept_tables
from clbench.report.compare import compare
from clbench.report.html import page
from clbench.report.spots import pareto
from clbench.report.statistics import difference, mean_of

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)
run_folder = made_up.run_folder


def by_label(comparison, scenario="task_incremental"):
    (section,) = comparison.sections
    return {row.group.label: row for row in section.leaderboard(scenario)}


def warned(comparison, text):
    lines = [*comparison.warnings, *(w for s in comparison.sections for w in s.warnings)]
    return any(text in line for line in lines)


def test_bootstrap_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(0.7, 0.05, 8)
    ours = mean_of(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.std == pytest.approx(values.std(ddof=1))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.002)
    assert ours == mean_of(values)  # drawn the same each time


def test_strata_are_drawn_apart_and_count_alike():
    one, two = [0.1, 0.2, 0.3], [0.9, 0.9, 0.9, 0.9]
    alone, both = mean_of(one), mean_of(one, two)
    assert both.mean == pytest.approx((0.2 + 0.9) / 2)
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / 2, abs=0.01)
    assert mean_of(one, []) is None
    assert mean_of([0.5]).low is None


def test_paired_difference_is_that_of_scipy():
    g = np.random.default_rng(1)
    a, b = g.normal(0.8, 0.02, 5), g.normal(0.78, 0.02, 5)
    ours = difference(dict(enumerate(a)), dict(enumerate(b)))
    theirs = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.paired
    assert ours.n == 5


def test_only_equal_seeds_are_paired():
    found = difference({0: 0.5, 1: 0.6, 7: 0.9}, {0: 0.4, 1: 0.5, 8: 0.1})
    assert (found.n, found.mean) == (2, pytest.approx(0.1))


def test_without_a_common_seed_it_is_welchs_interval():
    g = np.random.default_rng(2)
    a, b = g.normal(0.8, 0.02, 4), g.normal(0.7, 0.05, 6)
    ours = difference(dict(enumerate(a)), {10 + i: x for i, x in enumerate(b)})
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert not ours.paired


def test_one_seed_says_nothing_about_noise():
    assert difference({0: 0.5}, {0: 0.4}).within_noise is None
    assert difference({0: 0.5}, {}) is None


def test_pareto_front():
    assert pareto([(0, 3), (1, 1), (2, 2), (3, 0), (0, 0)]) == [0, 2, 3]
    assert pareto([]) == []


def test_runs_are_grouped_by_everything_but_the_seed(tmp_path):
    for seed, op in ((0, 0.80), (1, 0.82), (2, 0.84)):
        run_folder(tmp_path, {"sfa": {"p": 0.5}}, seed, op, folder=f"a{seed}")
        run_folder(tmp_path, {"sfa": {"p": 0.9}}, seed, op, folder=f"b{seed}")
    rows = by_label(compare([tmp_path]))
    assert set(rows) == {"sfa (p=0.5)", "sfa (p=0.9)"}
    score = rows["sfa (p=0.5)"].scores["overall_performance"]
    assert (score.mean, score.std, score.n) == (pytest.approx(0.82), pytest.approx(0.02), 3)


def test_scores_and_differences_of_both_scenarios(tmp_path):
    for seed in range(3):
        run_folder(tmp_path, None, seed, 0.5 + 0.001 * seed)
        run_folder(tmp_path, {"sfa": {}}, seed, 0.6 + 0.001 * seed)
        run_folder(tmp_path, {"multitask": {}}, seed, 0.9 + 0.001 * seed)
    comparison = compare([tmp_path])
    row = by_label(comparison)["sfa"]
    assert row.scores["average"].mean == pytest.approx((0.601 + 0.7) / 2)
    assert row.scores["learning_accuracy"].mean == pytest.approx(0.601)
    assert row.scores["backward_transfer"].mean == 0
    assert row.scores["seconds"].mean == 3.0
    assert row.versus["sequential"]["overall_performance"].mean == pytest.approx(0.1)
    assert row.versus["multitask"]["overall_performance"].mean == pytest.approx(-0.3)
    half = by_label(comparison, "class_incremental")["sfa"]
    assert half.versus["sequential"]["overall_performance"].mean == pytest.approx(0.05)
    # The bound does not compete: the best is a method.
    assert row.marks["overall_performance"] == "best"
    assert "overall_performance" not in by_label(comparison)["multitask"].marks


def test_a_bound_is_one_whatever_stands_beside_it(tmp_path):
    for seed in (0, 1):
        run_folder(tmp_path, {}, seed, 0.5)
        run_folder(tmp_path, {"sfa": {}}, seed, 0.6)
        run_folder(tmp_path, {"multitask": {}, "l2": {}}, seed, 0.9)
    rows = by_label(compare([tmp_path]))
    marks = {label: row.marks.get("overall_performance") for label, row in rows.items()}
    assert marks["multitask+l2"] is None
    assert marks["sfa"] == "best"


def test_ties_are_marked(tmp_path):
    for seed, noise in enumerate((0.02, -0.03, 0.02, -0.01)):
        run_folder(tmp_path, {"sfa": {}}, seed, 0.80)
        run_folder(tmp_path, {"ewc": {}}, seed, 0.79 + noise)
        run_folder(tmp_path, {"l2": {}}, seed, 0.60 + noise)
    rows = by_label(compare([tmp_path]))
    assert [rows[n].marks.get("overall_performance") for n in ("sfa", "ewc", "l2")] == [
        "best",
        "tie",
        None,
    ]


def test_unfinished_runs_are_listed_and_do_not_count(tmp_path):
    run_folder(tmp_path, None, 0, 0.8)
    run_folder(tmp_path, None, 1, 0.1, end=False)
    comparison = compare([tmp_path])
    assert by_label(comparison)["sequential"].scores["overall_performance"].mean == 0.8
    assert warned(comparison, "Unfinished, and not in any number: sequential-seed1 (2 of 2 tasks)")
    assert warned(comparison, "one seed only")


@pytest.mark.parametrize(
    ("method", "part"), [("sfa", ""), ("replay", " in class-incremental accuracy")]
)
def test_what_little_scope_says_nothing_about(tmp_path, method, part):
    run_folder(tmp_path, {method: {}}, scope=0.0)
    told = f"a difference{part} from runs without it says nothing about it"
    assert warned(compare([tmp_path]), told)


@pytest.mark.parametrize(
    ("one", "other", "text"),
    [
        ({}, {"manifest": "c" * 64}, "Different splits are mixed"),
        ({}, {"weights": "c" * 64}, "Different starting weights under one name, tag"),
        ({}, {"source": "other"}, "Starting weights are mixed"),
        ({}, {"torch": "2.13"}, "Versions of torch are mixed: 2.14 in"),
        ({}, {"active": 0.0}, "Method sfa had no effect"),
        ({}, {"scope": 0.004}, "Method sfa could do next to nothing (scope 0.40% at most)"),
        (
            {},
            {"remarks": [{"method": "sfa", "what": "noise", "detail": "τ = 0"}]},
            "Method sfa: noise, in 2 tasks of sfa-seed0",
        ),
    ],
)
def test_warnings(tmp_path, one, other, text):
    run_folder(tmp_path, None, 0, **one)
    run_folder(tmp_path, {"sfa": {}}, 0, **other)
    assert warned(compare([tmp_path]), text)


def test_a_method_that_could_do_enough_is_not_warned_of(tmp_path):
    run_folder(tmp_path, None, 0)
    run_folder(tmp_path, {"sfa": {}}, 0, scope=0.1)
    assert not warned(compare([tmp_path]), "next to nothing")


def test_weights_pretrained_in_the_run_may_differ_between_seeds_only(tmp_path):
    run_folder(tmp_path, None, 0, source="pretrain", weights="1" * 64)
    run_folder(tmp_path, None, 1, source="pretrain", weights="2" * 64)
    assert not warned(compare([tmp_path]), "weights")
    run_folder(tmp_path, {"sfa": {}}, 1, source="pretrain", weights="3" * 64)
    assert warned(compare([tmp_path]), "pretrain (seed 1)")


def test_the_same_run_twice_counts_once(tmp_path):
    run_folder(tmp_path, None, 0, 0.8)
    run_folder(tmp_path, None, 0, 0.9, folder="zz")
    comparison = compare([tmp_path])
    assert warned(comparison, "zz repeats the recipe and the seed of sequential-seed0")
    assert by_label(comparison)["sequential"].scores["overall_performance"].n == 1


def test_broken_and_just_begun_runs_do_not_stop_the_rest(tmp_path):
    run_folder(tmp_path, None, 0)
    for name, text in (("empty", ""), ("old", '{"event": "run"}\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.jsonl").write_text(text)
    comparison = compare([tmp_path])
    assert len(comparison.runs) == 1
    assert warned(comparison, "empty has only just begun")
    assert warned(comparison, "old ")


def test_streams_are_not_mixed(tmp_path):
    run_folder(tmp_path, None, 0)
    run_folder(tmp_path, None, 0, tasks=3, folder="longer")
    assert len(compare([tmp_path]).sections) == 2


def test_names_of_the_recipe_become_labels(tmp_path):
    for seed in (0, 1):
        run_folder(tmp_path, {"sfa": {}}, seed, title=f"ours-seed{seed}")
    assert set(by_label(compare([tmp_path]))) == {"ours"}


def test_no_runs_is_one_clear_line(tmp_path):
    with pytest.raises(ClbenchError, match="there are no runs in"):
        compare([tmp_path])
    with pytest.raises(ClbenchError, match="there is no folder"):
        compare([tmp_path / "nowhere"])


def test_tables_agree(tmp_path):
    for seed in range(2):
        run_folder(tmp_path, None, seed, 0.5)
        run_folder(tmp_path, {"sfa": {}}, seed, 0.6, title="100%_a&b|c")
    comparison = compare([tmp_path])
    rows = list(csv.DictReader(io.StringIO(tables.leaderboard_csv(comparison))))
    assert [float(r["overall_performance"]) for r in rows] == pytest.approx([0.6, 0.5, 0.3, 0.25])
    assert float(rows[0]["overall_performance_minus_sequential_mean"]) == pytest.approx(0.1)
    assert len(list(csv.DictReader(io.StringIO(tables.runs_csv(comparison))))) == 4
    text = tables.markdown(comparison)
    assert "| 100%\\_a&b\\|c | 2 | **60.0 ± 0.0** |" in text
    latex = tables.latex(comparison)
    assert r"100\%\_a\&b|c & 2 & \textbf{60.0 $\pm$ 0.0} & +10.0 $\dagger$" in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 6
    frame = comparison.table()
    assert frame.shape[0] == 4


def test_figures_from_python(tmp_path):
    for seed in range(2):
        run_folder(tmp_path, None, seed, 0.5)
    comparison = compare([tmp_path])
    assert len(comparison.figure("frontier").axes) == 2
    with pytest.raises(ClbenchError, match="there is no figure 'x'"):
        comparison.figure("x")


def test_of_several_baselines_the_one_compared_with_is_named(tmp_path):
    for rate in (0.1, 0.01):
        config = {"optimizer": {"lr": rate}}
        made_up.run_folder(tmp_path, {}, op=rate, config=config, folder=f"plain-{rate}")
    made_up.run_folder(tmp_path, {"l2": {}}, op=0.6, config={"optimizer": {"lr": 0.1}})
    comparison = compare([tmp_path])
    assert comparison.sections[0].compared("sequential") == {
        "sequential (optimizer.lr=0.1)": ["l2"]
    }
    text = tables.markdown(comparison)
    assert "besides the method: sequential (optimizer.lr=0.1) for l2. Against" in text
    assert "sequential (optimizer.lr=0.01) has learning rate 0.01, not 0.1." in text
    (row,) = [
        row
        for row in tables.rows(comparison)
        if row["method"] == "l2" and row["scenario"] == "task_incremental"
    ]
    assert row["nearest_sequential"] == "sequential (optimizer.lr=0.1)"
    assert row["overall_performance_minus_sequential_mean"] == pytest.approx(0.5)


def test_tasks_that_share_labels_are_not_on_one_board_with_tasks_that_do_not(tmp_path):
    run_folder(tmp_path, {"sfa": {}}, shared_labels=True, folder="a")
    run_folder(tmp_path, {}, folder="b")
    sections = compare([tmp_path]).sections
    assert [[group.label for group in section.groups] for section in sections] == [
        ["sfa"],
        ["sequential"],
    ]
    assert [list(section.scenarios) for section in sections] == [
        ["task_incremental"],
        ["task_incremental", "class_incremental"],
    ]
    assert len({section.title for section in sections}) == 2
    assert "shared labels" in sections[0].title


def test_streams_that_all_share_labels_have_one_accuracy_over_all_of_them(tmp_path):
    for stream in ("permuted_digits", "rotated_digits"):
        for methods in ({}, {"sfa": {}}):
            folder = f"{stream}-{len(methods)}"
            run_folder(tmp_path, methods, stream=stream, shared_labels=True, folder=folder)
    comparison = compare([tmp_path])
    assert comparison.scenarios == {"task_incremental": "domain-incremental"}
    assert "All 2 streams, domain-incremental" in page(comparison, {}, "report")
    assert "class-incremental" not in tables.markdown(comparison)
    for name in ("all_bars", "bars"):
        assert comparison.figure(name, "task_incremental")
        with pytest.raises(ClbenchError, match="the tasks share their labels"):
            comparison.figure(name, "class_incremental")
    for folder, methods in (("own", {}), ("own-sfa", {"sfa": {}})):
        run_folder(tmp_path, methods, folder=folder)
    assert len(compare([tmp_path]).scenarios) == 2


def test_backbones_that_share_labels_or_not_are_in_tables_of_their_own(tmp_path):
    for methods, shared in itertools.product(({}, {"sfa": {}}), (True, False)):
        about = {"shared_labels": shared, "folder": f"{shared}-{len(methods)}"}
        run_folder(tmp_path, methods, **about)
    titles = [table.title for table in kept_tables(compare([tmp_path]), "task_incremental")]
    assert [title.split(", ")[-1].split(":")[0] for title in titles] == [
        "task-incremental",
        "domain-incremental",
    ]
