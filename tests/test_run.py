"""The main job, end to end, on the digits."""

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers import RECIPE, comparable
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import clbench
from clbench.errors import ClbenchError
from clbench.processes.rollcall import Alone, Failure
from clbench.recipe.recipe import parse
from clbench.recipe.yamlfile import read_mapping
from clbench.record import checkpoints
from clbench.runner import runner
from clbench.runner.screen import show

FILES = [
    "accuracy_matrix.csv",
    "accuracy_matrix.png",
    "config.yaml",
    "curves.csv",
    "curves.png",
    "environment.json",
    "load_model.py",
    "model.safetensors",
    "performance_and_retention.png",
    "record.jsonl",
    "split_manifest.json",
    "summary.json",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, data_dir):
    recipe = RECIPE | {"data_dir": str(data_dir), "methods": {"sfa": {"p": 0.5}}, "eval_every": 3}
    return clbench.run(recipe, tmp_path_factory.mktemp("runs") / "run").folder


def test_leaves_everything_behind(folder):
    assert [name for name in FILES if not (folder / name).exists()] == []
    environment = json.loads((folder / "environment.json").read_text())
    assert len(environment["weights"]["sha256"]) == 64
    assert len(environment["split_manifest_sha256"]) == 64


def test_summary_holds_the_documented_numbers(folder):
    summary = json.loads((folder / "summary.json").read_text())
    for scenario in ("task_incremental", "class_incremental"):
        part = summary[scenario]
        matrix = np.array(part["accuracy_matrix"], dtype=float)
        assert matrix.shape == (3, 3)
        assert np.isnan(matrix[np.triu_indices(3, 1)]).all()
        lower = matrix[np.tril_indices(3)]
        assert ((lower >= 0) & (lower <= 1)).all()
        assert part["overall_performance"] == pytest.approx(matrix[-1].mean())
        difference = matrix[-1, :-1] - np.diag(matrix)[:-1]
        assert part["backward_transfer"] == pytest.approx(difference.mean())
    retention = summary["retention"]
    assert retention["pretrained"] > 0.8
    assert len(retention["after_task"]) == 3
    change = retention["after_task"][-1] - retention["pretrained"]
    assert retention["change"] == pytest.approx(change)
    cost = summary["cost"]
    assert (cost["train_steps"], cost["samples"]) == (18, 18 * 32)
    assert min(cost["seconds"], cost["parameters"], cost["peak_memory_bytes"]) > 0


def test_the_record_says_what_the_parts_of_a_task_take(folder):
    record = clbench.Record.load(folder)
    manifest = json.loads((folder / "split_manifest.json").read_text())["tasks"]
    for event in record.tasks:
        parts = event.parts
        assert list(parts) == ["prepare", "fit", "finish", "deploy", "test", "retention"]
        assert 0 < sum(part.seconds for part in parts.values()) <= event.seconds
        assert parts["fit"].trained == event.samples
        tested = [manifest[task] for task in event.evaluated]
        assert parts["test"].passed == sum(
            task["test"] + len(task["validation_images"]) for task in tested
        )
    cost = record.summary()["cost"]
    assert sum(cost["seconds_by_part"].values()) <= cost["seconds"]


def test_the_screen_says_where_the_time_went(folder):
    record, text = clbench.Record.load(folder), io.StringIO()
    show(record, Console(file=text, width=500))
    assert re.search(r" s: .*training \d+%", text.getvalue())


def test_class_incremental_is_never_better_than_task_incremental(folder):
    record = clbench.Record.load(folder)
    by_task, by_class = (
        record.accuracy_matrix(s) for s in ("task_incremental", "class_incremental")
    )
    rows = np.tril_indices(3)
    assert (by_class[rows] <= by_task[rows]).all()


def test_curves_run_on_one_step_axis(folder):
    rows = list(csv.DictReader((folder / "curves.csv").open()))
    steps = [int(row["step"]) for row in rows if row["task"] == "0"]
    assert steps == sorted(steps)
    assert {3, 6, 9, 12, 15, 18} == set(steps)
    events = EventAccumulator(str(folder), {"images": 10}).Reload()
    points = events.Scalars("task_incremental/task_01")
    assert [p.step for p in points][-1] == 18
    assert "train/loss" in events.Tags()["scalars"]
    assert "curves" in events.Tags()["images"]


def test_resolved_config_reruns_as_it_is(folder, tmp_path):
    again = clbench.run(yaml.safe_load((folder / "config.yaml").read_text()), tmp_path / "again")
    assert comparable(clbench.Record.load(folder)) == comparable(again)
    assert (folder / "model.safetensors").read_bytes() == (
        again.folder / "model.safetensors"
    ).read_bytes()


