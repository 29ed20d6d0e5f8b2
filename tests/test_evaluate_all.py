"""``evaluate: all``: the tasks to come are tested too, and nothing else changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import records
import torch
from helpers import comparable, interrupt_after
from report.made_up import run_folder

import clbench
from clbench.errors import ClbenchError
from clbench.estimate import estimate
from clbench.measure.meter import Meter, unlike
from clbench.recipe.recipe import parse
from clbench.record import scores, trust
from clbench.record.record import SCENARIOS, Record


@torch.no_grad()
def slow(meter, model, task, seen):
    """Accuracies on the tasks to come, image by image."""
    model.eval()
    found = {}
    for later in meter.stream.tasks:
        if task is not None and later.index <= task.index:
            continue
        own = list(later.classes)
        known = [c for c in range(len(seen)) if seen[c] or c in own]
        right = dict.fromkeys(SCENARIOS, 0)
        for index, label in zip(later.test.index, later.test.labels.tolist(), strict=True):
            image = later.test.images.take(index[None])
            logits = model(meter.evaluator.reader.transform.test(image))[0].tolist()
            right["task_incremental"] += max(own, key=lambda c: logits[c]) == label
            right["class_incremental"] += max(known, key=lambda c: logits[c]) == label
        found[later.index] = [right[scenario] / len(later.test) for scenario in SCENARIOS]
    model.train()
    return found


@pytest.mark.parametrize("labels", ["own", "shared"])
def test_equal_images_among_equal_classes_are_read_once(recipe, monkeypatch, labels):
    stream = parse(recipe | {"stream": {"name": "split_digits", "labels": labels}}).build_stream()
    one = stream.tasks[0].test
    tasks = tuple(
        replace(task, test=replace(one, index=one.index.clone())) for task in stream.tasks
    )
    asked = []

    def scores(self, model, tasks, splits, seen):
        asked.append(seen.tolist())
        return {scenario: [float(len(asked))] for scenario in SCENARIOS}

    monkeypatch.setattr(Meter, "_scores", scores)
    meter = Meter(replace(stream, tasks=tasks), None, None, None)
    found = meter.ahead(None, None, torch.zeros(len(stream.class_names), dtype=torch.bool))
    kinds = 1 if labels == "shared" else len(tasks)
    assert len(asked) == kinds
    assert found["first"] == 0
    expected = [1.0] * len(tasks) if labels == "shared" else [1.0, 2.0, 3.0]
    assert [found[scenario] for scenario in SCENARIOS] == [expected] * len(SCENARIOS)
    assert len(unlike(tasks)[0]) == kinds


@pytest.mark.parametrize("labels", ["own", "shared"])
def test_equals_a_loop_and_changes_nothing_else(recipe, tmp_path, monkeypatch, labels):
    recipe = recipe | {"steps": 3, "eval_every": 2, "methods": {"sfa": {"p": 0.5}}}
    if labels == "shared":
        recipe["stream"] = {"name": "split_digits", "labels": "shared"}
    usual = clbench.run(recipe, tmp_path / "seen")
    ahead, looked = Meter.ahead, []

    def both(self, model, task, seen):
        made = ahead(self, model, task, seen)
        wanted = slow(self, model, task, seen)
        assert (made is None) == (not wanted)
        if made is not None:
            assert made["first"] == min(wanted)
            for number, scenario in enumerate(SCENARIOS):
                assert made[scenario] == [values[number] for values in wanted.values()]
        looked.append(len(wanted))
        return made

    monkeypatch.setattr(Meter, "ahead", both)
    record = clbench.run(recipe | {"evaluate": "all"}, tmp_path / "all")
    count = len(record.run.tasks)
    assert looked == list(range(count, -1, -1))
    name = "model.safetensors"
    assert (tmp_path / "all" / name).read_bytes() == (tmp_path / "seen" / name).read_bytes()
    assert list(record.curves()) == list(usual.curves())
    for scenario in SCENARIOS:
        R, before = record.accuracy_matrix(scenario), record.before(scenario)
        low = np.tril_indices(count)
        assert not np.isnan(R).any()
        assert (R[low] == usual.accuracy_matrix(scenario)[low]).all()
        part, other = record.summary()[scenario], usual.summary()[scenario]
        assert part["before"] == before
        assert len(before) == count
        assert part["forward_transfer"] == scores.forward_transfer(R, before)
        assert part["mtil_transfer"] == scores.mtil_transfer(R)
        assert part["mtil_average"] == scores.mtil_average(R)
        new = ("before", "forward_transfer", "mtil_transfer", "mtil_average", "accuracy_matrix")
        assert all(other[name] is None for name in new[:-1])
        assert {k: v for k, v in part.items() if k not in new} == {
            k: v for k, v in other.items() if k not in new
        }
    _, *rows = (tmp_path / "all/accuracy_matrix.csv").read_text().splitlines()
    assert all("" not in row.split(",") for row in rows)
    trust.check(record)


def test_a_run_that_goes_on_has_all_of_it(recipe, tmp_path, monkeypatch):
    recipe = recipe | {"steps": 2, "evaluate": "all"}
    whole = clbench.run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        interrupt_after(patched)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(recipe, tmp_path / "cut")
    clbench.run(recipe, tmp_path / "cut", resume=True)
    assert comparable(Record.load(tmp_path / "cut")) == comparable(whole)


def test_what_was_trained_together_has_nothing_to_come(recipe, tmp_path):
    record = clbench.run(
        recipe | {"steps": 2, "evaluate": "all", "methods": {"multitask": {}}}, tmp_path / "run"
    )
    (event,) = record.tasks
    assert event.ahead is None
    assert record.summary()["task_incremental"]["forward_transfer"] is None


def test_independent_tasks_have_no_network_for_all(recipe):
    values = recipe | {"evaluate": "all"}
    values["stream"] = {"name": "transfer6", "datasets": ["cifar10"], "independent": True}
    values["model"] = recipe["model"] | {"weights": "none"}
    with pytest.raises(ClbenchError, match="evaluate: all needs one network for all tasks"):
        parse(values)


def test_the_estimate_counts_it(recipe):
    seen, every = (estimate(recipe | {"evaluate": how}) for how in ("seen", "all"))
    sizes = [len(task.test) for task in parse(recipe).build_stream().tasks]
    assert every.pretrained - seen.pretrained == sum(sizes)
    more = [a.tested - b.tested for a, b in zip(every.tasks, seen.tasks, strict=True)]
    assert more == [sum(sizes[number:]) for number in range(1, len(sizes) + 1)]


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (1, {"first": 1}),
        (1, {"task_incremental": [0.5] * 3}),
        (2, {"first": 0}),
        (2, {"class_incremental": []}),
        (3, {"first": 1}),
        (2, {"task_incremental": [2.0]}),
    ],
)
def test_a_record_with_other_tasks_ahead_is_no_record(tmp_path, line, change):
    folder = run_folder(tmp_path)
    path = folder / "record.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    for number, place in enumerate((1, 2)):
        several = [0.5] * (2 - number)
        lines[place]["ahead"] = records.measured(number, several, several)
    path.write_text("".join(json.dumps(values) + "\n" for values in lines))
    trust.record_of(folder)
    lines[line]["ahead"] = lines[line].get("ahead", records.measured(1, [0.5], [0.5])) | change
    path.write_text("".join(json.dumps(values) + "\n" for values in lines))
    with pytest.raises(ClbenchError, match="ahead"):
        trust.record_of(folder)
