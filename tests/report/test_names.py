"""ℓ1 and ℓ2 say in tables and legends which weights they stay near."""

import importlib.util
from pathlib import Path

import pytest

from clbench.report.compare import compare
from clbench.report.names import title

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)

STAR, PREVIOUS = {"anchor": "pretrained"}, {"anchor": "previous"}


@pytest.mark.parametrize(
    ("name", "methods", "shown"),
    [
        (None, {}, "sequential"),
        (None, {"sequential": {}}, "sequential"),
        (None, {"sfa": {}, "ewc": {}}, "sfa+ewc"),
        (None, {"l2": STAR}, "l2 to θ_*"),
        (None, {"l2": PREVIOUS}, "l2 to θ_o"),
        (None, {"l1": STAR, "mofo": {}}, "l1 to θ_*+mofo"),
        (None, {"l2": {}}, "l2"),  # a record without settings does not say
        (None, {"l2": None}, "l2"),
        (None, {"l2": {"anchor": ["θ"]}}, "l2"),
        ("l2", {"l2": PREVIOUS}, "l2 to θ_o"),
        ("FLOW + ℓ2", {"flow": {}, "l2": STAR}, "FLOW + ℓ2 to θ_*"),
        ("ours", {"l2": STAR}, "ours"),
        ("l2, θ_o", {"l2": PREVIOUS}, "l2, θ_o"),
        ("l1 and l2", {"l1": STAR, "l2": PREVIOUS}, "l1 and l2 to θ_* and to θ_o"),
        ("l2 as WiSE-FT", {"wise_ft": PREVIOUS}, "l2 as WiSE-FT"),
    ],
)
def test_names(name, methods, shown):
    assert title(name, methods, ["l1", "l2"]) == shown


def test_two_anchors_are_two_rows_with_names_of_their_own(tmp_path):
    for seed in (0, 1):
        made_up.run_folder(tmp_path / "a", {"l2": STAR}, seed)
        made_up.run_folder(tmp_path / "b", {"l2": PREVIOUS}, seed)
        called = f"l2_strong-seed{seed}"
        made_up.run_folder(tmp_path / "c", {"l2": STAR | {"strength": 9}}, seed, title=called)
    (section,) = compare([tmp_path]).sections
    labels = {group.label for group in section.groups}
    assert labels == {"l2 to θ_*", "l2 to θ_o", "l2_strong to θ_*"}
