"""What lies on disks: run folders and suites' folders, checkpoints, and weights."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz import odd
from fuzz.base import Base, copied, written
from fuzz.case import Case


def folders(random: Random, folder: Path, base: Base) -> Case:
    """A run or a suite's folder, damaged or made up, to report on, to sweep or to resume."""
    way = random.random()
    if way < 0.4:
        copied(base.run, folder / "broken")
        copied(base.suite, folder / "suite")
        places = [folder / "broken", folder / "suite"]
        case = Case(("report", str(base.run), "broken", "suite", "--output", "page"), "take")
    elif way < 0.6:
        places = [copied(base.run, folder / "broken")]
        case = Case(("sweep", "broken", "--alpha", random.choice(("0:1:0.5", "0.3", "1"))))
    else:
        places = [copied(random.choice((base.run, base.cut, base.cut)), folder / "out")]
        config = ("--config", "out/config.yaml") if random.random() < 0.5 else ()
        case = Case(("--resume", "--output", "out", *config))
    for _ in range(random.choice((1, 1, 2, 4))):
        damage(random, random.choice(places))
    return case


def damage(random: Random, place: Path) -> None:
    """Something goes wrong with a file of a run or suite."""
    change = random.choice(list(DAMAGES))
    found = [path for path in sorted(place.rglob(DAMAGES[change])) if _small(path)]
    if found:
        change(random.choice(found), random)


def _small(path: Path) -> bool:
    """Whether it is a file that can be read, before anything else has happened to it."""
    return path.is_file() and path.stat().st_size < 10_000_000


def _bytes(path: Path, random: Random) -> None:
    path.write_bytes(odd.data(path.read_bytes(), random))


def _gone(path: Path, _: Random) -> None:
    path.unlink()


def _folder_gone(path: Path, _: Random) -> None:
    shutil.rmtree(path.parent)


def _other_file(path: Path, random: Random) -> None:
    """Something that is no file, or that takes for ever to read."""
    path.unlink()
    kind = random.randrange(9)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(random.choice(("/dev/zero", "/nowhere", path.name, "..", "/etc/passwd")))
    elif kind == 3:
        bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
        for one, two in zip("abcdefgh", "bcdefghi", strict=True):
            bomb += f"{two}: &{two} [{', '.join(['*' + one] * 9)}]\n"
        path.write_text(bomb, encoding="utf-8")
    elif kind == 4:
        path.write_text("[" * 100_000, encoding="utf-8")
    elif kind == 5:
        path.write_text(
            random.choice(("", "\n", "null", "[]", "{}", "1", '"a"', "NaN", "{", "[1]"))
        )
    elif kind == 6:
        path.write_bytes("{}".encode("utf-16"))
    elif kind == 7:
        path.write_text('{"a": ' + "9" * 100_000 + "}", encoding="utf-8")
    else:
        path.touch()
        os.truncate(path, 1 << 30)  # takes no place


def _record(path: Path, random: Random) -> None:
    """Another event, or events in another order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        at = random.randrange(len(lines))
        lines[at] = json.dumps(odd.spoil(json.loads(lines[at]), random), default=str)
    except (ValueError, UnicodeError, IndexError, RecursionError, AttributeError):
        return  # damaged before
    change = random.randrange(8)
    if change == 0:
        random.shuffle(lines)
    elif change == 1:
        del lines[at:]
    elif change == 2:
        lines.insert(at, random.choice(lines))
    end = random.choice(("\n", "\n", "\n", "", "\r\n"))
    path.write_text(end.join(lines) + end, encoding="utf-8", errors="replace")


def _json(path: Path, random: Random) -> None:
    """Other values, as a person or another version would leave them."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(odd.spoil(values, random), indent=1, default=str)
    except (ValueError, UnicodeError, IndexError, RecursionError, AttributeError):
        return
    path.write_text(odd.unfolded(text), encoding="utf-8", errors="replace")


def _config(path: Path, random: Random) -> None:
    """Other settings than the run's."""
    import yaml

    try:
        values = odd.spoil(yaml.safe_load(path.read_text(encoding="utf-8")), random)
    except (ValueError, yaml.YAMLError, IndexError, RecursionError, AttributeError):
        return
    written(values, path)


def _checkpoint(path: Path, random: Random) -> None:
    """Other contents, in a file that torch reads; without a checksum, as of an older version."""
    import torch

    try:
        contents = torch.load(path, weights_only=True)
        other = _spoilt(contents, random)
    except Exception:  # damaged before
        return
    torch.save(other, path)
    for sums in path.parent.glob("*.sha256"):
        sums.unlink()


def _spoilt(contents: dict[str, Any], random: Random) -> Any:
    """A tree with one tensor or value other than it was."""
    import torch

    kind = random.randrange(4)
    if kind == 0 and contents["tensors"]:
        key = random.choice(sorted(contents["tensors"]))
        old = contents["tensors"][key]
        contents["tensors"][key] = random.choice(
            (old * float("nan"), old.flatten(), old.double(), old[:0], torch.tensor(3), "x", None)
        )
        return contents
    if kind == 1:
        return random.choice(([], {}, None, "x", 1, contents["tree"], contents["tensors"]))
    return contents | {"tree": odd.spoil(contents["tree"], random)}


#: What can happen to which files.
DAMAGES: dict[Callable[[Path, Random], None], str] = {
    _bytes: "*.*",
    _gone: "*.*",
    _folder_gone: "*.pt",
    _other_file: "*.*",
    lambda path, random: _bytes(path, random): "record.jsonl",
    lambda path, random: _other_file(path, random): "*n*.*[l]",  # configs and records
    lambda path, random: _record(path, random): "record.jsonl",
    _record: "record.jsonl",
    _json: "*.json",
    lambda path, random: _json(path, random): "sweep-*.json",
    lambda path, random: _json(path, random): "tuning.json",
    lambda path, random: _bytes(path, random): "*.pt",
    _config: "config.yaml",
    _checkpoint: "*.pt",
}


def weights(random: Random, folder: Path, base: Base) -> Case:
    """A weights file that is damaged, wrapped, or of something else; the recipe is run with it."""
    if random.random() < 0.5:
        path, must = _wrapped(random, folder, base)
    else:
        source = random.choice(base.weights)
        path = folder / f"w{random.choice((source.suffix, source.suffix, '.ckpt', '.tar'))}"
        content = source.read_bytes()
        for _ in range(random.choice((1, 1, 3))):
            content = odd.data(content, random)
        path.write_bytes(content)
        must = "either"
    values = base.recipe()
    values["model"]["weights"] = str(path)
    written(values, folder / "r.yaml")
    return Case(("--config", "r.yaml", "--output", "out"), must)


def _wrapped(random: Random, folder: Path, base: Base) -> tuple[Path, Any]:
    """Weights in another program's shape, and whether they make sense."""
    import argparse

    import torch
    from safetensors.torch import load_file, save_file

    state: dict[Any, Any] = dict(load_file(base.weights[1]))
    path, must = folder / f"w{random.choice(('.pth', '.pt', '.bin', '.ckpt', '.pth.tar'))}", "take"
    prefix = random.choice(
        ("", "", "module.", "model.", "_orig_mod.", "module.model.", "backbone.")
    )
    state = {prefix + key: value for key, value in state.items()}
    key = random.choice(sorted(state))
    change = random.randrange(14)
    if change <= 2:
        wrong = random.choice(
            (
                state[key].flatten()[:-1], state[key].unsqueeze(0), state[key].to(torch.int8),
                state[key] * float("nan"), state[key] + float("inf"), None, "x", 3, [1.0],
                state[key].to_sparse(), torch.tensor(1.0), torch.empty(0),
                state[key].to(torch.complex64),
                torch.empty(state[key].shape, device="meta"),
            )
        )  # fmt: skip
        state[key], must = wrong, "refuse"
    elif change == 3:
        del state[key]
        must = "either"  # a head need not be there
    elif change == 4:
        state = {**state, f"{prefix}other.weight": torch.ones(2)}
        must = "refuse"
    elif change == 5:
        state[3], must = torch.ones(2), "refuse"
    elif change == 6:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    elif change == 7:
        state = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in state.items()}
    elif change == 8:
        state, must = random.choice(({}, [], None, 1, "x", torch.ones(3), [state])), "refuse"
    wrap = random.randrange(7)
    if change in (5, 8) or wrap == 0:
        whole: Any = state
    else:
        name = ("state_dict", "model", "model_state_dict", "weights", "network", "model")[wrap - 1]
        whole = {"epoch": 3, name: state, "args": argparse.Namespace(lr=0.1), "best": 0.5}
    plain = (
        all(isinstance(v, torch.Tensor) and v.layout == torch.strided for v in state.values())
        if isinstance(state, dict) and state and change < 1
        else False
    )
    if plain and must == "take":
        path = folder / "w.safetensors"
        save_file(whole if wrap == 0 else state, path)
    else:
        torch.save(whole, path, _use_new_zipfile_serialization=random.random() < 0.8)
    return path, must