def test_final_weights_load_into_timm(folder):
    code = (folder / "load_model.py").read_text() + "\nprint(model.num_classes)"
    run = subprocess.run(
        [sys.executable, "-c", code.replace("__file__", repr(str(folder / "load_model.py")))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "6"


def test_seeds_change_training_but_not_the_classes_or_the_splits(recipe, tmp_path):
    recipe["stream"]["order_seed"] = 3
    runs = [clbench.run(recipe | {"seed": seed}, tmp_path / str(seed)) for seed in (0, 1)]
    one, two = (record.run for record in runs)
    assert one.class_names == two.class_names != sorted(one.class_names)
    assert one.split_manifest_sha256 == two.split_manifest_sha256
    assert one.weights != two.weights


def test_multitask_trains_once_and_has_no_transfer(recipe, tmp_path):
    summary = clbench.run(recipe | {"methods": {"multitask": {}}}, tmp_path / "run").summary()
    part = summary["task_incremental"]
    assert part["accuracy_matrix"][0] == [None] * 3
    assert part["overall_performance"] == pytest.approx(np.mean(part["accuracy_matrix"][2]))
    assert part["backward_transfer"] is None
    assert summary["cost"]["train_steps"] == 6


def test_linear_probe_leaves_the_trunk_bit_for_bit(recipe, tmp_path):
    folder = clbench.run(recipe | {"methods": {"linear_probe": {}}}, tmp_path / "run").folder
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["retention"]["change"] == 0
    assert summary["task_incremental"]["backward_transfer"] == 0


def test_distances_are_over_the_trunk(recipe, tmp_path):
    probe = clbench.run(recipe | {"methods": {"linear_probe": {}}}, tmp_path / "probe")
    tuned = clbench.run(recipe, tmp_path / "tuned")
    for event in probe.tasks:  # its heads have moved
        assert event.distance == {"pretrained": 0, "previous": 0}
    for event in tuned.tasks:
        assert event.distance_over == "trunk"
        assert min(event.distance.values()) > 0


def test_linear_probed_head_already_knows_the_task(recipe, tmp_path):
    recipe["model"] |= {"head": "linear_probe", "probe": {"lr": 0.1, "epochs": 10}}
    recipe["optimizer"]["lr"] = 1e-9
    summary = clbench.run(recipe, tmp_path / "run").summary()
    assert summary["task_incremental"]["overall_performance"] > 0.75


@pytest.mark.parametrize("logits", ["seen", "all"])
def test_train_logits(recipe, tmp_path, logits):
    summary = clbench.run(recipe | {"train_logits": logits}, tmp_path / "run").summary()
    # With all classes in the loss, the newest task wins over the older ones.
    assert summary["class_incremental"]["accuracy_matrix"][2][2] > 0.5


@pytest.mark.parametrize("options", [{"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_arguments_of_the_trainer(recipe, tmp_path, options):
    recipe["trainer"] |= options
    record = clbench.run(recipe, tmp_path / "run")
    assert record.finished
    samples = record.summary()["cost"]["samples"]
    if "accumulate_grad_batches" in options:  # the last step of an epoch has one batch
        assert 1.5 * 18 * 32 < samples <= 2 * 18 * 32
    else:
        assert samples == 18 * 32


def test_a_loss_that_is_no_number_stops_the_run(recipe, tmp_path):
    recipe["optimizer"]["lr"] = 1e30
    with pytest.raises(ClbenchError, match=r"the training loss is (nan|inf)"):
        clbench.run(recipe, tmp_path / "run")


def test_an_output_that_holds_another_run_is_left_alone(recipe, tmp_path, folder):
    before = (folder / "record.jsonl").read_bytes()
    with pytest.raises(ClbenchError, match="already holds another run"):
        clbench.run(recipe, folder)
    with pytest.raises(ClbenchError, match=r"another recipe \(different: eval_every, methods\)"):
        clbench.run(recipe, folder, resume=True)
    assert (folder / "record.jsonl").read_bytes() == before


def test_recipe_is_not_changed_by_a_run(recipe, tmp_path):
    parsed = parse(recipe | {"methods": {"sfa": {}}})
    before = parsed.model_dump_json()
    clbench.run(parsed, tmp_path / "run")
    assert parsed.model_dump_json() == before
    assert parsed.methods["sfa"]._anchor is None


def test_gradients_of_idle_rows_do_not_move_them(recipe, tmp_path):
    """Weight decay must not shrink the head rows of tasks that are not being trained."""
    recipe["optimizer"]["weight_decay"] = 0.5
    recipe["methods"] = {"linear_probe": {}}
    folder = clbench.run(recipe, tmp_path / "run").folder
    record = clbench.Record.load(folder)
    matrix = record.accuracy_matrix()
    assert matrix[2, 0] == matrix[0, 0]
    assert checkpoints.load(folder, 3)["shown"]["fc.weight"][:2].norm() > 0.01


def test_a_run_that_another_process_has_had_stopped_says_how_to_go_on(
    recipe, tmp_path, monkeypatch, capsys
):
    """Before its first checkpoint, too; here, what that process's end looks like is an error."""
    made = Alone()

    def lost(*_, **__):
        made.failure = Failure("stopped", signal.SIGTERM)
        raise RuntimeError("[x.cc:1] gloo: connection closed by peer")

    monkeypatch.setattr(runner, "meet", lambda _: made)
    monkeypatch.setattr(runner.Setup, "of", lost)
    with pytest.raises(KeyboardInterrupt) as caught:
        runner.run(recipe, tmp_path / "run")
    assert caught.value.args == (signal.SIGTERM,)
    assert f"Stopped. Finished tasks are kept; go on with --resume --output {tmp_path}" in (
        capsys.readouterr().out
    )


def test_a_run_with_a_broken_record_is_not_said_to_go_on(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "run")
    with (tmp_path / "run" / "record.jsonl").open("a") as record:
        record.write("[]\n")
    config = read_mapping(tmp_path / "run" / "config.yaml")
    with pytest.raises(ClbenchError, match=r"cannot be gone on with: .*record\.jsonl"):
        clbench.run(config, tmp_path / "run", resume=True)
    assert "Stopped" not in capsys.readouterr().out
