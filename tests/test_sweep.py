"""A sweep's rows are what runs with those settings record, without their training."""

import copy
import dataclasses
import json
import re
import shutil

import pytest
import torch
import yaml
from helpers import RECIPE

import clbench
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.recipe.recipe import parse
from clbench.record import checkpoints
from clbench.record.record import SCENARIOS
from clbench.streams.split import SplitConfig
from clbench.sweep import view as sweepview
from clbench.sweep.sweeping import best as best_of
from clbench.sweep.sweeping import row_of, sweep
from clbench.sweep.values import parameters, read_values

#: Recipes to sweep over: changes, methods, the parameter, a value, the methods with that value.
CASES = {
    "plain": ({}, {}, "alpha", 0.3, {"wise_ft": {"alpha": 0.3}}),
    "wise_ft": ({}, {"wise_ft": {"alpha": 0.9}}, "alpha", 0.3, {"wise_ft": {"alpha": 0.3}}),
    "previous": (
        {},
        {"wise_ft": {"alpha": 0.9, "anchor": "previous"}},
        "alpha",
        0.3,
        {"wise_ft": {"alpha": 0.3, "anchor": "previous"}},
    ),
    "probed_head": (
        {"model": {"head": "linear_probe"}},
        {"sfa": {"p": 0.5}},
        "alpha",
        0.3,
        {"sfa": {"p": 0.5}, "wise_ft": {"alpha": 0.3}},
    ),
    "lora": ({}, {"lora": {}}, "alpha", 0.3, {"lora": {}, "wise_ft": {"alpha": 0.3}}),
    "multitask": (
        {},
        {"multitask": {}},
        "alpha",
        0.3,
        {"multitask": {}, "wise_ft": {"alpha": 0.3}},
    ),
    "recomputed_statistics": (
        {"model": {"backbone": "test_resnet", "options": {}, "batch_norm": "recompute"}},
        {},
        "alpha",
        0.3,
        {"wise_ft": {"alpha": 0.3}},
    ),
    "slda": ({}, {"slda": {}}, "shrinkage", 0.5, {"slda": {"shrinkage": 0.5}}),
    "task_arithmetic": (
        {},
        {"task_arithmetic": {}},
        "scale",
        0.7,
        {"task_arithmetic": {"scale": 0.7}},
    ),
    "shared_labels": (
        {"stream": {"labels": "shared"}, "model": {"head": "linear_probe"}},
        {"task_arithmetic": {}},
        "scale",
        0.7,
        {"task_arithmetic": {"scale": 0.7}},
    ),
    "merged_then_averaged": (
        {},
        {"wise_ft": {"alpha": 0.8}, "task_arithmetic": {}},
        "alpha",
        0.3,
        {"wise_ft": {"alpha": 0.3}, "task_arithmetic": {}},
    ),
    "opcm": (
        {},
        {"opcm": {"convolutions": "project"}},
        "alpha",
        0.9,
        {"opcm": {"alpha": 0.9, "convolutions": "project"}},
    ),
    "ties_scale": ({}, {"ties": {}}, "scale", 0.7, {"ties": {"scale": 0.7}}),
    "ties_density": ({}, {"ties": {}}, "density", 0.6, {"ties": {"density": 0.6}}),
}
pytestmark = pytest.mark.usefixtures("no_pictures")
ONLY_LAST = ["plain", "wise_ft", "probed_head", "task_arithmetic", "ties_scale"]


