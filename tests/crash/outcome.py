"""What a run leaves behind, without what is measured with a clock or in memory."""

import json
from collections import Counter
from pathlib import Path

import yaml
from helpers import comparable
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clbench.record.record import Record

#: Of a record's events.
MEASURED = ("seconds", "seconds_by_part", "peak_memory_bytes")
BYTES = ("model.safetensors", "load_model.py", "accuracy_matrix.csv", "curves.csv", "config.yaml")


def outcome(folder: Path) -> dict[str, object]:
    """By name, what two runs that ended alike have in common."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    told: dict[str, object] = {
        "files": [name for name in files if "tfevents" not in name and ".lock" not in name],
        "summary": comparable(Record.load(folder)),
        "summary.json": _timeless(json.loads((folder / "summary.json").read_text())),
        "record": [_timeless(json.loads(line)) for line in _lines(folder / "record.jsonl")],
        "scalars": scalars(folder),
    }
    told |= {name: (folder / name).read_bytes() for name in BYTES}
    return told | {p.name: p.read_bytes() for p in folder.glob("*.png")}


def differences(folder: Path, whole: dict[str, object]) -> list[str]:
    """What of a run's outcome is lost or different."""
    try:
        here = outcome(folder)
    except Exception as error:
        return [f"lost: {type(error).__name__}: {error}"]
    found = []
    for name in whole.keys() | here.keys():
        if name not in here:
            found.append(f"lost: {name}")
        elif here[name] != whole.get(name):
            found.append(f"differs: {name}{_how(here[name], whole.get(name))}")
    return sorted(found)


def scalars(folder: Path) -> Counter[tuple[str, int, float]]:
    """Tag, step and value of every scalar that TensorBoard shows, and how often."""
    events = EventAccumulator(str(folder), {"scalars": 0}).Reload()
    return Counter(
        (tag, point.step, point.value)
        for tag in events.Tags()["scalars"]
        for point in events.Scalars(tag)
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _timeless(node):
    if isinstance(node, dict):
        if isinstance(node.get("recipe"), str):  # the text of config.yaml
            node = node | {"recipe": yaml.safe_load(node["recipe"])}
        skipped = (*MEASURED, "time_share", "data_dir")
        return {key: _timeless(value) for key, value in node.items() if key not in skipped}
    return [_timeless(value) for value in node] if isinstance(node, list) else node


def _how(here: object, whole: object) -> str:
    if isinstance(here, Counter) and isinstance(whole, Counter):
        more, less = here - whole, whole - here
        return f" ({more.total()} too many, {less.total()} missing)"
    if isinstance(here, list) and isinstance(whole, list):
        return (
            f" ({[x for x in here if x not in whole]} for {[x for x in whole if x not in here]})"[
                :300
            ]
        )
    return ""
