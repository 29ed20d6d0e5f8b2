"""Loggers beside the record: what they hear, how they go on, and that their faults cost a line."""

import csv
import json
import sys
from contextlib import suppress
from typing import ClassVar

import pytest
from helpers import RECIPE, comparable, interrupt_after
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file

import clbench
from clbench.cli.listing import all_names
from clbench.errors import ClbenchError
from clbench.measure.loggers import IDENTITIES, Loggers
from clbench.recipe import attached
from clbench.recipe.recipe import Recipe, merge, parse
from clbench.record.logged import FINISHED
from clbench.record.loggers import CSV, MLflow, RunLogger
from clbench.record.record import Record
from clbench.runner.folder import plain, recipe_hash

SMALL = {"stream": {"name": "split_digits", "classes": [[4, 5], [6, 7]], "train_per_class": 20}}


def rows(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def made(recipe, no_pictures):
    def make(**fields):
        return merge(recipe, SMALL | {"trainer": {"log_every_n_steps": 2}, **fields})

    return make


class Deaf(CSVLogger):
    """Fails at one of its calls."""

    at = 1

    def log_metrics(self, metrics, step=None):
        type(self).calls += 1
        if type(self).calls == self.at:
            raise ConnectionError("nobody\nis there")
        super().log_metrics(metrics, step)


class DeafSettings(RunLogger):
    summary = "test"
    at: int = 1

    def make(self, folder, title, done, identity):
        Deaf.calls, Deaf.at = 0, self.at
        return Deaf(folder / "deaf")

    def identity(self, logger):
        return "abc"


@pytest.mark.parametrize(
    ("written", "names"),
    [
        (["tensorboard", "csv"], ["tensorboard", "csv"]),
        ("csv", ["csv"]),
        ([{"wandb": {"offline": True}}, "csv"], ["wandb", "csv"]),
        ({"mlflow": None}, ["mlflow"]),
        ([], []),
    ],
)
def test_rows_are_names_or_names_with_settings(written, names):
    recipe = parse(RECIPE | {"loggers": written})
    assert list(recipe.loggers) == names
    assert parse(plain(recipe)) == recipe
    assert recipe_hash(recipe) == recipe_hash(parse(RECIPE))  # who hears of a run changes nothing


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["tensorbord"], "there is no logger 'tensorbord' (did you mean tensorboard?)"),
        ([{"wandb": {"projekt": "x"}}], "loggers.wandb.projekt"),
        ([{"wandb": {"offline": "perhaps"}}], "loggers.wandb.offline"),
        ([["csv"]], "list of names"),
        (["csv", "csv"], "has csv twice"),
    ],
)
def test_other_rows_are_refused(wrong, words):
    with pytest.raises(ClbenchError) as error:
        parse(RECIPE | {"loggers": wrong})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_work_is_refused_before_the_run(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(MLflow, "package", "no_such_package")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recipe = made(loggers=["mlflow"])
    with pytest.raises(ClbenchError, match=r"pip install 'clbench\[mlflow\]'"):
        clbench.run(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(MLflow, "package", "json")
    with pytest.raises(ClbenchError, match=r"loggers.mlflow.tracking_uri"):
        clbench.run(recipe, tmp_path / "run")


def test_csv_has_what_tensorboard_has_and_goes_on(made, tmp_path, monkeypatch):
    whole = clbench.run(made(loggers=["tensorboard", "csv"]), tmp_path / "whole")
    found = rows(whole.folder)
    assert [int(row["step"]) for row in found if row["train/loss"]] == [2, 4, 6, 8, 10, 12]
    assert {
        int(row["step"]) for row in found if row["scores/class_incremental/mean_of_seen_tasks"]
    } == {6, 12}
    kept = {int(row["step"]): row["retention/top1"] for row in found if row["retention/top1"]}
    assert list(kept) == [0, 6, 12]
    assert float(kept[0]) == whole.summary()["retention"]["pretrained"]
    final = [row["final/task_incremental/overall_performance"] for row in found]
    score = whole.summary()["task_incremental"]["overall_performance"]
    assert float(final[-1]) == pytest.approx(score)
    assert "seed: 0" in (whole.folder / "csv" / "hparams.yaml").read_text()
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        interrupt_after(patch)
        clbench.run(made(loggers=["csv"]), tmp_path / "cut")
    path = tmp_path / "cut" / "csv" / "metrics.csv"
    (path.parent / "other").write_text(path.read_text())
    path.write_text(path.read_text() + path.read_text().splitlines()[2].replace("2,", "8,") + "\n")
    again = clbench.run(made(loggers=["csv"]), tmp_path / "cut", resume=True)
    assert [int(row["step"]) for row in rows(again.folder)] == [int(row["step"]) for row in found]
    for ours, theirs in zip(rows(again.folder), found, strict=True):
        assert {k: v for k, v in ours.items() if "time" not in k} == {
            k: v for k, v in theirs.items() if "time" not in k
        }


@pytest.mark.parametrize("at", [1, 4])
def test_one_that_fails_costs_a_line(made, tmp_path, monkeypatch, capsys, at):
    monkeypatch.setitem(attached.LOGGERS, "deaf", DeafSettings)
    plainly = clbench.run(made(loggers=[]), tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("*tfevents*"))
    capsys.readouterr()
    other = clbench.run(made(loggers=[{"deaf": {"at": at}}, "csv"]), tmp_path / "deaf")
    lines = [line for line in capsys.readouterr().out.splitlines() if "loggers.deaf" in line]
    assert len(lines) == 1
    assert "ConnectionError: nobody is there" in lines[0]
    assert comparable(other) == comparable(plainly)
    one, two = (load_file(run.folder / "model.safetensors") for run in (plainly, other))
    assert all(bool((one[name] == two[name]).all()) for name in one)
    assert [int(row["step"]) for row in rows(other.folder) if row["train/loss"]][-1] == 12
    assert json.loads((other.folder / IDENTITIES).read_text()) == {"deaf": "abc"}


class Listens(RunLogger):
    """Keeps what it is told."""

    summary = "test"
    heard: ClassVar[dict] = {}

    def make(self, folder, title, done, identity):
        return CSVLogger(folder / "listens")

    def recipe(self, logger, values):
        self.heard["recipe"] = values

    def files(self, logger, texts):
        self.heard["files"] = texts


def test_others_hear_the_scores_of_the_summary_the_recipe_and_the_files(
    made, tmp_path, monkeypatch, data_dir
):
    monkeypatch.setitem(attached.LOGGERS, "listens", Listens)
    record = clbench.run(made(loggers=["listens", "csv"]), tmp_path / "run")
    told = record.summary()
    last = {key: float(value) for key, value in rows(record.folder)[-1].items() if value}
    for scenario in ("task_incremental", "class_incremental"):
        scores = {k: v for k, v in told[scenario].items() if isinstance(v, float)}
        assert len(scores) >= 6
        for name, value in scores.items():
            assert last[f"final/{scenario}/{name}"] == pytest.approx(value)
    for name in ("pretrained", "change", "kept"):
        assert last[f"final/retention_{name}"] == pytest.approx(told["retention"][name])
    assert parse(Listens.heard["recipe"]).optimizer == parse(made()).optimizer
    files = Listens.heard["files"]
    assert json.loads(files["summary.json"])["task_incremental"] == told["task_incremental"]
    (tmp_path / "record.jsonl").write_text(files["record.jsonl"])
    assert Record.load(tmp_path).summary() == told
    assert str(data_dir) not in str(Listens.heard)  # of paths, the last part


@pytest.mark.parametrize("text", ["[1]", "{", '{"wandb": "../../x"}', '{"wandb": 3}', "[" * 10**5])
def test_names_of_a_stranger_are_not_taken(tmp_path, text):
    from clbench.measure.loggers import _identities

    (tmp_path / IDENTITIES).write_text(text)
    assert _identities(tmp_path) == {}


def test_nothing_begins_before_there_is_something_to_log(tmp_path):
    loggers = Loggers(tmp_path, parse(RECIPE | {"loggers": ["csv", {"wandb": {"offline": True}}]}))
    loggers.save()
    loggers.finalize("success")
    loggers.close()
    assert not list(tmp_path.iterdir())


def test_rows_that_a_kill_has_torn_cost_no_others(tmp_path, capsys):
    path = tmp_path / "csv" / "metrics.csv"
    path.parent.mkdir()
    whole = f"a,step,{FINISHED}\n1.0,2,1\n2.0,4,\n"
    for torn in ("3.0", "3.0,", "3.0,1", "3.0\n", "3.0,x,2\n", "3.0,1,1,1\n"):
        path.write_text(whole + torn)
        for told in (True, False):  # then it knows where task 2 ends
            CSV().make(tmp_path, "run", 2, None)
            kept = [(row["a"], row["step"]) for row in rows(tmp_path)]
            assert kept == [("1.0", "2"), ("2.0", "4"), ("", "4")]
            assert ("does not tell where task 2 ends" in capsys.readouterr().out) == told


def test_who_a_run_is_there_is_kept_before_anything_fails(tmp_path, monkeypatch):
    def fails(*given):
        raise ConnectionError

    monkeypatch.setitem(attached.LOGGERS, "deaf", DeafSettings)
    monkeypatch.setattr(Deaf, "log_hyperparams", fails)
    Loggers(tmp_path, parse(RECIPE | {"loggers": ["deaf"]})).log_metrics({"a": 1.0}, 1)
    assert json.loads((tmp_path / IDENTITIES).read_text()) == {"deaf": "abc"}


@pytest.mark.parametrize(
    ("make", "words"),
    [(lambda: 1 / 0, "cannot be made .*ZeroDivisionError"), (lambda: 3, "no Lightning callback")],
)
def test_callbacks_that_cannot_be_made_are_refused_before_the_run(
    made, tmp_path, monkeypatch, make, words
):
    monkeypatch.setitem(attached.CALLBACKS, "own", make)
    monkeypatch.setattr(Recipe, "build_stream", None)  # no data is read
    with pytest.raises(ClbenchError, match=rf"callbacks.own.*{words}") as error:
        clbench.run(made(callbacks=["own"]), tmp_path / "run")
    assert "\n" not in str(error.value)


class Counts(Callback):
    seen: list = []

    def __init__(self, every: int = 1):
        self.every = every

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step % self.every == 0:
            self.seen.append(trainer.global_step)


def test_callbacks_by_name(made, tmp_path, monkeypatch):
    with pytest.raises(ClbenchError, match="there is no callback 'counts'"):
        parse(made(callbacks=["counts"]))
    monkeypatch.setitem(attached.CALLBACKS, "counts", Counts)
    assert "counts" in all_names()
    with pytest.raises(ClbenchError, match=r"callbacks.*evry.*did you mean every"):
        parse(made(callbacks=[{"counts": {"evry": 3}}]))
    clbench.run(made(callbacks=[{"counts": {"every": 3}}]), tmp_path / "run")
    assert Counts.seen == [3, 6, 3, 6]
    assert recipe_hash(parse(made(callbacks=["counts"]))) != recipe_hash(parse(made()))
