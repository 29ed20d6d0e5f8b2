"""Pictures stay readable with many tasks and methods, and draw names as they are."""

import csv
import io
import logging
import re

import matplotlib as mpl
import numpy as np
import pytest
from report.made_up import run_folder
from report.test_report import write

from clbench.report import figures, fonts, labels, pictures, tables
from clbench.report.compare import compare
from clbench.report.html import page
from clbench.runner.outputs import _matrices
from clbench.text.texts import cell, slug

ODD = ["Ba$$in", "$x_1^{", "a_b^c", "100 % {", "\\frac{1}{2}"]


def texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


@pytest.mark.parametrize("count", [3, 20, 50])
def test_pictures_of_a_run_are_bounded_and_alike(tmp_path, count):
    record = write(tmp_path, count, curve=True)
    made = figures.figures(record)
    for figure in made.values():
        figure.draw_without_rendering()
        assert max(figure.get_size_inches()) <= figures.WIDTH
    heat = made["accuracy_matrix"].axes[0]
    assert bool(heat.texts) == (count <= figures.NUMBERS)
    assert all(text.get_fontsize() >= 8 for text in heat.texts)
    assert len(heat.get_xticks()) <= 12
    lines = [line for line in made["curves"].axes[0].get_lines() if len(line.get_xdata()) > 2]
    markers = {line.get_marker() for line in lines}
    assert len(markers) == 1  # all tasks or none


def test_a_lone_point_is_seen_among_lines(tmp_path):
    figure = figures.curves(write(tmp_path, 25))
    last = figure.axes[0].get_lines()[24]
    assert len(last.get_xdata()) == 1
    assert last.get_marker() == "o"


def test_numbers_are_left_out_before_they_are_too_small(tmp_path):
    heat = figures.accuracy_matrix(write(tmp_path, 10)).axes[0]
    width = heat.get_window_extent().width / heat.figure.dpi * 72 / 10  # of a cell, in points
    assert all(len(t.get_text()) * t.get_fontsize() * 0.64 < width for t in heat.texts)


def test_names_are_no_mathematics(tmp_path):
    record = write(tmp_path, len(ODD), tasks=ODD, title="$\\alpha$ ^{")
    made = figures.figures(record)
    for figure in made.values():
        figure.draw_without_rendering()  # would raise ParseException
        assert any("$\\alpha$ ^{" in text for text in texts(figure))
    legend = [text.get_text() for text in made["curves"].legends[0].get_texts()]
    assert legend == [f"{i + 1}: {name}" for i, name in enumerate(ODD)]
    assert not any(
        t.get_parse_math() for t in made["curves"].findobj(mpl.text.Text) if "$" in t.get_text()
    )


def test_names_are_no_mathematics_in_a_report(tmp_path):
    for label in ODD:
        run_folder(
            tmp_path,
            {"sfa": {"x": label}},
            title=f"{label}-seed0",
            folder=slug(label) + "0",
            names=ODD[:2],
        )
    comparison = compare([tmp_path])
    for place, (svg, _) in pictures.draw(comparison).items():
        if place[2] in ("curves", "matrices", "over_tasks"):
            assert "Ba$$in" in svg, place
    for name in ("frontier", "curves", "bars"):
        comparison.figure(name).draw_without_rendering()


def test_characters_without_a_font_are_numbers_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_family", lambda character: None)
    record = write(tmp_path, 2, tasks=["数字", "деревья"])
    made = figures.figures(record)
    for figure in made.values():
        figure.draw_without_rendering()  # a missing glyph would be a warning, so an error
    assert texts(made["curves"]).count("1: \\u6570\\u5b57") == 1
    assert texts(made["curves"]).count("2: деревья") == 1
    line = figures.lacking_fonts(record)
    assert "(CJK)" in line
    assert "\n" not in line


def test_a_font_that_has_the_characters_is_found(tmp_path, monkeypatch):
    # DejaVu Sans stands for a font that the usual one lacks characters of.
    serif = frozenset(range(32, 0x250))
    monkeypatch.setattr(fonts, "_usual", lambda: serif)
    fonts._family.cache_clear()
    try:
        assert fonts._family("д")
        assert fonts._family("\U0010fffd") is None
        with fonts.literal(["деревья"]):
            assert len(mpl.rcParams["font.family"]) == 2
            assert mpl.rcParams["text.parse_math"] is False
    finally:
        fonts._family.cache_clear()
    with fonts.literal(["Über"]):
        assert mpl.rcParams["font.family"] == ["sans-serif"]


def test_a_browser_draws_any_script(tmp_path, caplog):
    run_folder(tmp_path, {"sfa": {}}, names=["数字", "اسم"], title="数字-seed0")
    with caplog.at_level(logging.WARNING):
        made = pictures.draw(compare([tmp_path]))
    svg, _ = made[0, "task_incremental", "curves"]
    assert "数字" in svg
    assert "اسم" in svg


