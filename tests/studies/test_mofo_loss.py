"""Reading off at one training loss: crossings, and seeds that have none or lack runs."""

import json
import sys
from pathlib import Path

import pytest
import records

sys.path.insert(0, str(Path(__file__).parents[2] / "studies"))

import mofo_loss
from mofo_loss import Point

RUNS = {  # name: (training loss, distance, retention) by steps
    "full": {30: (1.0, 1.0, 0.9), 50: (0.25, 3.0, 0.7)},
    "mofo_5": {60: (2.0, 1.0, 0.9), 100: (0.6, 2.0, 0.8)},  # does not come so far
    "mofo_10": {60: (1.0, 0.5, 0.95), 100: (0.25, 1.5, 0.85)},
}


def write(folder, seeds, without=()):
    losses = {}
    for name, runs in RUNS.items():
        for steps, (loss, distance, kept) in runs.items():
            for seed in seeds:
                key = f"{name}_s{steps}-seed{seed}"
                if key in without:
                    continue
                (folder / "records" / key).mkdir(parents=True)
                end = {
                    "distance": {"pretrained": distance + seed},
                    "retention": {"top1": kept, "top5": 1.0},
                }
                events = [
                    records.run_event(title=f"{name}_s{steps}-seed{seed}", seed=seed),
                    records.task_event(0, steps=steps, **end),
                ]
                records.write(folder / "records" / key, events)
                losses[key] = loss
    (folder / "losses.json").write_text(json.dumps(losses))


def test_the_line_between_two_runs_in_the_logarithm_of_the_loss():
    runs = [Point(1.0, 1.0, 0.9, 30), Point(0.25, 3.0, 0.7, 50)]
    assert mofo_loss.at_level(runs) == pytest.approx((2.0, 0.8))  # 0.5 is half-way
    assert mofo_loss.at_level(runs[:1]) is None
    assert mofo_loss.at_level([Point(0.5, 1.0, 0.9, 1), Point(0.5, 2.0, 0.9, 2)]) == (1.0, 0.9)


@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_a_page_of_few_seeds_and_no_crossing(tmp_path, seeds):
    write(tmp_path, seeds)
    text = mofo_loss.page(tmp_path)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert f"| – | – | 0 of {len(seeds)} |" in lines["mofo_5"]
    assert f"{len(seeds)} of {len(seeds)} |" in lines["full"]
    assert ("±" in lines["full"]) == (len(seeds) > 1)
    assert (tmp_path / "loss.png").exists()


def test_means_are_over_the_seeds_that_have_so_many_steps(tmp_path):
    write(tmp_path, (0, 1, 2), without=("full_s50-seed1",))
    assert mofo_loss.page(tmp_path)
    found = mofo_loss.points(tmp_path / "records")
    assert [len(runs) for runs in found["full"].values()] == [2, 1, 2]
    first, last = mofo_loss.means(found["full"])
    assert (first.steps, last.steps) == (30, 50)
    assert first.distance == pytest.approx(1.0 + 1)
    assert last.distance == pytest.approx(3.0 + 1)
    assert set(mofo_loss.read_off(found)["full"]) == {0, 2}
