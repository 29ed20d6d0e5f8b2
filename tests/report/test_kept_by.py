"""What every measure says is kept, in the report's table, files and figures."""

import csv
import io

import matplotlib as mpl
import pytest
import records
from report.made_up import run_folder

from clbench.report import kept_figures, tables
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.kept_by import kept_by_tables, measures
from clbench.runner.screen import line

FIGURES = kept_figures.frontier_by_measure, kept_figures.kept_over_tasks


@pytest.fixture
def section(tmp_path):
    """Of two methods with three seeds; kept are 0.4 and 0.6 of 0.8, or a little more."""

    def make(retention=0.7, **more):
        for seed in range(3):
            for methods, kept in (({}, 0.4), ({"sfa": {"p": 0.9}}, 0.6)):
                retained = {"knn": kept + 0.02 * seed, "birds/cka": kept / 2}
                run_folder(tmp_path, methods, seed, op=kept, retention=retention,
                           retained=retained, **more)  # fmt: skip
        return compare([tmp_path]).sections[0]

    return make


def cells(table):
    return [[cell.text for cell in line] for line in table.body]


def test_the_table_has_every_measure_before_after_and_kept(section):
    table, birds = kept_by_tables(section())
    heads = [head.text for head in table.heads]
    assert heads == ["Method", "head", "kept", "knn", "kept"]
    first, better, worse = cells(table)
    assert first == ["pretrained", "70.0", "100.0", "80.0", "100.0"]
    # after the second task: the mean of 0.8 and what the run was given
    assert better[0] == "sfa"
    assert better[3:5] == ["71.0 ± 1.0", "88.7 ± 1.3"]
    assert (worse[0], worse[3]) == ("sequential", "61.0 ± 1.0")
    # Images of the user's have a table of their own.
    assert birds.title == f"{table.title} on birds"
    assert [head.text for head in birds.heads] == ["Method", "cka", "kept"]
    assert [line[:2] for line in cells(birds)] == [
        ["pretrained", "80.0"],
        ["sfa", "55.0 ± 0.0"],
        ["sequential", "50.0 ± 0.0"],
    ]


def test_without_a_head_the_rest_is_shown(section, tmp_path):
    found = section(retention=None)
    assert measures(found) == ["knn", "birds/cka"]
    assert [len(table.heads) for table in kept_by_tables(found)] == [3, 3]
    page = build(compare([tmp_path]), tmp_path / "out").read_text()
    assert "No frontier" not in page
    assert "Kept, by every measure" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "measures.csv").read_text())))
    assert [(row["method"], row["measure"]) for row in rows[:2]] == [
        ("sequential", "knn"),
        ("sequential", "birds/cka"),
    ]
    assert float(rows[0]["before"]) == pytest.approx(0.8)
    assert float(rows[0]["after"]) == pytest.approx(0.61)
    assert float(rows[0]["change"]) == pytest.approx(-0.19)
    assert float(rows[0]["kept"]) == pytest.approx(0.61 / 0.8)
    assert rows[0]["kept_interval"] == "95 % t"


def test_with_the_head_alone_nothing_is_added(tmp_path):
    for seed in range(2):
        run_folder(tmp_path, seed=seed)
    comparison = compare([tmp_path])
    (found,) = comparison.sections
    assert kept_by_tables(found) == []
    assert measures(found) == []
    assert all(figure(found, "task_incremental") is None for figure in FIGURES)
    assert "kept by every measure" not in tables.markdown(comparison)


def test_the_frontier_has_a_panel_a_measure_with_methods_at_their_places(section):
    figure, text = kept_figures.frontier_by_measure(section(), "task_incremental")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["head", "knn", "birds/cka"]
    points = {
        tuple(line.get_xydata()[0].round(4))
        for line in figure.axes[1].get_lines()
        if len(line.get_xdata()) == 1
    }
    assert points == {(0.4, 0.7625), (0.6, 0.8875)}
    names = {t.get_text() for t in figure.axes[1].findobj(mpl.text.Text)}
    assert {"sfa", "sequential"} <= names
    assert "Thin lines" in text


def test_over_tasks_all_begin_with_everything_kept(section):
    found = section()
    assert kept_figures.kept_over_tasks(found, "class_incremental") is None  # the same again
    figure, _ = kept_figures.kept_over_tasks(found, "task_incremental")
    lines = [line.get_ydata() for line in figure.axes[1].get_lines() if len(line.get_xdata()) == 3]
    assert [round(float(line[-1]), 4) for line in lines] == [0.8875, 0.7625]
    assert all(line[0] == 1 and line[1] == 1 for line in lines)


def test_a_run_that_measured_less_is_left_out_of_the_panel(section, tmp_path):
    run_folder(tmp_path, {"l2": {"strength": 1.0}}, op=0.5)
    section()
    found = compare([tmp_path]).sections[0]
    figure, _ = kept_figures.frontier_by_measure(found, "task_incremental")
    names = [{t.get_text() for t in axis.findobj(mpl.text.Text)} for axis in figure.axes]
    assert any("l2" in text for text in names[0])
    assert not any("l2" in text for text in names[1])


def test_the_line_of_a_task_names_a_few_measures():
    many = {f"birds/{name}": 0.5 for name in ("knn", "ridge", "ncm", "cka")}
    retained = [many, many | {"knn": 0.25}]
    few, more = (line(records.task_event(0, retained=one)) for one in retained)
    assert "birds/ncm 50.0%, birds/cka 50.0%" in few
    assert "birds/ncm 50.0%, 2 more measures" in more


def test_measures_by_other_settings_are_other_columns(tmp_path):
    """Their numbers cannot be compared."""
    sets = {"birds": {"data": "birds", "measures": {"knn": {"k": 5}}}}
    for seed, settings in enumerate(({}, {"k": 20}, {"k": 1, "temperature": 0.07})):
        config = {"retention": {"measures": {"knn": settings}, "sets": sets}}
        run_folder(tmp_path, seed=seed, retained={"knn": 0.5, "birds/knn": 0.4}, config=config)
    section = compare([tmp_path]).sections[0]
    assert sorted(measures(section)) == ["birds/knn (k=5)", "head", "knn", "knn (k=1)"]
    kept = {seed: run.courses for g in section.groups for run in g.finished for seed in [run.seed]}
    assert "knn" not in kept[2]
    assert kept[0]["knn"]["kept"] == kept[1]["knn"]["kept"] == kept[2]["knn (k=1)"]["kept"]
