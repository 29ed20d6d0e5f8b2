"""A day of a suite on a simulated cluster: submit, fail, preempt, requeue, report while running."""

import json
import os
from pathlib import Path

import pytest
from helpers import RECIPE
from simulated import Cluster

from clbench.errors import ClbenchError
from clbench.launch import slurm, slurm_queue
from clbench.report.compare import compare as compare_runs
from clbench.suite import comparison

SUITE = {
    "base": RECIPE,
    "methods": {name: {"sfa": {"p": p}} for name, p in (("a", 0.5), ("b", 0.6), ("c", 0.7))},
    "seeds": list(range(14)),
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Cluster(tmp_path / "cluster", width=8, seconds=600.0)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "time", made)
    monkeypatch.setattr(comparison, "build", lambda *_: None)
    # Arrays of so many jobs at most.
    (made.bin / "scontrol").write_text("#!/bin/sh\necho 'MaxArraySize            = 17'\n")
    return made


def test_a_day(cluster, tmp_path, monkeypatch):
    seen, folder = [], tmp_path / "out"

    def report():
        """Of the runs as they are."""
        there = [path.parent for path in sorted(folder.glob("runs/*/record.jsonl"))]
        seen.append((len(there), compare_runs(there)))

    cluster.at(1_500, report)
    cluster.at(1_600, (cluster.folder / "down").touch)
    cluster.at(2_000, (cluster.folder / "down").unlink)
    made = comparison.compare(SUITE, folder, 8, launcher="slurm")
    fates = dict(cluster.history)  # the last one of each
    assert {"preempted", "timed out"} <= {fate for _, fate in cluster.history}
    lost = {name for name, fate in fates.items() if fate != "finished"}
    assert made.failures.keys() == lost
    assert 0 < len(lost) < 10
    assert cluster.arrays == 3  # 17, 17 and 8
    assert cluster.most == 8
    count, then = seen[0]
    assert 8 <= count < 42
    told = [*then.warnings, *(line for section in then.sections for line in section.warnings)]
    assert any("Unfinished" in line or "begun" in line for line in told), told
    # The same command runs what failed, and nothing else.
    cluster.faults, before = False, len(cluster.history)
    made = comparison.compare(SUITE, folder, 8, launcher="slurm")
    assert made.failures == {}
    assert {name for name, _ in cluster.history[before:]} == lost


def test_jobs_that_no_list_has_are_cancelled(cluster, tmp_path, monkeypatch, capsys):
    """A call was killed between SLURM's answer and the list."""
    with monkeypatch.context() as patch:
        patch.setattr(slurm_queue, "write_book", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            comparison.compare(SUITE | {"seeds": [0]}, tmp_path / "out", launcher="slurm")
    cluster.sleep(1)
    assert len(cluster.states) == 3
    cluster.faults = False
    made = comparison.compare(SUITE | {"seeds": [0]}, tmp_path / "out", launcher="slurm")
    assert "3 jobs of a call that was killed are submitted anew." in capsys.readouterr().out
    assert made.failures == {}
    assert cluster.arrays == 2


def test_what_sbatch_refuses_is_one_line_and_nothing_is_lost(cluster, tmp_path):
    sbatch = cluster.bin / "sbatch"
    limit = '[ -e "$HERE/sbatch" ] && echo "sbatch: error: QOSMaxSubmitJobPerUser" >&2 && exit 1'
    head, rest = sbatch.read_text().split("\n", 2)[:2], sbatch.read_text().split("\n", 2)[2]
    sbatch.write_text("\n".join([*head, limit, rest]))
    with pytest.raises(ClbenchError, match=r"QOSMax.* \(17 others are queued") as caught:
        comparison.compare(SUITE, tmp_path / "out", launcher="slurm")
    assert "\n" not in str(caught.value)
    book = json.loads(Path(tmp_path / "out/slurm/jobs.json").read_text())
    cluster.sleep(1)
    assert set(book.values()) == cluster.states.keys()
