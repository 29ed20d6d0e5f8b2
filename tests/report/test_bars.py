import importlib.util
from pathlib import Path

import pytest
import records

from clbench.report.compare import compare

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)


def _use_past_data(event):
    if event["event"] == "task":
        event["footprint"]["replay"]["past_data"] = True


@pytest.fixture
def comparison(tmp_path):
    for seed in range(2):
        made_up.run_folder(tmp_path, None, seed, 0.3 + seed / 10)
        made_up.run_folder(tmp_path, {"multitask": {}}, seed, 0.9)
        folder = made_up.run_folder(tmp_path, {"replay": {}}, seed, 0.6)
        records.edit(folder, _use_past_data)
    return compare([tmp_path])


def test_kinds_come_from_the_footprint(comparison):
    kinds = {g.label: g.kind for g in comparison.sections[0].groups}
    assert kinds == {"sequential": "oblivious", "multitask": "bound", "replay": "past"}


def test_bars_differ_in_colour_and_hatch_and_the_legend_says_how(comparison):
    figure = comparison.figure("bars")
    (axis,) = figure.axes
    bars = [container[0] for container in axis.containers if hasattr(container, "patches")]
    assert [bar.get_height() for bar in bars] == pytest.approx([0.9, 0.6, 0.35])
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        "multitask",
        "replay",
        "sequential",
    ]
    assert len({bar.get_facecolor() for bar in bars}) == 3
    assert len({bar.get_hatch() for bar in bars}) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["sees no past data", "sees past data", "multitask bound"]
    assert axis.get_ylim()[0] == 0
