"""Hand-written run folders for the tests of comparisons."""

import json

import yaml

FOOTPRINT = {
    "past_data": False,
    "task_boundaries": True,
    "stored_samples": 0,
    "stored_bytes": 0,
    "weight_copies": 1,
    "extra_passes_per_step": 0.0,
    "time_share": 0.25,
}


def run_folder(
    place,
    methods=None,
    seed=0,
    op=0.8,
    tasks=2,
    end=True,
    active=1.0,
    scope=None,
    remarks=(),
    retention=0.7,
    weights="a" * 64,
    source="tag",
    manifest="b" * 64,
    torch="2.14",
    config=None,
    names=None,
    **run,
):
    """A finished run whose task-incremental accuracies are all ``op``."""
    methods = methods or {}
    name = "+".join(methods) or "sequential"
    folder = place / run.pop("folder", f"{name}-seed{seed}")
    folder.mkdir(parents=True)
    about = {
        "event": "run",
        "title": f"split_digits-{name}-seed{seed}",
        "stream": "split_digits",
        "methods": methods,
        "seed": seed,
        "backbone": "tiny_cnn",
        "options": {},
        "size": 8,
        "weights": {"source": source, "sha256": weights},
        "split_manifest_sha256": manifest,
        "tasks": names or [f"task {i}" for i in range(tasks)],
        "class_names": ["a", "b"],
        "independent": False,
        "train_logits": "task",
        "parameters": 10,
    } | run
    top = None if retention is None else {"top1": retention, "top5": 1.0}
    events = [about, {"event": "pretrained", "retention": top}]
    for task in [tasks - 1] if "multitask" in methods else range(tasks):
        seen = list(range(task + 1))
        measured = {
            "evaluated": seen,
            "task_incremental": [op] * len(seen),
            "class_incremental": [op / 2] * len(seen),
        }
        events.append(
            {
                "event": "task",
                "task": task,
                "name": str(task),
                "last_step": 10 * (task + 1),
                **measured,
                "retention": top,
                "curve": [measured | {"step": 10 * task + 5}],
                "methods": {n: {"active": active, "scope": scope} for n in methods},
                "remarks": [dict(remark) for remark in remarks],
                "footprint": dict.fromkeys(methods, FOOTPRINT),
                "steps": 10,
                "samples": 100,
                "seconds": 1.5,
                "peak_memory_bytes": 1,
            }
        )
    if end:
        events.append({"event": "end"})
    (folder / "record.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    packages = {"python": "3.11", "packages": {"torch": torch}}
    (folder / "environment.json").write_text(json.dumps(packages))
    if config is not None:
        values = {"name": None, "seed": seed, "methods": methods} | config
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder
