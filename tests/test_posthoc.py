"""Post-hoc methods laid on a finished run are what runs with them record, without training."""

import copy
import json
import re
import shutil

import pytest
import torch
from helpers import RECIPE, comparable

import clbench
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.method import Method
from clbench.methods import METHODS
from clbench.methods import ncm as ncm_file
from clbench.methods.posthoc import hands_on, needs_training
from clbench.record import checkpoints
from clbench.report.compare import compare
from clbench.sweep import laying
from clbench.sweep.posthoc import lay

pytestmark = pytest.mark.usefixtures("no_pictures")
#: Settings that keep a method's test short, or let it act in a short stream.
SHORT = {
    "align_head": {"epochs": 2},
    "ranpac": {"features": 50},
    "dare": {"drop": 0.5},
    "knn": {"k": 5},
}


def is_laid(name):
    """Whether a method, as it is set, is post hoc, and a run would not go on from what it makes."""
    method = METHODS[name].model_construct(**SHORT.get(name, {}))
    return not needs_training(name, method) and not hands_on(method)


ROWS = {
    **{name: {name: SHORT.get(name, {})} for name in METHODS if name != "sequential"},
    "wise_ft to θ_o": {"wise_ft": {"anchor": "previous"}},
    "ncm first": {"ncm": {"tuned": "first"}},
    "ncm always": {"ncm": {"tuned": "always"}},
    "slda first": {"slda": {"tuned": "first"}},
    "ranpac first": {"ranpac": {"features": 50, "tuned": "first"}},
    "ranpac always": {"ranpac": {"features": 50, "tuned": "always"}},
    "knn always": {"knn": {"k": 5, "per_class": 20, "tuned": "always"}},
    "averaged, then ncm": {"wise_ft": {"alpha": 0.3}, "ncm": {"tuned": "always"}},
    "dare, then magmax": {"dare": {"drop": 0.5}, "magmax": {}},
    # A run would go on from the rows that it trains, and with it train nothing else otherwise.
    "head_refit": {"head_refit": {"probe": {"epochs": 2}}},
}
ROWS = {n: m for n, m in ROWS.items() if n not in METHODS or is_laid(n) or n == "head_refit"}
#: Other runs: changes, their own methods, what is laid on them.
RUNS = {
    "recomputed statistics": (
        {"model": {"backbone": "test_resnet", "options": {}, "batch_norm": "recompute"}},
        {},
        {"wise_ft": {"alpha": 0.3}, "slda": {"tuned": "always"}},
    ),
    "probed head": ({"model": {"head": "linear_probe"}}, {"sfa": {"p": 0.5}}, {"wise_ft": {}}),
    "shared labels": ({"stream": {"labels": "shared"}}, {}, {"ncm": {"tuned": "always"}}),
    "merged already": ({}, {"magmax": {}}, {"slda": {"tuned": "always"}}),
    "penalised, and seen once more": (
        {
            "retention": {"measures": ["head", "ncm"]},
            "representation": {"measures": ["ncm"]},
            "metrics": ["nll"],
            "evaluate": "all",
            "eval_every": 3,
        },
        {"l2": {}},
        {"dare": {"drop": 0.5}},
    ),
    "all tasks at once": ({}, {"multitask": {}}, {"wise_ft": {"alpha": 0.3}}),
}


def recipe_of(data_dir, methods, changes=None, keep="all"):
    values = copy.deepcopy(RECIPE) | {"data_dir": str(data_dir)}
    for section, fields in (changes or {}).items():
        values[section] = values.get(section, {}) | fields if isinstance(fields, dict) else fields
    return values | {"methods": methods, "checkpoints": keep}


def same(row, run):
    """Everything but the name and what training cost."""
    ours, theirs = comparable(row), comparable(run)
    for summary in (ours, theirs):
        del summary["name"], summary["cost"]
    assert ours == theirs
    for one, other in zip(row.tasks, run.tasks, strict=True):
        assert one.validation == other.validation
        assert one.distance == other.distance
        assert (one.steps, one.last_step) == (other.steps, other.last_step)


@pytest.fixture(scope="module")
def base(tmp_path_factory, data_dir):
    return clbench.run(recipe_of(data_dir, {}), tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def laid(base):
    _, rows, failed = lay(base.folder, ROWS)
    assert not failed
    return {row.folder.name: row for row in rows}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_what_a_run_with_its_methods_records(laid, data_dir, tmp_path, name):
    run = clbench.run(recipe_of(data_dir, ROWS[name]), tmp_path / "run")
    same(laid[name], run)
    spent, whole = laid[name].summary()["cost"], run.summary()["cost"]
    assert (spent["train_steps"], spent["samples"]) == (0, 0)
    assert spent["flops"] <= whole["flops"]
    assert spent["seconds"] > 0


#: Seconds each; the others are of the same kind.
LONG = ("recomputed statistics", "penalised, and seen once more")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in RUNS]
)
def test_so_it_is_on_other_runs(data_dir, tmp_path, name):
    changes, own, more = RUNS[name]
    base = clbench.run(recipe_of(data_dir, own, changes), tmp_path / "base")
    run = clbench.run(recipe_of(data_dir, own | more, changes), tmp_path / "run")
    _, (row,), failed = lay(base.folder, {"row": more})
    assert not failed
    same(row, run)


def test_settings_of_single_tasks_stay(data_dir, tmp_path):
    recipe = recipe_of(data_dir, {}) | {"per_task": {"6, 7": {"optimizer": {"lr": 0.01}}}}
    names = [task.name for task in clbench.Recipe.model_validate(recipe).build_stream().tasks]
    recipe["per_task"] = {names[1]: {"optimizer": {"lr": 0.01}}}
    base = clbench.run(recipe, tmp_path / "base")
    run = clbench.run(recipe | {"methods": {"wise_ft": {}}}, tmp_path / "run")
    _, (row,), _ = lay(base.folder, {"row": {"wise_ft": {}}})
    same(row, run)


@pytest.mark.parametrize(
    ("methods", "fisher"),
    [({"wise_ft": {"anchor": "previous", "carry_on": True}}, None), ({"fisher_merge": {}}, 1.0)],
    ids=["wise_ft", "fisher_merge"],
)
def test_what_a_run_would_go_on_from_goes_from_row_to_row(base, monkeypatch, methods, fisher):
    """Averages of one sequence's weights: half of each new one, or all alike by equal Fishers."""
    shown = []
    measure = laying.distances
    monkeypatch.setattr(
        laying, "distances", lambda context, x: shown.append(x) or measure(context, x)
    )
    if fisher:

        def ones(context, *_):
            return {name: torch.ones_like(p) for name, p in context.model.named_parameters()}

        monkeypatch.setattr("clbench.methods.fisher.fisher_of_task", ones)
    _, (row,), failed = lay(base.folder, {"row": methods})
    assert not failed
    trained = [checkpoints.load(base.folder, n)["trained"] for n in (1, 2, 3)]
    trunk = [name for name in trained[0] if not name.startswith(("head", "fc", "classifier"))]
    for name in trunk:
        one, two, three = (weights[name] for weights in trained)
        if not one.is_floating_point():
            continue
        expected = (one + two + three) / 3 if fisher else one / 4 + two / 4 + three / 2
        if fisher and "running" in name:
            expected = three
        torch.testing.assert_close(shown[0][name], one)
        torch.testing.assert_close(shown[2][name], expected)
    told = {remark.what for task in row.tasks for remark in task.remarks}
    assert told == {"laid on a finished run"}


def test_every_method_is_laid_or_says_why_it_cannot_be(base):
    for name, kind in METHODS.items():
        # Some methods have settings that must be given.
        if reason := needs_training(name, kind.model_construct()):
            with pytest.raises(ClbenchError) as refused:
                lay(base.folder, {"row": {name: {}}})
            assert name in str(refused.value)
            assert len(str(refused.value).splitlines()) == 1
            assert reason.startswith(name)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"sfa": {}}, r"row: sfa acts while a task is trained \(after_step\).*train with it"),
        ({"lora": {}}, r"lora acts while a task is trained \(surgery"),
        ({"l2p": {}}, "l2p works on timm's VisionTransformer alone"),
        ({"task_arithmetic": {}}, "task_arithmetic trains every task from the pretrained weights"),
        ({"multitask": {}}, "multitask trains on all tasks at once"),
        ({"linear_probe": {}}, r"linear_probe acts while a task is trained \(trainable\)"),
        ({"ncm": {}, "slda": {}}, "row: methods: ncm and slda do not go together"),
        ({"wise_ft": {"alpha": 2}}, "row: methods.wise_ft.alpha = 2"),
        ({"nc": {}}, "row: .*nc.*did you mean ncm"),
        ([], "there is no row with a method"),
    ],
)
def test_what_needs_training_or_is_no_recipe_is_refused(base, methods, message):
    with pytest.raises(ClbenchError, match=message):
        lay(base.folder, {"row": methods})


def test_runs_that_cannot_be_used(base, data_dir, tmp_path):
    with pytest.raises(ClbenchError, match="holds no run"):
        lay(tmp_path, {"ncm": {"ncm": {}}})
    with pytest.raises(ClbenchError, match=r"the row '\.\./x' is to be the name of one folder"):
        lay(base.folder, {"../x": {"ncm": {}}})
    last = shutil.copytree(base.folder, tmp_path / "last")
    (last / "checkpoints" / "task_001.pt").unlink()
    with pytest.raises(ClbenchError, match=r"has not the weights of every task.*checkpoints: all"):
        lay(last, {"ncm": {"ncm": {}}})
    own = clbench.run(recipe_of(data_dir, {"wise_ft": {}}) | {"steps": 1}, tmp_path / "own")
    with pytest.raises(ClbenchError, match="was trained with wise_ft, which cannot be laid on it"):
        lay(own.folder, {"row": {"wise_ft": {"alpha": 0.1}}})
    place = tmp_path / "elsewhere"
    place.mkdir()
    linked = shutil.copytree(base.folder, tmp_path / "linked")
    shutil.rmtree(linked / "posthoc", ignore_errors=True)
    (linked / "posthoc").symlink_to(place)
    with pytest.raises(ClbenchError, match="out of the run folder"):
        lay(linked, {"ncm": {"ncm": {}}})


