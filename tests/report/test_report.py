import csv
import json
import runpy

import numpy as np
import pytest
import records
import torch
from matplotlib.image import imread
from rich.console import Console
from safetensors import safe_open

from clbench.errors import ClbenchError
from clbench.models.tiny import TinyCNN
from clbench.record import scores
from clbench.record.record import SCENARIOS, Record
from clbench.report.figures import figures
from clbench.runner import outputs as files
from clbench.runner import screen


def accuracy(scenario, after, task):
    """A made-up accuracy, another for every place."""
    start = 0.9 if scenario == "task_incremental" else 0.7
    return round(max(0.0, start - 0.02 * (after - task) - 0.003 * task), 4)


def write(
    folder, count, rows=None, retention=True, end=True, curve=False, active=1.0, scope=None, **run
):
    """The record of a run over ``count`` tasks; ``rows`` says what was measured after which."""
    rows = rows or {after: list(range(after + 1)) for after in range(count)}
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "methods": {"sfa": {"p": 0.5}},
        "seed": 3,
        "options": {"width": 8},
        "tasks": [f"task {i}" for i in range(count)],
        "class_names": ["a", "b", "c"],
        "parameters": 1234,
    }
    events = [
        records.run_event(**about | run),
        records.pretrained(0.75 if retention else None, 0.96),
    ]
    for number, (after, tasks) in enumerate(rows.items(), 1):
        measured = records.measured(
            tasks[0], *([accuracy(s, after, task) for task in tasks] for s in SCENARIOS)
        )
        step = 100 * (number - 1) + 50
        top = {"top1": 0.7 - after / 100, "top5": 0.9 - after / 100}
        events.append(
            records.task_event(
                after,
                measured,
                name=f"task {after}",
                last_step=100 * number,
                retention=top if retention else None,
                curve=[measured | {"step": step}] if curve else [],
                methods={"sfa": {"active": active, "scope": scope}},
                footprint={"sfa": records.FOOTPRINT},
                steps=100,
                samples=3200,
                seconds=2.0,
                peak_memory_bytes=1000 + after,
            )
        )
    records.write(folder, [*events, records.end()] if end else events)
    return Record.load(folder)


def matrix(scenario, count):
    return np.array([[accuracy(scenario, t, i) for i in range(count)] for t in range(count)])


@pytest.mark.parametrize("count", [2, 3, 20])
def test_summary_of_a_stream(tmp_path, count):
    summary = write(tmp_path, count).summary()
    for scenario in SCENARIOS:
        R = matrix(scenario, count)
        part = summary[scenario]
        for name in ("overall_performance", "backward_transfer", "forgetting", "learning_accuracy"):
            assert part[name] == getattr(scores, name)(R)
        assert part["accuracy_matrix"] == [
            [R[t, i] if i <= t else None for i in range(count)] for t in range(count)
        ]
    retention = summary["retention"]
    assert retention["pretrained"] == 0.75
    assert retention["after_task"] == [0.7 - t / 100 for t in range(count)]
    assert retention["change"] == pytest.approx(0.7 - (count - 1) / 100 - 0.75)
    cost = summary["cost"]
    assert (cost["train_steps"], cost["samples"]) == (100 * count, 3200 * count)
    assert (cost["seconds"], cost["parameters"]) == (2.0 * count, 1234)
    assert cost["peak_memory_bytes"] == 1000 + count - 1
    assert summary["finished"]
    assert summary["inactive"] == []


def test_summary_of_one_task(tmp_path):
    part = write(tmp_path, 1).summary()["task_incremental"]
    assert part["overall_performance"] == part["learning_accuracy"] == 0.9
    assert part["backward_transfer"] is None
    assert part["forgetting"] is None


def test_summary_of_tasks_trained_together(tmp_path):
    summary = write(tmp_path, 3, {2: [0, 1, 2]}).summary()
    part = summary["class_incremental"]
    row = [accuracy("class_incremental", 2, i) for i in range(3)]
    assert part["accuracy_matrix"] == [[None] * 3, [None] * 3, row]
    assert part["overall_performance"] == pytest.approx(np.mean(row))
    assert [part[n] for n in ("backward_transfer", "forgetting", "learning_accuracy")] == [None] * 3