def test_methods_are_named_at_their_points(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(26):
        op, kept = generator.uniform(0.4, 0.9, 2)
        run_folder(tmp_path, {f"m{number}": {}}, 0, op, retention=kept, names=["a", "b"])
    run_folder(tmp_path, None, 0, 0.3, retention=0.2, names=["a", "b"])
    figure = compare([tmp_path]).figure("frontier")
    named = {text.get_text() for text in figure.axes[1].texts}
    assert len(named) >= 25
    assert "sequential" in named
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["on the Pareto front", "dominated", "sequential"]
    dominated = [line for line in figure.axes[1].get_lines() if line.get_color() == "#7f858f"]
    assert dominated
    assert all(line.get_markersize() < 5 for line in dominated)


def test_settings_of_a_method_are_a_curve(tmp_path):
    for rate in (0.1, 0.2, 0.4):
        run_folder(tmp_path, {"ewc": {}}, 0, 0.5 + rate, retention=0.8 - rate, folder=str(rate),
                   config={"optimizer": {"lr": rate}})  # fmt: skip
    axis = compare([tmp_path]).figure("frontier").axes[1]
    curve = next(
        line
        for line in axis.get_lines()
        if line.get_linestyle() == "-" and len(line.get_xdata()) == 3
    )
    assert curve.get_xdata().tolist() == pytest.approx([0.6, 0.7, 0.9])
    assert {text.get_text() for text in axis.texts} == {"0.1", "0.2", "ewc, lr = 0.4"}


def test_no_name_lies_on_another_or_on_a_point():
    figure = mpl.figure.Figure(figsize=(4, 4))
    axis = figure.subplots()
    places = np.random.default_rng(1).uniform(0, 1, (30, 2))
    found = [labels.Label(x, y, f"method {i}") for i, (x, y) in enumerate(places)]
    axis.plot(*places.T, "o", ms=4)
    left = labels.place(axis, found)
    figure.draw_without_rendering()
    boxes = [mpl.text.Text.get_window_extent(text) for text in axis.texts]
    assert len(boxes) == 30 - len(left)
    assert len(boxes) > 15
    pixels = axis.transData.transform(places)
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert not any(box.contains(x, y) for x, y in pixels)


def test_without_retention_there_is_no_panel_for_it(tmp_path):
    run_folder(tmp_path, {"sfa": {}}, retention=None)
    comparison = compare([tmp_path])
    assert len(comparison.figure("over_tasks").axes) == 1
    made = pictures.draw(comparison)
    assert not any(name.startswith("frontier") for _, _, name in made)
    assert "(left)" not in made[0, "task_incremental", "over_tasks"][1]
    assert "and retention (right)" not in page(comparison, made, "x")


def test_cells_are_no_formulas_and_numbers_stay_numbers(tmp_path):
    names = ["=1+1", "+a", "-b", "@c", "-0.5", "＝x", " =y"]
    assert [cell(n) for n in names] == ["'=1+1", "'+a", "'-b", "'@c", "-0.5", "'＝x", "' =y"]
    assert [cell(x) for x in (-0.5, None, True, "a=b")] == [-0.5, None, True, "a=b"]
    for seed in range(2):
        run_folder(tmp_path, {"sfa": {}}, seed, 0.5, title=f"=cmd|' /C calc'!A0-seed{seed}",
                   stream="@SUM(1)", names=["=a", "-b"])  # fmt: skip
        run_folder(tmp_path, None, seed, 0.7, stream="@SUM(1)", names=["=a", "-b"])
    comparison = compare([tmp_path])
    for made in (tables.leaderboard_csv, tables.runs_csv, tables.kept_csv):
        lines = list(csv.reader(io.StringIO(made(comparison))))
        for text in (text for line in lines for text in line):
            assert not text.startswith(("=", "+", "@"))
            if text.startswith("-"):
                float(text)
    rows = list(csv.DictReader(io.StringIO(tables.leaderboard_csv(comparison))))
    assert any(float(row["overall_performance_minus_sequential_mean"] or 0) < 0 for row in rows)
    matrix = list(csv.reader(io.StringIO(_matrices(comparison.runs[0].record))))
    assert matrix[0][2:] == ["'=a", "'-b"]
    assert {line[1] for line in matrix[1:]} == {"'=a", "'-b"}


def test_print_keeps_headings_with_their_tables():
    from importlib import resources

    css = resources.files("clbench.report").joinpath("templates", "style.css").read_text("utf-8")
    printed = css[css.index("@media print") :]
    assert re.search(r"h3::after \{[^}]*height: 50mm; margin-bottom: -50mm", printed)
    assert re.search(r"h3, caption \{ break-inside: avoid", printed)


def test_steps_are_whole_numbers_on_the_axis_of_a_short_run(tmp_path):
    figure = figures.curves(write(tmp_path, 3))
    figure.axes[-1].set_xlim(1, 3)
    assert all(float(tick).is_integer() for tick in figure.axes[-1].get_xticks())
