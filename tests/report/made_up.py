"""Hand-written run folders for the tests of comparisons."""

import json

import records
import yaml


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
    retained=None,
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
        "title": f"split_digits-{name}-seed{seed}",
        "methods": methods,
        "seed": seed,
        "weights": {"source": source, "sha256": weights},
        "split_manifest_sha256": manifest,
        "tasks": names or [f"task {i}" for i in range(tasks)],
    }
    measures = {} if retained is None else {"retained": dict.fromkeys(retained, 0.8)}
    events = [records.run_event(**about | run), records.pretrained(retention, **measures)]
    for task in [tasks - 1] if "multitask" in methods else range(tasks):
        count = task + 1
        measured = records.measured(0, [op] * count, [op / 2] * count)
        events.append(
            records.task_event(
                task,
                measured,
                retention=None if retention is None else {"top1": retention, "top5": 1.0},
                retained={n: (0.8 + task * v) / (task + 1) for n, v in (retained or {}).items()},
                curve=[measured | {"step": 10 * task + 5}],
                methods={n: {"active": active, "scope": scope} for n in methods},
                remarks=[dict(remark) for remark in remarks],
                footprint=dict.fromkeys(methods, records.FOOTPRINT),
            )
        )
    records.write(folder, [*events, records.end()] if end else events)
    packages = {"python": "3.11", "packages": {"torch": torch}}
    (folder / "environment.json").write_text(json.dumps(packages))
    if config is not None:
        values = {"name": None, "seed": seed, "methods": methods} | config
        (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder
