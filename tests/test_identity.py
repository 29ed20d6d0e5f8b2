"""A resumed run is the same run: what it can check against its record, it checks."""

import json
import os
import random
import re
import shutil

import pytest
import torch
import yaml
from helpers import interrupt_after
from PIL import Image

import clbench
from clbench.cli.cli import main
from clbench.errors import ClbenchError
from clbench.record import checkpoints
from clbench.record.record import Record
from clbench.runner.folder import recipe_of
from clbench.sweep.sweeping import sweep


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, compress_level=0)  # all of one size


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    """A run over image folders that was stopped after its first task, beside its images."""
    place = tmp_path_factory.mktemp("mine")
    for part in ("train", "test"):
        for number, name in enumerate("abcd"):
            for i in range(4):
                picture(place / part / name / f"{i}.png", (60 * number, 9 * i, 90))
    torch.manual_seed(0)
    recipe = {
        "stream": {"name": "image_folder", "train": "train", "test": "test", "tasks": 2},
        "images": {"size": 8, "keep": "files"},
        "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
        "methods": {"sfa": {"p": 0.5}},
        "steps": 1,
        "batch_size": 4,
        "checkpoints": "all",
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(recipe, "run")
    return place


@pytest.fixture
def place(cut_off, tmp_path, monkeypatch):
    """A copy of it to change; runs end without their pictures."""
    copy = shutil.copytree(cut_off, tmp_path / "mine")
    monkeypatch.chdir(copy)
    monkeypatch.setattr("clbench.runner.outputs.write", lambda *_: None)
    monkeypatch.setattr("clbench.runner.screen.show", lambda *_: None)
    return copy


def resume(**changes):
    folder = "run"
    recipe = recipe_of(checkpoints.Path(folder)).model_copy(update=changes)
    return clbench.run(recipe, folder, resume=True)


def refused():
    """The one line with which going on is refused; nothing is changed by that."""
    before = {p.name: p.read_bytes() for p in checkpoints.Path("run").rglob("*.[pj]*")}
    with pytest.raises(ClbenchError) as caught:
        resume()
    assert {p.name: p.read_bytes() for p in checkpoints.Path("run").rglob("*.[pj]*")} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_untouched_run_goes_on(place, capsys):
    assert resume().finished
    out = capsys.readouterr().out
    assert "Resuming after task 1/2." in out
    assert "not compared" not in out


def test_data_that_moved_goes_on(place):
    (place / "other").mkdir()
    for part in ("train", "test"):
        (place / part).rename(place / "other" / part)
    values = recipe_of(place / "run").model_dump(mode="json")
    values["stream"] |= {"train": "other/train", "test": "other/test"}
    assert clbench.run(values, "run", resume=True).finished


@pytest.mark.parametrize(("part", "what"), [("train", "training images"), ("test", "test images")])
@pytest.mark.parametrize("change", ["deleted", "added", "replaced"])
def test_changed_images(place, part, what, change):
    path = place / part / "c" / "1.png"
    size = path.stat().st_size
    if change == "deleted":
        path.unlink()
    else:
        picture(path.with_name("9.png") if change == "added" else path, (1, 2, 3))
        assert path.stat().st_size == size  # contents count, not sizes
    message = f"the data of run are not those of the run any more ({what}; SHA-256 "
    assert refused().startswith(message)


def test_a_renamed_class(place):
    for part in ("train", "test"):
        (place / part / "c").rename(place / part / "z")
    assert "the classes of run are not those of the run any more (gone: 'c'; new: 'z')" in refused()


def test_images_that_changed_their_places(place):
    one, other = (place / "train" / "c" / f"{i}.png" for i in range(2))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert "the data of run are not those of the run any more (training images" in refused()


def test_other_weights(place, monkeypatch):
    monkeypatch.setattr("clbench.models.backbone.sha256", lambda _: "0" * 64)
    assert "the pretrained weights of run are not those of the run any more (SHA-256 0000" in (
        refused()
    )


def test_other_images_to_measure_retention_on(place, monkeypatch):
    path = place / "run" / "record.jsonl"
    text = path.read_text().replace(
        '"retention_images_sha256": null', f'"retention_images_sha256": "{"0" * 64}"'
    )
    path.write_text(text)
    assert "the images that retention is measured on of run" in refused()


def test_other_labels_of_the_images_to_measure_retention_on(place):
    path = place / "run" / "record.jsonl"
    told = '"retention_labels_sha256": '
    assert f"{told}null" in path.read_text()
    path.write_text(path.read_text().replace(f"{told}null", f'{told}"{"0" * 64}"'))
    assert "the labels of the images that retention is measured on of run" in refused()


def test_a_manifest_that_is_not_the_runs(place):
    manifest = place / "run" / "split_manifest.json"
    values = json.loads(manifest.read_text())
    picture(place / "test" / "c" / "1.png", (1, 2, 3))
    for content in ("", "{}", json.dumps(values | {"test_images": "x"})):
        manifest.write_text(content)
        assert "(split_manifest.json is not the run's own either)" in refused()


def test_a_sweep_compares_the_same(place, capsys):
    resume()
    sweep("run", "alpha", [0.5])
    picture(place / "test" / "c" / "1.png", (1, 2, 3))
    with pytest.raises(ClbenchError, match=r"the data of run .*\(test images"):
        sweep("run", "alpha", [0.5])


def test_an_older_run_goes_on_and_says_what_cannot_be_compared(place, capsys):
    """Its manifest knows sizes alone, its record and its checkpoint have fewer fields."""
    manifest = place / "run" / "split_manifest.json"
    values = json.loads(manifest.read_text())
    del values["version"]
    values |= {"train_images": "sizes", "test_images": "sizes"}
    manifest.write_text(json.dumps(values))
    old = checkpoints.hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    path = place / "run" / "record.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["split_manifest_sha256"] = old
    for key in ("version", "weights", "retention_images_sha256", "recipe"):
        del lines[0][key]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = checkpoints.last(place / "run")
    methods = state.pop("methods")
    del state["record_sha256"], state["stages"]
    checkpoints.save(place / "run", 1, state, methods, "all")
    (place / "run" / "checkpoints" / "task_001.sha256").unlink()
    assert resume().finished
    out = capsys.readouterr().out
    assert "does not say what is in its images: they are not compared" in out
    assert "says nothing of the pretrained weights" in out
    assert "is of an older version: it has no checksum" in out


@pytest.mark.parametrize("name", ["task_001.pt", "methods_001.pt", "task_001.sha256"])
def test_every_flipped_bit_is_found(place, name):
    path = place / "run" / "checkpoints" / name
    whole = path.read_bytes()
    draw = random.Random(0)
    spots = {0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(40))}
    for spot in spots:
        flipped = bytearray(whole)
        flipped[spot] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ClbenchError) as caught:
            checkpoints.last(place / "run")
        assert "is damaged" in str(caught.value)
        assert "remove the folder run/checkpoints to resume from the start" in refused()
    path.write_bytes(whole)
    assert resume().finished


