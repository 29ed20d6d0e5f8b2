"""A run has finished once what it leaves behind is there; what is missing is made again."""

import errno
import os
import runpy
import shutil

import pytest
import torch
from helpers import RECIPE, comparable
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import clbench
from clbench.errors import ClbenchError
from clbench.files import disk
from clbench.record import checkpoints
from clbench.record.record import Record
from clbench.report.figures import FIGURES
from clbench.runner import outputs as files
from clbench.runner.folder import recipe_of
from clbench.runner.products import PICTURES, PRODUCTS, missing
from clbench.suite import done


def picture(record):
    return Figure(figsize=(0.2, 0.2))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pictures have tests of their own; here they are small."""
    for name in FIGURES:
        monkeypatch.setitem(FIGURES, name, picture)
    monkeypatch.setattr("clbench.runner.screen.show", lambda *_: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """A finished run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FIGURES:
            patch.setitem(FIGURES, name, picture)
        recipe = RECIPE | {"data_dir": str(data_dir), "steps": 1, "methods": {"sfa": {"p": 0.5}}}
        return clbench.run(recipe, tmp_path_factory.mktemp("runs") / "whole").folder


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """A copy of it. No data and no network is needed from here on."""
    monkeypatch.setattr("clbench.runner.runner.Setup", None)
    return shutil.copytree(whole, tmp_path / "run")


@pytest.fixture
def learned(folder):
    """A run that was killed before it wrote anything of what it leaves behind."""
    for name in PRODUCTS:
        (folder / name).unlink()
    cut(folder)
    return folder


