"""What a run keeps of its weights, for how long, and what of it is stored twice."""

import errno
import hashlib
import os

import pytest
import torch
import yaml
from helpers import interrupt_after

import clbench
from clbench.errors import ClbenchError
from clbench.record import checkpoints


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").glob("*.pt"))


def state(value, number=1):
    frozen = torch.full((1000,), 0.5)
    theta = {"frozen": frozen, "trained": torch.full((1000,), float(value))}
    return {"done": number, "theta": theta, "shown": theta, "learned": torch.tensor([True, False])}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("keep", ["all", "last", "none"])
def test_what_is_saved_comes_back(tmp_path, keep):
    remembered = {"ewc": {"fisher": [torch.rand(3), torch.tensor(7)], "count": 2}, "sfa": {}}
    known = set()
    for number in (1, 2, 3):
        # What an earlier file holds is known; tensors may lie where others lay.
        checkpoints.save(tmp_path, number, state(number, number), remembered, keep, known)
    assert checkpoints.numbers(tmp_path) == ([1, 2, 3] if keep == "all" else [3])
    for number in checkpoints.numbers(tmp_path):
        assert same(checkpoints.load(tmp_path, number), state(number, number))
    assert same(checkpoints.last(tmp_path), state(3, 3) | {"methods": remembered})
    assert names(tmp_path)[0] == "methods_003.pt"
    assert len([name for name in names(tmp_path) if name.startswith("methods")]) == 1
    assert checkpoints.load(tmp_path, 3, ["done"]) == {"done": 3}


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_every_kind_of_tensor(tmp_path, shape, dtype):
    tensor = torch.ones(shape).to(dtype)
    checkpoints.save(tmp_path, 1, {"a": tensor}, {}, "all")
    assert same(checkpoints.load(tmp_path, 1)["a"], tensor)


def test_equal_tensors_are_stored_once(tmp_path):
    for number in (1, 2):
        checkpoints.save(tmp_path, number, state(number), {"ewc": state(number)}, "all")
    sizes = {name: (tmp_path / "checkpoints" / name).stat().st_size for name in names(tmp_path)}
    assert 8000 < sizes["task_001.pt"] < 12000  # both tensors, once
    assert 4000 < sizes["task_002.pt"] < 8000  # the changed one
    assert sizes["methods_002.pt"] < 4000  # neither


def test_equal_values_in_another_layout_keep_it(tmp_path):
    one = torch.rand(2, 3, 4, 4)
    other = one.to(memory_format=torch.channels_last)
    checkpoints.save(tmp_path, 1, {"one": one, "other": other}, {}, "all")
    loaded = checkpoints.load(tmp_path, 1)
    assert loaded["one"].stride() == one.stride()
    assert loaded["other"].stride() == other.stride()


def test_loaded_tensors_share_no_memory(tmp_path):
    checkpoints.save(tmp_path, 1, state(1), {}, "last")
    loaded = checkpoints.load(tmp_path, 1)
    loaded["theta"]["trained"].zero_()
    assert same(loaded["shown"], state(1)["shown"])
    assert same(checkpoints.load(tmp_path, 1), state(1))


def test_a_task_counts_once_its_own_file_is_there(tmp_path):
    """Killed between the two files, the run goes on from the task before."""
    checkpoints.save(tmp_path, 1, state(1), {"gem": {"task": 1}}, "last")
    place = tmp_path / "checkpoints"
    (place / "methods_002.pt").write_bytes((place / "methods_001.pt").read_bytes())
    assert checkpoints.last(tmp_path)["methods"] == {"gem": {"task": 1}}
    checkpoints.save(tmp_path, 2, state(2), {"gem": {"task": 2}}, "last")
    assert checkpoints.last(tmp_path)["methods"] == {"gem": {"task": 2}}


class Full:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