def test_the_way_out_of_a_damaged_checkpoint(place, capsys):
    (place / "run" / "checkpoints" / "task_001.pt").write_bytes(b"PK")
    refused()
    shutil.rmtree(place / "run" / "checkpoints")
    assert resume().finished
    assert "No task in run is finished: the run begins anew." in capsys.readouterr().out


def _edit(tree, *path, to):
    *way, last = path
    for key in way:
        tree = tree[key]
    tree[last] = to


@pytest.mark.parametrize(
    ("path", "to", "reason"),
    [
        (("done",), "1", "its done is not"),
        (("done",), 9, "it is of task 9, not 1"),
        (("step",), -2, "its step is not"),
        (("shown",), [], "its shown is not"),
        (("shown", "fc.bias"), {}, "its shown is not"),
        (("theta", "fc.bias"), torch.zeros(3), "fc.bias in its theta is of another shape"),
        (("theta", "other"), torch.zeros(3), "its theta lacks or adds other"),
        (("theta", "fc.bias"), torch.full((10,), torch.nan), "its theta is not"),
        (("learned",), torch.zeros(3, dtype=torch.bool), "it knows 3 classes"),
        (("learned",), 3, "its learned is not"),
        (("start", "head"), None, "its start is not"),
    ],
)
def test_a_checkpoint_of_somebody(place, path, to, reason):
    """Without a checksum, as of an older version, what is in it is looked at."""
    folder = place / "run" / "checkpoints"
    (folder / "task_001.sha256").unlink()
    state = checkpoints.load(place / "run", 1)
    _edit(state, *path, to=to)
    torch.save({"tree": state, "tensors": {}}, folder / "task_001.pt")
    told = refused()
    assert reason in told
    assert "remove the folder to resume from the start" in told


@pytest.mark.parametrize(
    "contents", [[], {"tree": {}, "tensors": []}, {"tree": [], "tensors": {}}, {"tree": 3}]
)
def test_a_file_with_other_contents(place, contents):
    folder = place / "run" / "checkpoints"
    (folder / "task_001.sha256").unlink()
    for name in ("task_001.pt", "methods_001.pt"):
        before = (folder / name).read_bytes()
        torch.save(contents, folder / name)
        assert "resume from the start" in refused()
        (folder / name).write_bytes(before)


@pytest.mark.parametrize("damage", ["lags", "edited", "foreign"])
def test_a_record_that_does_not_fit_the_checkpoint(place, damage):
    path = place / "run" / "record.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if damage == "lags":
        path.write_text("".join(lines[:2]))
        assert "record.jsonl lags behind the checkpoint: it has no line of task 1" in refused()
        return
    event = json.loads(lines[2])
    event["samples" if damage == "edited" else "last_step"] += 1
    path.write_text("".join([*lines[:2], json.dumps(event) + "\n"]))
    assert "record.jsonl is not the one that the checkpoint was written after" in refused()


@pytest.mark.parametrize("left", [b"", b'{"event": "run", "ti'])
def test_a_record_without_a_line(place, left):
    """Beside a checkpoint it has lost them; without one, the run has only just begun."""
    path = place / "run" / "record.jsonl"
    path.write_bytes(left)
    assert "record.jsonl lags behind the checkpoint: it is empty" in refused()
    shutil.rmtree(place / "run" / "checkpoints")
    assert resume().finished


def test_a_record_that_is_ahead_is_cut_back(place):
    """Killed between the line of a task and its checkpoint, the task is learned again."""
    path = place / "run" / "record.jsonl"
    event = json.loads(path.read_text().splitlines()[2]) | {"task": 1}
    with path.open("a") as file:
        file.write(json.dumps(event) + "\n" + json.dumps(event)[:50])
    record = resume()
    assert [event.task for event in record.tasks] == [0, 1]
    assert record.tasks[1].last_step == 2


def test_a_config_that_was_edited(place, capsys):
    path = place / "run" / "config.yaml"
    text = path.read_text()
    values = yaml.safe_load(text)
    values["optimizer"]["lr"] = 0.5
    path.write_text(yaml.safe_dump(values))
    assert "is not the recipe that the run began with any more (different: optimizer)" in refused()
    path.write_text(text)
    resume()
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ClbenchError, match=r"different: optimizer"):
        sweep("run", "alpha", [0.5])


def test_a_sweep_of_files_that_are_no_checkpoints(place):
    resume()
    checkpoints.save(place / "run", 2, {"done": 2}, {}, "all")
    with pytest.raises(ClbenchError, match="is no checkpoint of this run"):
        sweep("run", "alpha", [0.5])


def test_a_file_that_is_no_checkpoint(place):
    checkpoints.save(place / "run", 1, {"done": 1}, {}, "all")
    assert "is no checkpoint of this run (it lacks learned, shown, step, theta)" in refused()


def test_saving_reads_no_earlier_file(place, monkeypatch):
    """Keys are read once, when the run is taken up."""
    read, real = [], checkpoints._read
    monkeypatch.setattr(
        checkpoints, "_read", lambda path, *rest: (read.append(path.name), real(path, *rest))[1]
    )
    save = checkpoints.save

    def saved(*arguments):
        before = len(read)
        save(*arguments)
        assert len(read) == before

    monkeypatch.setattr(checkpoints, "save", saved)
    assert resume().finished
    assert "task_001.pt" in read
    state = checkpoints.load(place / "run", 2)
    assert torch.isfinite(state["shown"]["fc.weight"]).all()


def test_only_the_data_dir_of_a_config_may_be_another(place):
    values = yaml.safe_load((place / "run" / "config.yaml").read_text())
    assert clbench.run(values | {"data_dir": "cache"}, "run", resume=True).finished
    assert Record.load("run").finished


@pytest.mark.parametrize("name", ["task_001.pt", "methods_001.pt", "task_001.sha256"])
def test_a_pipe_among_the_checkpoints_is_not_waited_for(place, name):
    path = place / "run" / "checkpoints" / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ClbenchError, match="it is no file"):
        checkpoints.last(place / "run")


@pytest.mark.parametrize("content", ["", '{"event": "run", "tit'])
def test_a_record_without_a_whole_line(place, content, capsys):
    (place / "run" / "record.jsonl").write_text(content)
    assert "record.jsonl lags behind the checkpoint: it is empty" in refused()
    shutil.rmtree(place / "run" / "checkpoints")  # as after a kill within the first line
    assert resume().finished
    assert "the run begins anew" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["deleted", "empty", "edited"])
def test_the_manifest_is_put_back(place, damage, capsys):
    path = place / "run" / "split_manifest.json"
    text = path.read_text()
    path.write_text("" if damage == "empty" else text.replace("train", "taint"))
    if damage == "deleted":
        path.unlink()
    resume()
    assert path.read_text() == text
    assert "split_manifest.json was not the run's own any more" in capsys.readouterr().out


def test_a_damaged_config_is_named(place, capsys):
    path = place / "run" / "config.yaml"
    path.write_text(path.read_text().replace("epochs", "epoch"))
    assert main(["--resume", "--output", str(path.parent)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}: unknown key ")


def rewrite(path, **changes):
    """A checkpoint made elsewhere: its checksum fits, as its maker wrote it, too."""
    contents = torch.load(path, weights_only=True)
    contents["tree"] = contents["tree"] | changes
    torch.save(contents, path)
    path.with_name("task_001.sha256").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("task", {"done": 99}, "it is of task 99, not 1"),
        ("task", {"done": -1}, "its done is not what a run writes"),
        ("task", {"done": "x"}, "its done is not what a run writes"),
        ("task", {"stages": [1]}, "its stages is not what a run writes"),
        ("task", {"stages": 1, "shown": None}, "its shown is not what a run writes"),
        ("task", {"step": "1"}, "its step is not what a run writes"),
        ("task", {"shown": None}, "its shown is not what a run writes"),
        ("task", {"theta": {"a": 1}}, "its theta is not what a run writes"),
        ("task", {"theta": {"a": torch.zeros(1)}}, "its theta lacks or adds a"),
        ("task", {"learned": torch.zeros(7).bool()}, "it knows 7 classes, and the stream has 4"),
    ],
)
def test_a_checkpoint_from_elsewhere(place, name, changes, message):
    rewrite(place / "run" / "checkpoints" / f"{name}_001.pt", **changes)
    assert re.search(message, refused())


@pytest.mark.parametrize("contents", [[1], {"tree": [1], "tensors": {}}, {"tree": {}}])
def test_a_checkpoint_of_another_kind(place, contents):
    path = place / "run" / "checkpoints" / "task_001.pt"
    torch.save(contents, path)
    path.with_name("task_001.sha256").unlink()
    assert "task_001.pt cannot be read" in refused()


def test_a_checkpoint_without_what_a_method_remembers(place):
    path = place / "run" / "checkpoints" / "methods_001.pt"
    rewrite(path)
    torch.save({"tree": {}, "tensors": {}}, path)
    assert "what sfa remembered is not what a run writes" in refused()
