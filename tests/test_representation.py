"""What features still tell of earlier tasks: as a loop has it, and nothing else changes."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import records
import torch
from helpers import comparable, interrupt_after
from report.made_up import run_folder

import clbench
from clbench.data.batches import Split
from clbench.errors import ClbenchError
from clbench.estimate import estimate
from clbench.measure.board import final_scores
from clbench.measure.meter import Meter
from clbench.measure.representation import RepresentationTest
from clbench.metrics.retained.knn import KNN
from clbench.metrics.retained.ncm import NearestMean
from clbench.models import features
from clbench.recipe.recipe import parse
from clbench.record import trust
from clbench.record.record import Record
from clbench.report.boards import leaderboard
from clbench.report.build import build
from clbench.report.compare import compare
from clbench.report.representation import representation_table

ASKED = {"measures": ["ridge", {"knn": {"k": 3}}, "ncm"], "per_class": 9}


@torch.no_grad()
def slow(meter, model, task, per_class):
    """Accuracies of ridge and of 3 neighbours on each task so far, image by image, in NumPy."""
    model.eval()
    found = {"ridge": [], "knn": []}

    def looked(images, index):
        take = (meter.evaluator.reader.transform.test(images.take(i[None])) for i in index)
        return np.stack([features(model, x)[0].double().numpy() for x in take])

    for one in meter.stream.tasks[: task.index + 1]:
        chosen = []
        for label in one.classes:
            places = [n for n, own in enumerate(one.train.labels.tolist()) if own == label]
            picked = np.linspace(0, len(places) - 1, min(per_class, len(places))).round()
            chosen += [places[int(n)] for n in picked]
        chosen = sorted(chosen)
        X = looked(meter.stream.train_images, one.train.index[chosen])
        Q = looked(one.test.images, one.test.index)
        labels, asked = one.train.labels[chosen].numpy(), one.test.labels.numpy()
        Y = labels[:, None] == np.array(one.classes)
        A = X - X.mean(0)
        penalty = 0.1 * (A**2).sum(0).mean()
        W = np.linalg.solve(A.T @ A + penalty * np.eye(A.shape[1]), A.T @ (Y - Y.mean(0)))
        right = np.array(one.classes)[((Q - X.mean(0)) @ W + Y.mean(0)).argmax(1)] == asked
        found["ridge"].append(right.mean())
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (Q, X)]
        cosines = unit[0] @ unit[1].T
        near = np.argsort(-cosines, axis=1)[:, :3]
        votes = [
            {c: sum(np.exp(row[j] / 0.07) for j in js if labels[j] == c) for c in one.classes}
            for row, js in zip(cosines, near, strict=True)
        ]
        found["knn"].append(
            np.mean([max(v, key=v.get) == a for v, a in zip(votes, asked, strict=True)])
        )
    model.train()
    return found


@pytest.mark.parametrize("labels", ["own", "shared"])
def test_equals_a_loop_and_changes_nothing_else(recipe, tmp_path, monkeypatch, labels, capsys):
    recipe = recipe | {"steps": 3, "eval_every": 2, "methods": {"sfa": {"p": 0.5}}}
    if labels == "shared":
        recipe["stream"] = {"name": "split_digits", "labels": "shared"}
    usual = clbench.run(recipe, tmp_path / "usual")
    own, looked = Meter.representation, []

    def both(self, model, task):
        made, wanted = own(self, model, task), slow(self, model, task, 9)
        for name, values in wanted.items():
            assert made[name] == pytest.approx(values, abs=0.015)  # at most an image of some 70
        looked.append(task.index)
        return made

    monkeypatch.setattr(Meter, "representation", both)
    record = clbench.run(recipe | {"representation": ASKED}, tmp_path / "asked")
    assert looked == [0, 1, 2]
    name = "model.safetensors"
    assert (tmp_path / "asked" / name).read_bytes() == (tmp_path / "usual" / name).read_bytes()
    found, other = comparable(record), comparable(usual)
    told = found.pop("representation")
    assert found == other  # which has none of it
    assert list(told) == ["ridge", "knn", "ncm"]
    for about in told.values():
        P = np.array(about["matrix"], dtype=float)
        assert (np.isnan(P) == np.triu(np.ones((3, 3), bool), 1)).all()
        assert about["learned"] == pytest.approx(np.diag(P).mean())
        assert about["final"] == pytest.approx(P[-1].mean())
        assert about["change"] == pytest.approx((P[-1, :2] - np.diag(P)[:2]).mean())
    trust.check(record)
    assert final_scores(record)["final/representation_change/knn"] == told["knn"]["change"]
    assert "Features by ridge anew, mean over tasks: " in capsys.readouterr().out


def test_a_run_that_goes_on_has_all_of_it(recipe, tmp_path, monkeypatch):
    recipe = recipe | {"steps": 2, "representation": ASKED}
    whole = clbench.run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        interrupt_after(patched)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(recipe, tmp_path / "cut")
    clbench.run(recipe, tmp_path / "cut", resume=True)
    assert comparable(Record.load(tmp_path / "cut")) == comparable(whole)


def test_what_was_trained_together_forgets_nothing(recipe, tmp_path, no_pictures):
    changes = {"steps": 2, "representation": ASKED, "methods": {"multitask": {}}}
    record = clbench.run(recipe | changes, tmp_path / "run")
    about = record.summary()["representation"]["ridge"]
    assert (about["learned"], about["change"]) == (None, None)
    assert about["final"] > 0


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"measures": ["head"]}, "has head, which makes no classifier of a task's classes: take"),
        ({"measures": ["cka"]}, "take some of knn, ridge, ncm"),
        ({"measures": {"knn": {"k": 0}}}, r"representation.measures.knn.k = 0"),
        ({"per_class": 0}, r"representation.per_class = 0"),
    ],
)
def test_what_is_no_classifier_is_refused(recipe, asked, why):
    with pytest.raises(ClbenchError, match=why):
        parse(recipe | {"representation": asked})


def test_too_few_images_are_refused_before_training_and_by_the_estimate(recipe, tmp_path):
    recipe |= {"representation": {"measures": ["knn"], "per_class": 9}}
    why = (
        r"representation.measures.knn, task 4, 5: knn.k = 20, but there are 18 reference images: "
        r"lower k, .* \(or raise representation.per_class\)$"
    )
    with pytest.raises(ClbenchError, match=why):
        estimate(recipe)
    with pytest.raises(ClbenchError, match=why):
        clbench.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "record.jsonl").exists()


class Perfect:
    """An evaluator of a network that tells all classes apart; counts what it looks at."""

    def __init__(self):
        self.looks = []

    def look(self, model, split, keep):
        self.looks.append(len(split))
        return None, torch.eye(10)[split.labels]


def all_tested(recipe):
    """A stream whose tasks are all tested on all classes, of which each trains two."""
    stream = parse(recipe).build_stream()
    joined = [Split.joined([task.test for task in stream.tasks]) for _ in stream.tasks]
    pairs = zip(stream.tasks, joined, strict=True)
    return replace(stream, tasks=tuple(replace(task, test=test) for task, test in pairs))


def test_classes_that_a_task_does_not_train_are_not_asked_about(recipe):
    own, stream = parse(recipe).build_stream(), all_tested(recipe)
    test = RepresentationTest(stream, {"ncm": NearestMean(), "knn": KNN(k=3)}, 9)
    for count in (1, 2, 3):
        evaluator = Perfect()
        found = test.measure(evaluator, None, stream.tasks[:count])
        assert found == {"ncm": [1.0] * count, "knn": [1.0] * count}
        # The images that tasks are tested on alike are looked at once.
        tested = sum(len(task.test) for task in own.tasks[:count])
        assert sorted(evaluator.looks) == [*[18] * count, tested]
        assert test.images(stream.tasks[:count]) == 18 * count + tested
    assert test.measure(Perfect(), None, stream.tasks[::-1][:1]) == {"ncm": [1.0], "knn": [1.0]}


def test_a_task_that_is_tested_on_nothing_it_trains_is_refused(recipe):
    asked = parse(recipe | {"representation": ASKED})
    first, *rest = asked.build_stream().tasks
    stream = replace(asked.build_stream(), tasks=(replace(first, test=rest[0].test), *rest))
    why = f"task {first.name} is tested on none of the classes that it trains: leave"
    with pytest.raises(ClbenchError, match=why):
        RepresentationTest.make(asked, stream)


def test_independent_tasks_have_no_network_for_all(recipe):
    values = recipe | {"representation": ASKED}
    values["stream"] = {"name": "transfer6", "datasets": ["cifar10"], "independent": True}
    values["model"] = recipe["model"] | {"weights": "none"}
    with pytest.raises(ClbenchError, match="representation needs one network for all tasks"):
        parse(values)


def test_the_estimate_counts_it(recipe):
    found = estimate(recipe | {"representation": ASKED})
    tasks = parse(recipe).build_stream().tasks
    sizes = [len(task.test) + 18 for task in tasks]
    assert [task.probed for task in found.tasks] == [sum(sizes[: n + 1]) for n in range(3)]
    assert not estimate(recipe).total.probed


def runs(place, settings=None):
    """Two methods, three seeds: of earlier tasks, 0.9 becomes 0.8, or 0.7 by sequential.

    With settings of the representation, by the name of the method, their recipes have them.
    """
    for seed in range(3):
        for methods, end in (({}, 0.7), ({"sfa": {"p": 0.9}}, 0.8)):
            about = (settings or {}).get("".join(methods))
            config = about and {"optimizer": {"name": "sgd", "lr": 0.1}, "representation": about}
            folder = run_folder(place, methods, seed, config=config)
            lines = [json.loads(x) for x in (folder / "record.jsonl").read_text().splitlines()]
            lines[2]["representation"] = {"ridge": [0.9], "ncm": [0.5]}
            lines[3]["representation"] = {"ridge": [end + 0.01 * seed, 0.6], "ncm": [0.5, 0.5]}
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder / "record.jsonl").write_text(text)
    return compare([place])


def test_reports_have_a_column_a_table_and_a_file(tmp_path):
    comparison = runs(tmp_path / "runs")
    (section,) = comparison.sections
    heads = [head.text for head in leaderboard(section, "class_incremental").heads]
    assert "Δ ridge probe" in heads
    assert "Δ kNN" not in heads
    table = representation_table(section)
    assert [head.text for head in table.heads[1:4]] == [
        "ridge, learned", "ridge, in the end", "ridge, Δ",
    ]  # fmt: skip
    cells = {line[0].text: [cell.text for cell in line[1:4]] for line in table.body}
    assert cells["sfa"] == ["75.0 ± 0.0", "70.5 ± 0.5", "-9.0 ± 1.0"]
    assert cells["sequential"][2] == "-19.0 ± 1.0"
    page = build(comparison, tmp_path / "out").read_text()
    assert "What the features still tell" in page
    rows = list(csv.DictReader((tmp_path / "out" / "representation.csv").open()))
    assert [(row["method"], row["measure"]) for row in rows] == [
        (method, name) for method in ("sequential", "sfa") for name in ("ridge", "ncm")
    ]
    assert float(rows[2]["change"]) == pytest.approx(-0.09)
    plain = compare([run_folder(tmp_path / "plain")])
    assert representation_table(plain.sections[0]) is None


def test_other_settings_are_other_columns(tmp_path):
    usual = {"ridge": {"strength": 0.1}, "ncm": {"metric": "cosine"}}
    few = {"measures": usual | {"ridge": {"strength": 2.0}}, "per_class": 5}
    settings = {"": {"measures": usual, "per_class": None}, "sfa": few}
    comparison = runs(tmp_path / "runs", settings)
    (section,) = comparison.sections
    table = representation_table(section)
    heads = [head.text.removesuffix(", Δ") for head in table.heads if head.text.endswith("Δ")]
    told = ["ridge (strength=2.0, per_class=5)", "ncm (per_class=5)"]
    assert sorted(heads) == sorted(["ridge", "ncm", *told])
    lines = {
        line[0].text: dict(zip([h.text for h in table.heads], line, strict=True))
        for line in table.body
    }
    for name in heads:
        theirs, ours = (lines[x][f"{name}, Δ"].text for x in ("sequential", "sfa"))
        assert (theirs == "–", ours == "–") == (name in told, name not in told)
    board = leaderboard(section, "class_incremental")
    place = [head.text for head in board.heads].index("Δ ridge probe")
    assert {line[0].text: line[place].text != "–" for line in board.body} == {
        "sequential": True, "sfa": False,
    }  # fmt: skip
    build(comparison, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "representation.csv").open()))
    assert {(row["method"], row["measure"]) for row in rows if row["change"]} == {
        *(("sequential", name) for name in ("ridge", "ncm")), *(("sfa", name) for name in told),
    }  # fmt: skip


@pytest.mark.parametrize("told", [{"ridge": [0.5]}, {"ridge": [0.5] * 3}, {}, {"knn": [0.5, 0.5]}])
def test_a_record_that_tells_of_other_tasks_is_no_record(tmp_path, told):
    folder = run_folder(tmp_path)
    events = []

    def change(event):
        if event["event"] == "task":
            events.append(event)
            event["representation"] = told if len(events) == 2 else {"ridge": [0.5]}

    records.edit(folder, change)
    with pytest.raises(ClbenchError, match="representation"):
        trust.record_of(folder)
