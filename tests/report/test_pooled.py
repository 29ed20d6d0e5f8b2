import csv
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from clbench.report import tables
from clbench.report.compare import compare
from clbench.report.pooled import pooled
from clbench.report.statistics import mean_ranks

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).with_name("made_up.py"))
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)


def two_streams(place):
    """Sequential and SFA on two streams, three seeds each; the bound and EWC on one only."""
    for stream, plain, ours in (("one", 0.5, 0.7), ("two", 0.6, 0.65)):
        for seed in range(3):
            more = {"stream": stream, "title": f"{stream}-{seed}"}
            for name, methods, op in (
                ("sequential", None, plain),
                ("sfa", {"sfa": {}}, ours),
                ("multitask", {"multitask": {}}, 0.9),
            ):
                more["title"] = f"{stream}-{name}-seed{seed}"
                made_up.run_folder(
                    place, methods, seed, op + seed / 100, folder=f"{stream}{name}{seed}", **more
                )
    made_up.run_folder(place, {"ewc": {}}, stream="one", title="one-ewc-seed0")


def test_ranks_are_those_of_scipy_redrawn():
    g = np.random.default_rng(0)
    methods = g.normal(0.7, 0.05, (4, 2, 5)) + np.linspace(0, 0.06, 4)[:, None, None]
    ours = mean_ranks(methods.tolist())
    once = np.mean([stats.rankdata(-methods[:, s].mean(1)) for s in range(2)], axis=0)
    assert [e.mean for e in ours] == pytest.approx(list(once))
    drawn = []
    for _ in range(4000):  # the slow way: the same seeds for all methods, stream by stream
        ranks = []
        for s in range(2):
            seeds = g.integers(0, 5, 5)
            ranks.append(stats.rankdata(-methods[:, s, seeds].mean(1)))
        drawn.append(np.mean(ranks, axis=0))
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert [e.low for e in ours] == pytest.approx(list(low), abs=0.5)
    assert [e.high for e in ours] == pytest.approx(list(high), abs=0.5)


def test_equal_methods_share_a_rank_however_they_are_drawn():
    same = [[0.5, 0.6, 0.7, 0.8, 0.9]]
    ranks = mean_ranks([same, same, [[0.1, 0.2, 0.3, 0.2, 0.1]]])
    assert [(e.mean, e.low, e.high) for e in ranks] == [(1.5, 1.5, 1.5)] * 2 + [(3, 3, 3)]
    assert mean_ranks([[[0.5]], [[0.6]]])[0].low is None


def test_means_over_streams(tmp_path):
    two_streams(tmp_path)
    comparison = compare([tmp_path])
    rows = {row.label: row for row in pooled(comparison, "task_incremental")}
    assert set(rows) == {"sequential", "sfa", "multitask"}
    sfa = rows["sfa"]
    assert sfa.scores["overall_performance"].mean == pytest.approx((0.7 + 0.65) / 2 + 0.01)
    assert (sfa.gap.mean, sfa.gap.low, sfa.gap.high) == pytest.approx((0.125,) * 3)
    assert (sfa.rank.mean, rows["sequential"].rank.mean) == (1, 2)
    assert (sfa.mark, rows["sequential"].mark) == ("best", "")
    # The bound neither competes nor has a rank.
    assert (rows["multitask"].rank, rows["multitask"].mark) == (None, "")
    lines = list(csv.DictReader(io.StringIO(tables.pooled_csv(comparison))))
    assert [line["method"] for line in lines] == ["multitask", "sfa", "sequential"] * 2
    assert "### All 2 streams, task-incremental" in tables.markdown(comparison)
    assert len(comparison.figure("all_bars").axes) == 2


def test_one_stream_has_nothing_to_pool(tmp_path):
    made_up.run_folder(tmp_path, None)
    made_up.run_folder(tmp_path, {"sfa": {}})
    comparison = compare([tmp_path])
    assert pooled(comparison, "task_incremental") == []
    assert tables.pooled_csv(comparison).strip() == ""