@pytest.mark.parametrize("room", [0, 10, 500, 3000, 6000, 9000])
def test_a_disk_that_is_full_leaves_the_checkpoint_before(tmp_path, monkeypatch, room):
    """PyTorch's own error would hide what the disk said."""
    checkpoints.save(tmp_path, 1, state(1), {}, "last")
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    real = os.fdopen
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdopen", lambda *a: Full(real(*a), room))
        with pytest.raises(OSError, match="No space left") as caught:
            checkpoints.save(tmp_path, 2, state(2, 2), {"ewc": state(2)}, "last")
    assert str(tmp_path) in caught.value.filename
    assert same(checkpoints.last(tmp_path), state(1) | {"methods": {}})
    left = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    assert {path: left[path] for path in before} == before
    assert not [path for path in left if path.name.endswith(".partial")]
    checkpoints.save(tmp_path, 2, state(2, 2), {"ewc": state(2)}, "last")
    assert same(checkpoints.last(tmp_path), state(2, 2) | {"methods": {"ewc": state(2)}})


def test_checksums_are_those_of_sha256sum(tmp_path):
    checkpoints.save(tmp_path, 1, state(1), {}, "last")
    place = tmp_path / "checkpoints"
    lines = (place / "task_001.sha256").read_text().splitlines()
    for line, name in zip(lines, ("methods_001.pt", "task_001.pt"), strict=True):
        digest = hashlib.sha256((place / name).read_bytes()).hexdigest()
        assert line == f"{digest}  {name}"


def test_other_files_among_the_checkpoints_are_left_alone(tmp_path):
    checkpoints.save(tmp_path, 1, state(1), {}, "last")
    strange = [tmp_path / "checkpoints" / name for name in ("task_x.pt", "task_.pt", "a_b.txt")]
    for path in strange:
        path.touch()
    checkpoints.save(tmp_path, 2, state(2), {}, "last")
    assert checkpoints.numbers(tmp_path) == [2]
    assert all(path.exists() for path in strange)


def test_nothing_to_go_on_from(tmp_path):
    assert checkpoints.last(tmp_path) is None
    assert checkpoints.numbers(tmp_path) == []


@pytest.mark.parametrize("damage", ["short", "foreign", "missing"])
def test_files_that_are_not_whole(tmp_path, damage):
    for number in (1, 2):
        checkpoints.save(tmp_path, number, state(number), {}, "all")
    path = tmp_path / "checkpoints" / "task_002.pt"
    if damage == "short":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "foreign":
        torch.save([1], path)
    else:
        (tmp_path / "checkpoints" / "task_001.pt").unlink()
    with pytest.raises(ClbenchError, match=r"run again|to resume from the start") as caught:
        checkpoints.last(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", ["methods_003.pt", "task_001.pt", "task_002.pt", "task_003.pt"]),
        ("last", ["methods_003.pt", "task_003.pt"]),
        ("none", None),
    ],
)
def test_a_run_keeps_what_its_recipe_says_and_resumes(recipe, tmp_path, monkeypatch, keep, left):
    recipe |= {"checkpoints": keep, "methods": {"ewc": {"samples": 8}}}
    whole = clbench.run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            clbench.run(recipe, tmp_path / "cut")
    assert "task_002.pt" in names(tmp_path / "cut")
    cut = clbench.run(recipe, tmp_path / "cut", resume=True)
    final = [(record.folder / "model.safetensors").read_bytes() for record in (whole, cut)]
    assert final[0] == final[1]
    for record in (whole, cut):
        assert (record.folder / "checkpoints").exists() == (left is not None)
        assert left is None or names(record.folder) == left


def test_a_frozen_trunk_is_stored_once_for_all_tasks(recipe, tmp_path):
    recipe["model"] |= {"backbone": "tiny_vit", "options": {}}  # no running statistics to move
    recipe |= {"checkpoints": "all", "methods": {"linear_probe": {}}}
    place = clbench.run(recipe, tmp_path / "run").folder / "checkpoints"
    first, *later = (path.stat().st_size for path in sorted(place.glob("task_*.pt")))
    assert max(later) < first / 2


def test_a_run_from_before_a_field_was_there_resumes(recipe, tmp_path, capsys):
    recipe["steps"] = 1
    config = clbench.run(recipe, tmp_path / "run").folder / "config.yaml"
    values = yaml.safe_load(config.read_text())
    del values["checkpoints"]
    config.write_text(yaml.safe_dump(values))
    capsys.readouterr()
    clbench.run(recipe, tmp_path / "run", resume=True)
    assert "already finished" in capsys.readouterr().out
