"""Calibration and likelihood of the original head, beside its accuracy."""

import pytest
import torch
from report.made_up import run_folder

import clbench
from clbench.measure.board import NAME
from clbench.metrics import METRICS
from clbench.record.record import Record
from clbench.report.boards import leaderboard
from clbench.report.compare import compare


def test_metrics_of_a_recipe_are_measured_of_retention_too(recipe, tmp_path, capsys):
    recipe = recipe | {"steps": 2, "methods": {}}
    usual = clbench.run(recipe, tmp_path / "usual")
    record = clbench.run(recipe | {"metrics": ["nll", "calibration_error"]}, tmp_path / "more")
    name = "model.safetensors"
    assert (tmp_path / "more" / name).read_bytes() == (tmp_path / "usual" / name).read_bytes()
    told, plain = (r.summary()["retention"] for r in (record, usual))
    found = told.pop("metrics")
    assert told == plain
    assert set(found) == {"nll", "calibration_error"}
    for course in found.values():
        assert len(course["after_task"]) == 3
        assert course["change"] == pytest.approx(course["after_task"][-1] - course["before"])
    assert found["nll"]["change"] > 0.05  # the head is used on features that move
    assert "nll of retention: " in capsys.readouterr().out
    (section,) = compare([tmp_path / "more"]).sections
    table = leaderboard(section, "task_incremental")
    shown = dict(zip([head.text for head in table.heads], table.body[0], strict=True))
    assert shown["NLL retention"].value == pytest.approx(found["nll"]["after_task"][-1])
    assert shown["ECE retention"].value == pytest.approx(
        found["calibration_error"]["after_task"][-1]
    )
    assert shown["NLL"].value > 0
    assert Record.load(tmp_path / "more").pretrained.metrics == record.pretrained.metrics
    board = (tmp_path / "more" / NAME.format(1)).read_bytes()
    assert b"retention/nll" in board


def test_the_numbers_are_those_of_the_head_on_the_features(
    recipe, tmp_path, monkeypatch, no_pictures
):
    from clbench.measure.evaluate import Evaluator

    look, seen = Evaluator.look, []

    def watched(self, model, split, head=None, keep=False):
        scores, features = look(self, model, split, head, True)
        with torch.no_grad():
            logits = head(features)
        own = METRICS["nll"](1)
        own.update(logits, split.labels, torch.zeros_like(split.labels))
        seen.append((scores["metrics"]["nll"], float(own.compute())))
        return scores, features if keep else None

    monkeypatch.setattr(Evaluator, "look", watched)
    clbench.run(recipe | {"steps": 1, "metrics": ["nll"]}, tmp_path / "run")
    assert len(seen) == 4
    assert all(a == pytest.approx(b, rel=1e-4) for a, b in seen)


def test_without_metrics_there_is_no_column(tmp_path):
    (section,) = compare([run_folder(tmp_path)]).sections
    heads = [head.text for head in leaderboard(section, "task_incremental").heads]
    assert not [head for head in heads if head.endswith("retention")]