def recipe_of(data_dir, changes, methods, keep="all"):
    values = copy.deepcopy(RECIPE) | {"data_dir": str(data_dir)}
    for section, fields in changes.items():
        values[section] |= fields
    return values | {"methods": methods, "checkpoints": keep}


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory, data_dir):
    return clbench.run(recipe_of(data_dir, {}, {}), tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize("case", CASES)
def test_a_row_is_what_a_run_with_that_setting_records(data_dir, tmp_path, case):
    changes, methods, parameter, value, with_value = CASES[case]
    base = clbench.run(recipe_of(data_dir, changes, methods), tmp_path / "base")
    other = clbench.run(recipe_of(data_dir, changes, with_value), tmp_path / "other")
    made = sweep(base.folder, parameter, [value])
    assert made.rows == [row_of(other, value)]
    assert made.rows[0].retention is not None
    assert (made.rows[0].backward_transfer["task_incremental"] is None) == (
        case in ("multitask", "independent")
    )


@pytest.mark.parametrize("case", CASES)
def test_the_runs_own_setting_gives_its_own_numbers(data_dir, tmp_path, case):
    changes, methods, parameter, *_ = CASES[case]
    keep = "last" if case in ONLY_LAST else "all"
    record = clbench.run(recipe_of(data_dir, changes, methods, keep), tmp_path / "run")
    parsed = parse(recipe_of(data_dir, changes, methods)).methods
    swept = next((parsed[n] for n in parameters()[parameter] if n in parsed), None)
    own = getattr(swept, parameter) if swept else 1.0
    made = sweep(record.folder, parameter, [own])
    (row,) = made.rows
    summary = record.summary()
    assert made.reproduced
    assert made.own.value == own
    assert row.retention == made.own.retention == summary["retention"]["after_task"][-1]
    assert row.validation == made.own.validation
    for scenario in SCENARIOS:
        scores = summary[scenario]
        assert row.overall_performance[scenario] == scores["overall_performance"]
        transfer = None if keep == "last" else scores["backward_transfer"]
        assert row.backward_transfer[scenario] == transfer


def test_no_value_stands_for_a_mean_that_changes_with_the_tasks(data_dir, tmp_path):
    methods = {"task_arithmetic": {"scale": "mean"}}
    record = clbench.run(recipe_of(data_dir, {}, methods), tmp_path / "run")
    made = sweep(record.folder, "scale", [0.9, 1 / len(record.tasks)])
    assert made.own.value is None
    assert made.reproduced is None
    for scenario in SCENARIOS:  # after the last task it is 1/number of tasks
        own = record.summary()[scenario]["overall_performance"]
        assert made.rows[1].overall_performance[scenario] == own


def test_independent_tasks_count_each_with_its_own_model(data_dir, tmp_path, monkeypatch):
    build = SplitConfig.build

    def independent(self, *arguments):
        return dataclasses.replace(build(self, *arguments), independent=True)

    monkeypatch.setattr(SplitConfig, "build", independent)
    base = clbench.run(recipe_of(data_dir, {}, {}), tmp_path / "base")
    with_value = recipe_of(data_dir, {}, {"wise_ft": {"alpha": 0.3, "anchor": "previous"}})
    other = clbench.run(with_value, tmp_path / "other")
    made = sweep(base.folder, "alpha", [0.3, 1.0], anchor="previous")
    assert made.rows == [row_of(other, 0.3), row_of(base, 1.0)]
    checkpoints.save(base.folder, 3, checkpoints.load(base.folder, 3), {}, "last")
    with pytest.raises(ClbenchError, match="independent tasks have a model each"):
        sweep(base.folder, "alpha", [0.3])


def test_what_is_collected_of_an_independent_task_is_of_it_alone(data_dir, tmp_path, monkeypatch):
    build = SplitConfig.build

    def independent(self, *arguments):
        return dataclasses.replace(build(self, *arguments), independent=True)

    monkeypatch.setattr(SplitConfig, "build", independent)
    base, other = (
        clbench.run(recipe_of(data_dir, {}, {"slda": {"shrinkage": value}}), tmp_path / str(value))
        for value in (1e-4, 0.5)
    )
    made = sweep(base.folder, "shrinkage", [1e-4, 0.5])
    assert made.rows == [row_of(base, 1e-4), row_of(other, 0.5)]


def test_the_ends_are_the_pretrained_and_the_trained_weights(plain_run):
    made = sweep(plain_run.folder, "alpha", [0.0, 0.5, 1.0])
    summary = plain_run.summary()
    assert made.rows[0].retention == summary["retention"]["pretrained"]
    assert made.rows[2] == made.own
    assert made.rows[2].retention == summary["retention"]["after_task"][-1]
    assert made.rows[0] != made.rows[1] != made.rows[2]


def test_the_last_task_alone_gives_the_same_but_bwt(plain_run, tmp_path):
    whole = sweep(plain_run.folder, "alpha", [0.4]).rows[0]
    folder = shutil.copytree(plain_run.folder, tmp_path / "run")
    state, methods = checkpoints.load(folder, 3), checkpoints.last(folder)["methods"]
    checkpoints.save(folder, 3, state, methods, "last")
    assert checkpoints.numbers(folder) == [3]
    row = sweep(folder, "alpha", [0.4]).rows[0]
    assert row.backward_transfer == dict.fromkeys(SCENARIOS)
    assert whole.backward_transfer["task_incremental"] is not None
    for name in ("validation", "overall_performance", "retention"):
        assert getattr(row, name) == getattr(whole, name)


def test_sweeping_leaves_the_run_as_it_was(plain_run):
    def contents():
        files = (path for path in plain_run.folder.rglob("*") if path.is_file())
        return {p: p.read_bytes() for p in files if not p.name.startswith("sweep")}

    before = contents()
    sweep(plain_run.folder, "alpha", [0.5])
    assert contents() == before


@pytest.mark.parametrize(
    ("accuracies", "own", "best"),
    [
        ([0.5, 0.9, 0.7], 1.0, 1),
        ([0.9, 0.9, 0.7], 1.0, 1),  # nearer to the run
        ([0.9, 0.9, 0.7], 0.0, 0),
        ([0.9, 0.8, 0.9], 0.5, 0),  # as near: the first
        ([0.9, 0.9, 0.9], None, 0),
    ],
)
def test_equals_go_to_the_value_nearest_to_the_run(accuracies, own, best):
    assert best_of(accuracies, [0.0, 0.5, 1.0], own) == best


@pytest.mark.parametrize("by", SCENARIOS)
def test_validation_picks_and_test_data_makes_the_oracle(plain_run, monkeypatch, by):
    """The pick stays where it was when test data and retention say the opposite."""
    from clbench.sweep import sweeping as module

    def made_up(record, value):
        row = row_of(record, value)
        if value is None or len(record.tasks) < 1 or value not in (0.2, 0.4):
            return row
        sign = 1 if value == 0.2 else -1
        held_out, test = (dict.fromkeys(SCENARIOS, 0.5 + x * sign) for x in (0.1, -0.2))
        return module.Row(value, held_out, test, row.backward_transfer, 0.5 - 0.3 * sign)

    monkeypatch.setattr(module, "row_of", made_up)
    made = sweep(plain_run.folder, "alpha", [0.2, 0.4], by)
    assert (made.chosen, made.oracle, made.by) == (0, 1, by)


@pytest.mark.parametrize("text", ["", "a", "0:1", "0:1:0", "1:0:0.1", "0:1:-0.5", "0,nan", "inf"])
def test_what_is_no_range(text):
    with pytest.raises(ClbenchError, match="are no values: write start:stop:step"):
        read_values(text)


def test_ranges_are_exact_decimals():
    assert read_values("0:1:0.05") == [float(f"{k / 20:.2f}") for k in range(21)]
    assert read_values("0.5,0.5,0.1") == [0.5, 0.1]


def call(capsys, *words):
    code = main(["sweep", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err.strip()


def test_the_command(plain_run, capsys):
    folder = plain_run.folder
    code, out, _ = call(capsys, folder, "--alpha", "0:1:0.5", "--by", "class_incremental")
    assert code == 0
    for text in ("Picked by class-incremental validation", "Oracle, best on test: α ="):
        assert text in out
    assert re.search(r"│ +1 │.*\brun\b", out)
    assert max(len(line) for line in out.splitlines() if line.startswith("│")) <= 80
    values = json.loads((folder / "sweep-alpha.json").read_text())
    assert [row["value"] for row in values["rows"]] == [0, 0.5, 1]
    assert (values["parameter"], values["by"]) == ("alpha", "class_incremental")
    assert values["anchor"] == "pretrained"
    assert values["reproduced"] is True
    held_out = [row["validation"]["class_incremental"] for row in values["rows"]]
    assert held_out[values["chosen"]] == max(held_out)
    assert (folder / "sweep-alpha.png").read_bytes().startswith(b"\x89PNG")
    assert call(capsys, folder, "--alpha", "0.5", "--anchor", "previous")[0] == 0
    assert (folder / "sweep-alpha-previous.png").exists()


def test_without_validation_and_retention(data_dir, tmp_path, capsys):
    values = recipe_of(data_dir, {"stream": {"validation": 0}}, {}, "last")
    folder = clbench.run(values | {"retention": {"data": "none"}}, tmp_path / "run").folder
    code, out, _ = call(capsys, folder, "--alpha", "0.5,1")
    assert code == 0
    assert "No pick" in out
    assert "No BWT" in out
    values = json.loads((folder / "sweep-alpha.json").read_text())
    assert (values["chosen"], values["rows"][0]["retention"]) == (None, None)
    assert (folder / "sweep-alpha.png").exists()


@pytest.mark.parametrize(
    ("keep", "methods", "words", "message"),
    [
        ("last", {"ties": {}}, "--density 0.5", r"density trims .*: run again with checkpoints: a"),
        ("last", {}, "--alpha 0.5 --anchor previous", "previous needs the weights before the last"),
        ("none", {}, "--alpha 0.5", r"keeps no weights .*\(checkpoints: none\): run again with"),
        ("last", {"wise_ft": {"carry_on": True}}, "--alpha 0.5", "needs training.*carry_on: false"),
        ("last", {}, "--scale 0.5", "run without task_arithmetic or ties"),
        ("last", {"task_arithmetic": {}}, "--density 0.5", "was run without ties"),
        ("last", {}, "--alpha 1.5", r"methods.wise_ft.alpha = 1.5: .*less than or equal to 1"),
        ("last", {}, "--alpha 0.5 --scale 1", "got --alpha and --scale"),
        (
            "last",
            {},
            "",
            "clbench sweep needs one of --alpha, .*--shrinkage, .*got none",
        ),
        ("last", {"ties": {}}, "--scale 1 --anchor previous", "ties has no anchor"),
        (
            "last",
            {"wise_ft": {}, "ties": {}},
            "--alpha 0.5",
            "ties takes up what wise_ft gives for every task",
        ),
    ],
)
def test_what_cannot_be_swept(data_dir, tmp_path, capsys, keep, methods, words, message):
    values = recipe_of(data_dir, {}, methods, keep) | {"steps": 1}
    values["stream"]["train_per_class"] = 20
    folder = clbench.run(values, tmp_path / "run").folder
    capsys.readouterr()
    code, _, err = call(capsys, folder, *words.split())
    assert code == 2
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err
    assert not list(folder.glob("sweep*"))


def test_runs_that_are_not_there_finished_or_the_same(plain_run, tmp_path):
    with pytest.raises(ClbenchError, match="holds no run"):
        sweep(tmp_path, "alpha", [0.5])
    folder = shutil.copytree(plain_run.folder, tmp_path / "run")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for changes, what in (
        ({"stream": config["stream"] | {"validation": 0.2}}, "data"),
        ({"model": config["model"] | {"pretraining": {"epochs": 1}}}, "pretrained weights"),
    ):
        (folder / "config.yaml").write_text(yaml.safe_dump(config | changes))
        with pytest.raises(ClbenchError, match=f"the {what} of .*not those of the run any more"):
            sweep(folder, "alpha", [0.5])
    record = folder / "record.jsonl"
    record.write_text("\n".join(record.read_text().splitlines()[:-1]))
    with pytest.raises(ClbenchError, match="is not finished: go on with"):
        sweep(folder, "alpha", [0.5])


def test_a_run_that_cannot_be_reproduced_says_so(plain_run, tmp_path, capsys):
    folder = shutil.copytree(plain_run.folder, tmp_path / "run")
    state = checkpoints.load(folder, 3)
    trained = {name: torch.zeros_like(x) for name, x in state["trained"].items()}
    checkpoints.save(folder, 3, state | {"trained": trained}, {}, "last")
    code, out, _ = call(capsys, folder, "--alpha", "0.5,1")
    assert code == 0
    assert "WARNING: at α = 1" in out


def test_a_sweep_trains_nothing_so_that_nothing_is_tried_out(plain_run, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert sweep(plain_run.folder, "alpha", [1.0]).reproduced


def test_where_tasks_share_labels_one_accuracy_is_shown(data_dir, tmp_path, capsys):
    recipe = copy.deepcopy(RECIPE) | {"data_dir": str(data_dir), "steps": 2}
    recipe["stream"] = recipe["stream"] | {"labels": "shared"}
    clbench.run(recipe, tmp_path / "run")
    capsys.readouterr()
    assert main(["sweep", str(tmp_path / "run"), "--alpha", "0,1"]) == 0
    told = capsys.readouterr().out
    assert "in % (domain-incremental)" in told
    assert "Picked by domain-incremental validation accuracy" in told
    assert " / " not in told
    done = sweep(tmp_path / "run", "alpha", [0.0, 1.0])
    assert len([axis for axis in sweepview.figure(done).axes if axis.get_title()]) == 1


def test_tasks_with_settings_of_their_own_give_their_own_numbers(data_dir, tmp_path):
    values = recipe_of(data_dir, {}, {"wise_ft": {}, "ties": {}})
    last = parse(values).build_stream().tasks[-1].name
    values["per_task"] = {last: {"methods": {"ties": {"scale": 0.2}}}}
    record = clbench.run(values, tmp_path / "run")
    made = sweep(record.folder, "alpha", [0.5])
    assert made.reproduced
    own = record.summary()["task_incremental"]["overall_performance"]
    assert made.rows[0].overall_performance["task_incremental"] == own


def test_a_swept_value_leaves_a_task_its_other_settings(data_dir, tmp_path):
    values = recipe_of(data_dir, {}, {"ties": {"density": 0.2}})
    last = parse(values).build_stream().tasks[-1].name
    own = {"density": 0.7, "scale": 0.4}
    values["per_task"] = {last: {"methods": {"ties": own}}}
    record = clbench.run(values, tmp_path / "run")
    made = sweep(record.folder, "scale", [0.9])
    assert made.own.value is None  # the run has another scale in its last task
    values["methods"]["ties"]["scale"] = 0.9
    values["per_task"][last]["methods"]["ties"] = {"density": 0.7}
    assert made.rows == [row_of(clbench.run(values, tmp_path / "other"), 0.9)]
