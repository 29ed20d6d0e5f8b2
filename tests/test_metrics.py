"""Metrics beside accuracy, against what a textbook's loop says of each image."""

import csv
import json
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

import clbench
from clbench.data.batches import Split
from clbench.data.images import TensorImages
from clbench.data.reader import Reader
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.metrics import METRICS
from clbench.metrics.probabilities import CalibrationError
from clbench.models.tiny import TinyCNN
from clbench.recipe.recipe import parse
from clbench.record.record import SCENARIOS, Record
from clbench.record.trust import record_of
from clbench.report.boards import leaderboard
from clbench.report.compare import compare

OWNER = torch.tensor([0, 0, 1, 1, 2, 2])
PLAIN = Transform(8, (0.5,) * 3, (0.5,) * 3, Augment())


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = TinyCNN(6, width=8)
    nn.init.normal_(model.fc.weight, std=2)
    return model.eval()


def splits():
    """Of three tasks, the third has not been learned."""
    random = torch.Generator().manual_seed(0)
    images = TensorImages(torch.randint(256, (90, 3, 8, 8), generator=random, dtype=torch.uint8))
    labels = torch.arange(90) % 6
    rows = [(OWNER[labels] == task).nonzero().flatten() for task in range(2)]
    return [Split(images, r, labels[r]) for r in rows]


def probabilities(logits, admitted):
    largest = max(logits[c] for c in admitted)
    powers = {c: math.exp(logits[c] - largest) for c in admitted}
    return {c: power / sum(powers.values()) for c, power in powers.items()}


def obvious_nll(found):
    return sum(-math.log(p[label]) for p, label in found) / len(found)


def obvious_calibration_error(found):
    error = 0.0
    for number in range(15):
        inside = []
        for p, label in found:
            answer = max(p, key=p.get)
            if number / 15 < p[answer] <= (number + 1) / 15:
                inside.append((p[answer], answer == label))
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / len(found) * abs(accuracy - confidence)
    return error


OBVIOUS = {"nll": obvious_nll, "calibration_error": obvious_calibration_error}


@pytest.mark.parametrize("batch_size", [7, 100])
def test_metrics_against_a_loop(network, batch_size):
    seen = torch.tensor([True] * 4 + [False] * 2)
    evaluator = Evaluator(Reader(PLAIN, batch_size, 0), tuple(METRICS))
    found = evaluator.accuracy(network, splits(), OWNER, seen).metrics
    assert found.keys() == METRICS.keys() == OBVIOUS.keys()
    for task, split in enumerate(splits()):
        with torch.no_grad():
            rows = network(PLAIN.test(split.images.take(split.index))).double().tolist()
        for scenario, admitted in (
            ("task_incremental", [2 * task, 2 * task + 1]),
            ("class_incremental", range(4)),
        ):
            told = [
                (probabilities(logits, admitted), label)
                for logits, label in zip(rows, split.labels.tolist(), strict=True)
            ]
            for name, obvious in OBVIOUS.items():
                assert found[name][scenario][task] == pytest.approx(obvious(told), rel=1e-5)


def test_calibration_error_is_that_of_torchmetrics():
    torch.manual_seed(0)
    logits, labels = torch.randn(500, 6) * 2, torch.randint(6, (500,))
    ours = CalibrationError(1)
    ours.update(logits, labels, torch.zeros_like(labels))
    theirs = multiclass_calibration_error(logits.softmax(1), labels, 6, n_bins=15, norm="l1")
    assert ours.compute() == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(("logit", "error"), [(50.0, 0.5), (0.0, 0.0)])
def test_the_ends_of_confidence(logit, error):
    """Sure of everything, and half right; sure of nothing between two, and half right."""
    ours = CalibrationError(1)
    logits = torch.tensor([[logit, 0.0], [logit, 0.0]])
    ours.update(logits, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.int64))
    assert ours.compute() == pytest.approx(error)


def test_an_unknown_name_is_refused(recipe):
    with pytest.raises(ClbenchError, match=r"metrics.*there is no metric 'nil'.*nll"):
        parse(recipe | {"metrics": ["nil"]})
    assert parse(recipe | {"metrics": ["nll", "nll"]}).metrics == ("nll",)


def test_accuracies_alone_by_default(recipe, tmp_path, no_pictures):
    record = clbench.run(recipe, tmp_path / "run")
    assert '"metrics"' not in (tmp_path / "run" / "record.jsonl").read_text()
    assert "metrics" not in record.summary()
    assert "step,task,task_incremental,class_incremental" in ",".join(next(record.curves()))


def test_from_the_recipe_to_the_report(recipe, tmp_path, capsys):
    changes = {"metrics": ["calibration_error", "nll"], "eval_every": 2}
    stream = recipe["stream"] | {"validation": 0.2}
    plain = clbench.run(recipe | {"eval_every": 2, "stream": stream}, tmp_path / "plain")
    record = clbench.run(recipe | changes | {"stream": stream}, tmp_path / "run")
    assert "nll, mean over tasks: " in capsys.readouterr().out
    tasks = record.tasks
    for event, before in zip(tasks, plain.tasks, strict=True):
        for place in (event, event.validation, *event.curve):
            for name in METRICS:
                for scenario in SCENARIOS:
                    values = place.metrics[name][scenario]
                    assert len(values) == len(event.evaluated)
                    assert all(value > 0 for value in values)
        assert [event.of(s) for s in SCENARIOS] == [before.of(s) for s in SCENARIOS]
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    last = tasks[-1].metrics["nll"]["class_incremental"]
    assert told["nll"]["class_incremental"]["matrix"][-1] == last
    assert told["nll"]["class_incremental"]["final"] == pytest.approx(sum(last) / len(last))
    assert told["nll"]["class_incremental"]["matrix"][0][1] is None
    with (tmp_path / "run" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["nll_class_incremental"]) == last[-1]
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    (*_, point) = events.Scalars("nll/class_incremental/task_01")
    assert point.value == pytest.approx(last[0])
    assert record_of(tmp_path / "run").tasks == Record.load(tmp_path / "run").tasks
    table = leaderboard(compare([tmp_path / "run"]).sections[0], "class_incremental")
    at = [head.text for head in table.heads].index("NLL")
    assert table.body[0][at].value == pytest.approx(told["nll"]["class_incremental"]["final"])


def test_metrics_of_other_tasks_than_were_evaluated_are_no_record(recipe, tmp_path, no_pictures):
    clbench.run(recipe | {"metrics": ["nll"]}, tmp_path / "run")
    path = tmp_path / "run" / "record.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    next(e for e in lines if e["event"] == "task")["metrics"]["nll"]["task_incremental"].append(1.0)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ClbenchError, match="has metrics of other tasks than it evaluated"):
        record_of(tmp_path / "run")