class Before(Method):
    """Changes what a task starts from, and nothing after it."""

    summary = "before"

    @torch.no_grad()
    def start(self, context):
        next(context.model.parameters()).add_(1)


class Around(Before):
    """Looks at what came of it, too."""

    def finish(self, context):
        """Nothing."""

    @property
    def carries(self):
        return False


def test_methods_that_change_what_a_task_starts_from_need_training(base, monkeypatch):
    monkeypatch.setitem(METHODS, "before", Before)
    monkeypatch.setitem(METHODS, "around", Around)
    with pytest.raises(ClbenchError, match=r"before acts while a task is trained \(start\)"):
        lay(base.folder, {"row": {"before": {}}})
    _, rows, failed = lay(base.folder, {"row": {"around": {}}})
    assert not rows
    assert "around changes what a task starts from" in failed["row"]


def test_a_row_that_fails_costs_no_other(base, monkeypatch):
    def fail(*_):
        raise ClbenchError("no bias")

    monkeypatch.setattr(ncm_file, "with_rows", fail)
    _, rows, failed = lay(base.folder, {"bad": {"ncm": {}}, "good": {"wise_ft": {}}})
    assert [row.folder.name for row in rows] == ["good"]
    assert re.search("task .*: no bias", failed["bad"])


def test_a_row_that_is_refused_costs_no_other_and_is_said_first(base):
    rows = {"../out": {"ncm": {}}, "trains": {"sfa": {}}, "good": {"wise_ft": {}}}
    told = []
    _, made, failed = lay(base.folder, rows, told.append)
    assert [row.folder.name for row in made] == ["good"]
    assert failed.keys() == {"../out", "trains"}
    assert failed["trains"].startswith("sfa acts while a task is trained")
    assert [line[:16] for line in told[:2]] == ["Left out: the ro", "Left out: trains"]
    assert not (base.folder / "out").exists()


def test_a_report_has_the_rows_beside_the_run_without_the_cost_of_training(laid, base):
    comparison = compare([base.folder])
    rows = {group.label: group for section in comparison.sections for group in section.groups}
    assert {"sequential", "ncm always, post hoc", "dare, post hoc"} <= rows.keys()
    from clbench.report.confounds import confounds

    assert not confounds(rows["dare, post hoc"], rows["sequential"])
    assert [c.part for c in confounds(rows["ncm first, post hoc"], rows["sequential"])] == ["steps"]
    (run,) = rows["ncm always, post hoc"].runs
    assert run.record.run.laid_on == base.run.title
    assert run.recipe["methods"] == {"ncm": {"metric": "cosine", "tuned": "always"}}


def test_the_command(base, tmp_path, capsys):
    def call(*words):
        code = main(["sweep", str(base.folder), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err.strip()

    before = {p: p.read_bytes() for p in base.folder.iterdir() if p.is_file()}
    suite = tmp_path / "rows.yaml"
    suite.write_text(
        "base: default\nmethods: {plain: {}, w: {wise_ft: {alpha: 0.5}}}\n"
        "grid: {w: {methods.wise_ft.alpha: [0.2, 0.8]}}\n"
    )
    code, out, _ = call("--methods", suite)
    assert code == 0
    for text in ("as it was trained", "w alpha=0.2", "w alpha=0.8", "seconds"):
        assert text in out
    assert max(len(line) for line in out.splitlines() if line.startswith("│")) <= 80
    summary = json.loads((base.folder / "posthoc" / "w alpha=0.2" / "summary.json").read_text())
    assert summary["name"] == "w alpha=0.2, post hoc-seed0"
    assert before == {p: p.read_bytes() for p in base.folder.iterdir() if p.is_file()}
    suite.write_text("methods: {w: {wise_ft: {}}}\noverrides: {w: {epochs: 3}}\n")
    for words, message in (
        (["--methods", suite], "overrides': it is about training"),
        (["--methods", suite, "--alpha", "0.5"], "leave --alpha out"),
        (["--methods", suite, "--by", "class_incremental"], "leave --by out"),
        (["--methods", "nothing"], "there is no suite 'nothing'"),
    ):
        code, _, err = call(*words)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err
    suite.write_text("methods: {w: {config: sfa/sfa.yaml}}\n")
    assert "w sets more than methods" in call("--methods", suite)[2]


def test_the_rows_that_come_with_clbench_are_laid_on_any_run(base):
    from clbench.suite.posthoc import rows_to_lay

    rows = rows_to_lay("posthoc")
    assert len(rows) > 20
    _, made, failed = lay(base.folder, {n: rows[n] for n in ("dare_magmax", "magmax_slda")})
    assert len(made) == 2
    assert not failed
