"""Records and comparisons in notebooks: what is shown, that it is text, and small."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from report.made_up import run_folder

import clbench
from clbench.errors import ClbenchError
from clbench.record.record import Record
from clbench.report.compare import compare

BAD = "<script>alert(1)</script>&\"'"


class Reads(HTMLParser):
    """Names of elements, and the texts of table cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cells, self.inside, self.attributes = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        self.inside = tag
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.inside in ("td", "th"):
            self.cells[-1] += data.strip()


@pytest.fixture
def runs(tmp_path):
    for seed in (0, 1):
        run_folder(tmp_path, {}, seed, op=0.6 + seed / 100, tasks=3)
        run_folder(tmp_path, {"sfa": {"p": 0.9}}, seed, op=0.8 + seed / 100, tasks=3)
    return tmp_path


def test_a_record_shows_its_scores_and_curves(runs):
    record = clbench.Record.load(runs / "sfa-seed0")
    shown = record._repr_html_()
    seen = Reads(shown)
    op = record.summary()["class_incremental"]["overall_performance"]
    row = seen.cells.index("OP")
    assert seen.cells[row + 2] == f"{100 * op:.1f}"
    assert seen.elements.count("svg") == 1
    assert "script" not in seen.elements
    assert "http" not in re.sub(r"<!--.*?-->", "", shown)
    assert len(shown) < 100_000
    assert shown == record._repr_html_()  # equal bytes for equal records
    assert isinstance(record, Record)
    assert repr(record) == f"clbench.Record.load('{runs / 'sfa-seed0'}'), 3 of 3 tasks"


def test_a_comparison_shows_methods_and_the_trade_off(runs):
    made = compare([runs])
    seen = Reads(made._repr_html_())
    row = seen.cells.index("sfa")
    assert seen.cells[row + 1] == "2"
    mean = made.table().set_index(["scenario", "method"]).overall_performance
    assert seen.cells[row + 2].startswith(f"{100 * mean['task_incremental', 'sfa']:.1f} ± ")
    assert seen.elements.count("svg") == 1
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_names_from_outside_are_text(tmp_path):
    folder = run_folder(tmp_path, {"sfa": {}}, title=BAD, stream=BAD, names=[BAD, "b"])
    for shown in (clbench.Record.load(folder), compare([tmp_path])):
        seen = Reads(shown._repr_html_())
        assert "script" not in seen.elements
        assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_figures_and_tables_have_the_same_names(runs):
    record, made = clbench.Record.load(runs / "sfa-seed0"), compare([runs])
    for name in ("matrix", "curves", "performance_and_retention"):
        assert record.figure(name=name).axes
    assert made.figure(name="curves").axes
    with pytest.raises(ClbenchError, match=r"no figure 'matrices' \(did you mean matrix\?\)"):
        record.figure("matrices")
    table, other = record.table(), made.table()
    assert list(table.scenario) == ["task_incremental", "class_incremental"]
    common = {"stream", "scenario", "method", "overall_performance", "retention", "forgetting"}
    assert common <= {*table.columns} & {*other.columns}
    summary = record.summary()
    assert table.backward_transfer[1] == summary["class_incremental"]["backward_transfer"]
    assert table.retention[0] == summary["retention"]["after_task"][-1]


def test_a_run_that_has_just_begun_is_shown_too(runs):
    path = runs / "sfa-seed0" / "record.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]))
    record = clbench.Record.load(runs / "sfa-seed0")
    shown = record._repr_html_()
    assert "not finished: 0 of 3 tasks" in shown
    assert "<svg" not in shown
    with pytest.raises(ClbenchError, match="no task is learned yet"):
        record.figure("curves")


def test_loading_a_record_draws_nothing(runs):
    code = (
        "import sys, clbench\n"
        f"clbench.Record.load({str(runs / 'sfa-seed0')!r}).summary()\n"
        "print([name for name in ('torch', 'matplotlib', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