def test_summary_of_independent_tasks(tmp_path):
    summary = write(tmp_path, 3, {i: [i] for i in range(3)}, independent=True).summary()
    part = summary["task_incremental"]
    mean = np.mean([accuracy("task_incremental", i, i) for i in range(3)])
    assert part["overall_performance"] == part["learning_accuracy"] == pytest.approx(mean)
    assert part["backward_transfer"] is None
    assert part["accuracy_matrix"][1] == [None, accuracy("task_incremental", 1, 1), None]
    kept = summary["retention"]
    assert kept["change"] == pytest.approx(sum(kept["after_task"]) / 3 - kept["pretrained"])


def test_summary_has_scores_over_images_where_sizes_are_known(tmp_path):
    sizes = [30, 10, 20]
    found = write(tmp_path / "new", 3, test_images=sizes).summary()
    old = write(tmp_path / "old", 3).summary()
    for scenario in SCENARIOS:
        R = matrix(scenario, 3)
        part = found[scenario]
        for name in ("overall_performance", "average_incremental_accuracy"):
            assert part[name] == old[scenario][name] == getattr(scores, name)(R)
            assert part[f"{name}_micro"] == getattr(scores, name)(R, sizes)
            assert old[scenario][f"{name}_micro"] is None
        assert part["forward_transfer"] is part["mtil_transfer"] is part["mtil_average"] is None
        assert part["geometric_mean"] == pytest.approx(
            (part["overall_performance"] * found["retention"]["kept"]) ** 0.5
        )
    assert found["retention"]["kept"] == pytest.approx(0.68 / 0.75)
    alone = {i: [i] for i in range(3)}
    part = write(tmp_path / "alone", 3, alone, independent=True, test_images=sizes).summary()[
        "class_incremental"
    ]
    own = [accuracy("class_incremental", i, i) for i in range(3)]
    assert part["overall_performance_micro"] == pytest.approx(np.average(own, weights=sizes))
    assert part["average_incremental_accuracy"] is None


def test_summary_of_a_run_whose_curves_were_measured(tmp_path):
    part = write(tmp_path / "with", 3, curve=True).summary()["class_incremental"]
    lowest = np.mean([accuracy("class_incremental", 2, i) for i in range(2)])
    assert part["min_accuracy"] == pytest.approx(lowest)
    last = accuracy("class_incremental", 2, 2)
    assert part["worst_case_accuracy"] == pytest.approx(last / 3 + 2 / 3 * lowest)
    part = write(tmp_path / "without", 3).summary()["class_incremental"]
    assert part["min_accuracy"] is part["worst_case_accuracy"] is None


def test_summary_without_retention(tmp_path):
    retention = write(tmp_path, 2, retention=False).summary()["retention"]
    assert retention == {"pretrained": None, "after_task": None, "change": None, "kept": None}


def test_summary_of_a_run_that_was_cut_off(tmp_path):
    summary = write(tmp_path, 3, {0: [0], 1: [0, 1]}, end=False).summary()
    assert not summary["finished"]
    assert summary["task_incremental"]["overall_performance"] is None
    assert summary["task_incremental"]["accuracy_matrix"][2] == [None] * 3
    assert summary["cost"]["train_steps"] == 200


def test_summary_before_the_first_task_is_done(tmp_path):
    events = write(tmp_path, 2).events[:2]
    early = Record(tmp_path, events).summary()
    assert early["cost"]["train_steps"] == 0
    assert early["retention"]["change"] is None


def test_methods_without_effect_are_named(tmp_path):
    assert write(tmp_path, 2, active=0.0).summary()["inactive"] == ["sfa"]


@pytest.mark.parametrize(("scope", "named"), [(None, []), (0.09, ["sfa"]), (0.1, []), (1, [])])
def test_methods_that_could_do_next_to_nothing_are_named(tmp_path, scope, named):
    summary = write(tmp_path, 2, scope=scope).summary()
    assert summary["ineffective"] == named
    assert summary["scope"] == {"sfa": scope}
    assert write(tmp_path, 2, active=0.0, scope=0).summary()["ineffective"] == []  # is inactive


