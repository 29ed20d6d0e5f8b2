"""Pages of methods are made from their classes; numbers are looked up, and ours have records."""

import csv
import importlib.util
import io
import shutil

import pytest
from rich.console import Console

from clbench.cli import listing
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.recipe.yamlfile import PLACES, find
from clbench.record.reading import fit
from clbench.report import reported as file
from clbench.report.reported import RESULTS, Reported, in_table, ours, reported


@pytest.fixture(scope="module")
def tool():
    path = RESULTS.parents[1] / "tools" / "method_pages.py"
    spec = importlib.util.spec_from_file_location("method_pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", METHODS)
def test_pages_are_current(tool, name):
    path = tool.ROOT / "docs" / "methods" / f"{name}.md"
    assert path.is_file(), "python tools/method_pages.py"
    assert path.read_text("utf-8") == tool.page(name), "python tools/method_pages.py"


def test_the_index_has_them_all_and_no_other(tool):
    text = tool.INDEX.read_text("utf-8")
    assert text == tool.index(text), "python tools/method_pages.py"
    assert {path.stem for path in (tool.ROOT / "docs" / "methods").glob("*.md")} == {*METHODS}


def test_a_page_says_what_the_class_says(tool):
    page = tool.page("ranpac")
    for text in ("| `features` | `10000` |", "`absorb`", "Is post hoc", "92.11", "not run"):
        assert text in page
    assert "methods: {si:" in tool.page("si")
    assert "`temperature: .inf`" in tool.page("flow")
    assert "si acts while a task is trained" in tool.page("si")
    assert "as a merge of one sequence's weights" in tool.page("fisher_merge")


def test_numbers_have_sources_and_commands_that_can_be_run():
    seen = set()
    for row in reported():
        key = (row.method, row.stream, row.weights, row.score)
        assert key not in seen
        seen.add(key)
        assert "memory" not in row.source
        if row.command and "--config" in row.command:
            find(row.command.split("--config ")[1].split()[0])
        elif row.command:
            places = [place.parent / "suites" for place in PLACES]
            find(row.command.split("compare ")[1].split()[0], places, "suite")
        assert (row.record is None) == (row.row is None)
        if row.record:
            assert ours(row) is not None, "a number of ours has no record"


ROW = {
    "method": "ewc",
    "stream": "s",
    "weights": "w",
    "score": "overall_performance",
    "scenario": "class_incremental",
    "reported": 50.0,
    "source": "x",
}


def test_a_number_of_ours_is_that_of_a_table_whose_records_are_there(tmp_path, monkeypatch):
    page = "imagenet_forgetting"
    (tmp_path / page / "records").mkdir(parents=True)
    shutil.copy(RESULTS / page / "table.csv", tmp_path / page)
    with (RESULTS / page / "table.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["scenario"] == "class_incremental"]
    row = Reported(**ROW, record=page, row=rows[0]["method"])
    assert ours(row, tmp_path) is None  # no record
    for run in rows[0]["runs"].split():
        (tmp_path / page / "records" / run).mkdir()
    found = ours(row, tmp_path)
    assert found.value == float(rows[0]["overall_performance"])
    assert (found.low, found.seeds) == (
        float(rows[0]["overall_performance_low"]),
        int(rows[0]["seeds"]),
    )
    assert ours(Reported(**ROW, record=page, row="no such row"), tmp_path) is None
    assert ours(Reported(**ROW), tmp_path) is None
    assert not list(in_table("overall_performance", "class_incremental", "nowhere", tmp_path))
    monkeypatch.setattr(listing, "reported", lambda: (row, Reported(**ROW | {"method": "other"})))
    monkeypatch.setattr(listing, "ours", lambda number: found)
    console = Console(width=250, file=io.StringIO())
    listing.verified(["ewc"], console)
    told = console.file.getvalue()
    assert f"{100 * found.value:.1f}" in told
    assert f"({found.seeds} seeds), docs/results/{page}\n" in told
    assert "1 of 1 reported numbers" in told
    assert "other" not in told.split("1 of 1")[0]


def test_what_is_no_number_is_refused():
    for change in ({"reported": 101.0}, {"score": "f1"}, {"scenario": "x"}, {"more": 1}):
        with pytest.raises(ClbenchError):
            fit(file._File, {"rows": [ROW | change]}, "reported.yaml")


def test_the_command(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["list"]) == 0
    assert "wise_ft" in capsys.readouterr().out
    assert main(["list", "--verified"]) == 0
    told = capsys.readouterr().out
    for text in ("reported 92.11, ours not run", "--config field/l2p.yaml", "95 % interval"):
        assert text in told
    alone = next(line for line in told.splitlines() if "docs/results/mofo_stream, hft" in line)
    assert alone.endswith("tiny_cnn: python studies/mofo_stream.py --run")
    assert "sd_lora" in told or "sd_lora" not in METHODS