def cut(folder):
    """Take the last line from a record."""
    lines = (folder / "record.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "record.jsonl").write_bytes(b"".join(lines[:-1]))


def resume(folder):
    return clbench.run(recipe_of(folder), folder, resume=True)


def contents(folder):
    """What must be equal, byte for byte."""
    names = [*PRODUCTS, "record.jsonl", "config.yaml", *checkpoint_names(folder)]
    return {name: (folder / name).read_bytes() for name in names}


def checkpoint_names(folder):
    return sorted(str(p.relative_to(folder)) for p in (folder / "checkpoints").iterdir())


def scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_the_products_are_named_once():
    assert tuple(f"{name}.png" for name in FIGURES) == PICTURES


def test_products_come_before_the_last_line(learned, whole, monkeypatch):
    order = []
    real = disk.os.replace
    monkeypatch.setattr(
        os, "replace", lambda side, path: (order.append(path.name), real(side, path))[1]
    )
    append = clbench.record.recorder.append
    monkeypatch.setattr(
        "clbench.record.recorder.append", lambda *a: (order.append("end"), append(*a))[1]
    )
    resume(learned)
    # The weights come before all that could fail.
    order = [name for name in order if "tfevents" not in name]
    assert order == ["record.jsonl", *PRODUCTS, "end"]
    assert contents(learned) == contents(whole)


@pytest.mark.parametrize("number", range(len(PRODUCTS) + 2))
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_kill_between_two_products_loses_nothing(learned, whole, monkeypatch, number, call):
    count = 0
    real = getattr(os, call)

    def killed(*arguments):
        nonlocal count
        count += 1
        if count > number * (1 + (call == "fsync")):
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        if number <= len(PRODUCTS):
            with pytest.raises(KeyboardInterrupt):
                resume(learned)
            assert not done.finished(learned)
    resume(learned)
    assert done.finished(learned)
    assert contents(learned) == contents(whole)
    assert scalars(learned) == scalars(whole)


@pytest.mark.parametrize("name", [*PRODUCTS, "all"])
def test_what_was_deleted_is_made_again(folder, whole, name, capsys):
    before = contents(folder)
    for product in PRODUCTS if name == "all" else [name]:
        (folder / product).unlink()
    assert not done.finished(folder)
    assert resume(folder).finished
    out = capsys.readouterr().out
    assert f"is finished but lacks {PRODUCTS[0] if name == 'all' else name}" in out
    assert done.finished(folder)
    assert contents(folder) == before == contents(whole)
    assert scalars(folder) == scalars(whole)
    resume(folder)
    assert "already finished" in capsys.readouterr().out


def test_tables_need_no_checkpoint_and_weights_need_one(folder, whole):
    before = {name: (folder / name).read_bytes() for name in PRODUCTS}
    shutil.rmtree(folder / "checkpoints")
    for name in PRODUCTS[1:]:
        (folder / name).unlink()
    resume(folder)
    assert {name: (folder / name).read_bytes() for name in PRODUCTS} == before
    (folder / "model.safetensors").unlink()
    (folder / "summary.json").unlink()
    with pytest.raises(ClbenchError, match=r"the weights of the finished run in .* are gone"):
        resume(folder)
    assert (folder / "summary.json").exists()
    assert Record.load(folder).finished


def test_a_picture_needs_no_whole_checkpoint(folder, whole):
    (folder / "curves.png").unlink()
    for path in (folder / "checkpoints").glob("task_*.pt"):
        path.write_bytes(b"damaged")
    resume(folder)
    assert not missing(folder)


@pytest.mark.parametrize("error", [ValueError("Expected end of text,\nfound '$'"), OSError("font")])
def test_a_picture_that_fails_costs_a_line(learned, whole, monkeypatch, capsys, error):
    def fail(record):
        raise error

    for name in ("curves", "accuracy_matrix"):
        monkeypatch.setitem(FIGURES, name, fail)
    resume(learned)
    lines = [line for line in capsys.readouterr().out.splitlines() if "could not be made" in line]
    reason = " ".join(str(error).split())
    assert lines == [
        f"{learned / name}.png could not be made: {reason}"
        for name in ("accuracy_matrix", "curves")
    ]
    assert missing(learned) == ["accuracy_matrix.png", "curves.png"]
    assert done.finished(learned)  # all that can be there is
    assert (learned / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()
    (learned / "load_model.py").unlink()
    assert not done.finished(learned)
    monkeypatch.setitem(FIGURES, "curves", picture)
    resume(learned)  # what fails no more is made
    assert missing(learned) == ["accuracy_matrix.png"]


def test_a_table_that_fails_costs_a_line(learned, monkeypatch, capsys):
    monkeypatch.setattr(files, "_curves", lambda _: 1 / 0)
    resume(learned)
    assert "curves.csv could not be made: division by zero" in capsys.readouterr().out
    assert missing(learned) == ["curves.csv"]


def test_tensorboard_that_fails_costs_a_line(recipe, tmp_path, monkeypatch, capsys):
    """From the first scalar to the last picture."""

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("clbench.measure.board._begin", fail)
    record = clbench.run(recipe | {"steps": 1}, tmp_path / "run")
    assert record.finished
    assert not missing(record.folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if "TensorBoard's" in line]
    assert len(lines) == 1
    assert "Input/output error" in lines[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_full_disk_is_a_line_and_resume_ends_equal(learned, whole, monkeypatch, number):
    for allowed in range(9):
        left = allowed

        def fsync(descriptor):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(ClbenchError) as caught:
                resume(learned)
        assert os.strerror(number) in str(caught.value)
        assert f"go on with --resume --output {learned}" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not list(learned.glob(".*.partial"))
    resume(learned)
    assert contents(learned) == contents(whole)


def test_a_disk_that_is_full_again_and_again(whole, tmp_path, monkeypatch):
    """Wherever in a run it is full, the run goes on from there once there is room."""
    recipe, folder = recipe_of(whole), tmp_path / "run"
    real, lines = os.fsync, set()
    for allowed in (0, 1, 3, 5, 8, 2, 11, 4, 7, 13, 1):
        left = allowed

        def fsync(descriptor):
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(ClbenchError, match="No space left") as caught:
                clbench.run(recipe, folder, resume=True)
        assert "\n" not in str(caught.value)
        lines.add(str(caught.value).split(": ")[0].rpartition("/")[2])
    assert len(lines) > 4  # in this many places
    assert comparable(clbench.run(recipe, folder, resume=True)) == comparable(Record.load(whole))
    for name in ("model.safetensors", "load_model.py", "accuracy_matrix.csv", "config.yaml"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert scalars(folder) == scalars(whole)


def test_checkpoints_go_only_when_the_products_are_there(recipe, tmp_path, monkeypatch):
    recipe |= {"checkpoints": "none", "steps": 1}
    with monkeypatch.context() as patch:
        patch.setattr(files, "export", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            clbench.run(recipe, tmp_path / "run")
    assert checkpoints.numbers(tmp_path / "run") == [3]
    assert not Record.load(tmp_path / "run").finished
    record = clbench.run(recipe, tmp_path / "run", resume=True)
    assert not missing(record.folder)
    assert not (record.folder / "checkpoints").exists()


def test_a_record_and_a_checkpoint_of_two_runs_do_not_end_as_one(learned):
    text = (learned / "record.jsonl").read_text()
    (learned / "record.jsonl").write_text(text.replace('"samples": 32', '"samples": 33'))
    with pytest.raises(ClbenchError, match="not the one that the checkpoint was written after"):
        resume(learned)
    assert missing(learned) == list(PRODUCTS)


EVIL = 'x"""\nimport pathlib; pathlib.Path("marker").touch()\n"""\\\udc80é'


def test_nothing_of_a_recipe_becomes_code(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = Record.load(folder)
    asked = []
    monkeypatch.setattr("timm.create_model", lambda *a, **k: (asked.append((a, k)), Model())[1])

    class Model(torch.nn.Module):
        def load_state_dict(self, state):
            assert len(state)

    options = {f"a=pathlib.Path('marker').touch(), {EVIL}": EVIL, "b": [None, {EVIL: 1e-9}]}
    names = {"title": EVIL, "class_names": [EVIL, "b"], "backbone": EVIL}
    about = record.run.model_copy(update=names | {"options": options, "size": EVIL})
    record = Record(folder, (about, *record.events[1:]))
    files.export(record, {"pos_embed": torch.ones(2), EVIL.replace("\udc80", ""): torch.ones(1)})
    made = runpy.run_path(str(folder / "load_model.py"))
    assert not (tmp_path / "marker").exists()
    assert asked == [((EVIL,), options | {"num_classes": 2, "img_size": EVIL})]
    assert made["NAME"] == EVIL
    assert (folder / "load_model.py").read_bytes().isascii()


def test_the_summary_of_a_resumed_run_is_that_of_the_whole(learned, whole):
    assert comparable(resume(learned)) == comparable(Record.load(whole))


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("left", [0, 0.5])
def test_what_was_cut_off_is_made_again(folder, whole, name, left):
    path = folder / name
    if left and name != "model.safetensors":
        pytest.skip("only of the weights it is seen")
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    assert not done.finished(folder)
    resume(folder)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("state", ["finished", "learned"])
def test_a_config_that_was_edited_since_is_refused_at_the_end_too(folder, state, capsys):
    if state == "learned":
        cut(folder)
    before = recipe_of(folder)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 32", "batch_size: 16"))
    assert recipe_of(folder) != before
    with pytest.raises(ClbenchError, match=r"not the recipe that the run began with.*batch_size"):
        resume(folder)
    assert checkpoints.numbers(folder)
    # Nor does a comparison take it for a run of that recipe.
    shutil.move(folder, folder.parent / "runs" / "one")
    assert done.hashes_below(folder.parent / "runs") == {}


def test_a_strangers_record_is_no_finished_run(folder):
    (folder / "record.jsonl").write_text('{"event": "run"}\n{"event": "end", "lacking": 3}\n')
    assert not done.finished(folder)
    assert done.tasks_done(folder) == (0, 0)