def test_a_line_cut_off_by_a_crash_is_passed_over(tmp_path):
    write(tmp_path, 2)
    path = tmp_path / "record.jsonl"
    path.write_text(path.read_text()[:-10])
    record = Record.load(tmp_path)
    assert len(record.tasks) == 2
    assert not record.finished


def test_a_folder_without_a_record_is_no_run(tmp_path):
    with pytest.raises(ClbenchError, match=r"holds no run: there is no .*record.jsonl"):
        Record.load(tmp_path)


def test_events_up_to_a_task(tmp_path):
    events = write(tmp_path, 3).until_task(1)
    assert [event.event for event in events] == ["run", "pretrained", "task", "task"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    names = ["4, 5", 'the "rest"', "task 2"]
    record = write(tmp_path_factory.mktemp("written"), 3, curve=True, tasks=names)
    files.write(record)
    return record


def test_summary_is_written(written):
    assert json.loads((written.folder / "summary.json").read_text()) == written.summary()
    assert not list(written.folder.glob(".*"))


@pytest.mark.parametrize("name", ["accuracy_matrix", "curves", "performance_and_retention"])
def test_pictures_are_written(written, name):
    picture = imread(written.folder / f"{name}.png")
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.02  # not a blank page


@pytest.mark.parametrize(
    ("count", "rows", "options"),
    [
        (1, None, {}),
        (3, None, {"curve": True}),
        (20, None, {}),
        (3, {2: [0, 1, 2]}, {}),
        (3, {i: [i] for i in range(3)}, {"independent": True}),
        (2, None, {"retention": False}),
        (3, {0: [0]}, {"end": False}),
    ],
)
def test_figures_of_every_kind_of_run(tmp_path, count, rows, options):
    made = figures(write(tmp_path, count, rows, **options))
    assert len(made) == 3
    for figure in made.values():
        figure.draw_without_rendering()  # lays out; warnings are errors


def test_figures_show_the_numbers(tmp_path):
    shown = figures(write(tmp_path, 3, curve=True))
    heat = shown["accuracy_matrix"].axes[0]
    texts = {(t.get_position(), t.get_text()) for t in heat.texts}
    wanted = {
        ((i, t), f"{100 * accuracy('task_incremental', t, i):.1f}")
        for t in range(3)
        for i in range(t + 1)
    }
    assert texts == wanted
    lines = shown["curves"].axes[1].get_lines()
    first = lines[0].get_xydata()
    assert first[:, 0].tolist() == [50, 100, 150, 200, 250, 300]
    means = shown["performance_and_retention"].axes[0].get_lines()
    assert means[2].get_xydata().tolist() == [
        [0, 0.75],
        *([t + 1, 0.7 - t / 100] for t in range(3)),
    ]


def test_matrix_table_equals_the_matrix(written):
    rows = list(csv.reader((written.folder / "accuracy_matrix.csv").open()))
    assert rows[0] == ["scenario", "after_task", *written.run.tasks]
    assert len(rows) == 7
    for scenario, start in zip(SCENARIOS, (1, 4), strict=True):
        for t, row in enumerate(rows[start : start + 3]):
            assert row[:2] == [scenario, written.run.tasks[t]]
            values = [float(x) if x else None for x in row[2:]]
            assert values == [accuracy(scenario, t, i) if i <= t else None for i in range(3)]


def test_curve_table_has_every_point(written):
    rows = list(csv.DictReader((written.folder / "curves.csv").open()))
    places = [(int(row["step"]), int(row["task"])) for row in rows]
    steps = [(s, t) for t in range(3) for s in (100 * t + 50, 100 * t + 100)]
    assert places == [(step, task) for step, last in steps for task in range(last + 1)]
    for row in rows:
        after = (int(row["step"]) - 1) // 100
        for scenario in SCENARIOS:
            assert float(row[scenario]) == accuracy(scenario, after, int(row["task"]))


def shown(record, width=80):
    console = Console(width=width, record=True, soft_wrap=True, force_terminal=False)
    screen.show(record, console)
    return console.export_text()


def test_screen_shows_the_scores_in_percent(tmp_path):
    text = shown(write(tmp_path, 3))
    R = [matrix(scenario, 3) for scenario in SCENARIOS]
    for label, values in (
        ("overall performance", [f"{100 * scores.overall_performance(r):.1f}" for r in R]),
        ("Ā", [f"{100 * scores.average_incremental_accuracy(r):.1f}" for r in R]),
        ("backward transfer", [f"{100 * scores.backward_transfer(r):+.1f}" for r in R]),
        ("forgetting", [f"{100 * scores.forgetting(r):.1f}" for r in R]),
        ("learning accuracy", [f"{100 * scores.learning_accuracy(r):.1f}" for r in R]),
    ):
        line = next(line for line in text.splitlines() if label in line)
        assert all(value in line for value in values)
    assert "made up after 3 tasks" in text
    assert "68.0 % after the stream, 75.0 % pretrained, change -7.0 points" in text
    assert "300 steps, 9,600 samples, 1,234 parameters, 6.0 s" in text
    assert "WARNING" not in text


def test_screen_says_what_was_not_measured(tmp_path):
    text = shown(write(tmp_path, 1, retention=False))
    assert "Retention by the original head was not measured" in text
    line = next(line for line in text.splitlines() if "backward transfer" in line)
    assert line.count("–") == 2


def test_screen_warns_of_methods_without_effect(tmp_path):
    assert "WARNING: method sfa had no effect" in shown(write(tmp_path, 2, active=0.0))
    little = shown(write(tmp_path, 2, scope=0.05))
    assert "WARNING: method sfa could do next to nothing (scope 5.00%): the learning" in little
    assert "had no effect" not in little
    assert "WARNING" not in shown(write(tmp_path, 2, scope=0.5))


@pytest.mark.parametrize("name", ["a" * 120, "with [brackets]", "with [bold]markup[/]"])
def test_screen_shows_the_folder_so_that_it_can_be_copied(tmp_path, name):
    record = write(tmp_path / name, 2)
    for file in ("summary.json", "accuracy_matrix.csv"):
        (record.folder / file).touch()
    text = shown(record)
    assert f"Files in {tmp_path / name}:" in text
    assert f"tensorboard --logdir {tmp_path / name}\n" in text
    assert "summary.json  accuracy_matrix.csv" in text
    assert "model.safetensors" not in text  # only what is there


def test_line_of_a_task(tmp_path):
    event = write(tmp_path, 2).tasks[1]
    by_task, by_class = ((accuracy(s, 1, 0) + accuracy(s, 1, 1)) / 2 for s in SCENARIOS)
    assert screen.line(event) == (
        f"accuracy {accuracy('task_incremental', 1, 1):.1%}, mean of seen tasks {by_task:.1%} "
        f"(class-incremental {by_class:.1%}), retention 69.0%, 2.0 s"
    )
    assert "retention" not in screen.line(event.model_copy(update={"retention": None}))


def test_exported_weights_load_as_told(tmp_path):
    torch.manual_seed(0)
    model = TinyCNN(3, width=8).eval()
    files.export(write(tmp_path, 2), model.state_dict())
    loaded = runpy.run_path(str(tmp_path / "load_model.py"))["model"]
    assert not loaded.training
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(images), model(images))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["class_names"]) == ["a", "b", "c"]


def test_exported_transformers_load_at_their_size(tmp_path):
    import timm

    from clbench.models import ModelConfig
    from clbench.models.backbone import load

    config = ModelConfig(backbone="vit_base_patch16_224", weights="none", options={"depth": 1})
    model = load(config, 3, 32).model.eval()
    record = write(tmp_path, 2, backbone=config.backbone, options=config.options, size=32)
    files.export(record, model.state_dict())
    loaded = runpy.run_path(str(tmp_path / "load_model.py"))["model"]
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(images), model(images))
    assert isinstance(loaded, timm.models.VisionTransformer)
