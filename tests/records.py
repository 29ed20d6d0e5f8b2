"""Made-up events, by the models that runs write their own with."""

import json
from pathlib import Path

from clbench.record.events import VERSION, EndEvent, PretrainedEvent, RunEvent, TaskEvent

FOOTPRINT = {
    "past_data": False,
    "task_boundaries": True,
    "stored_samples": 0,
    "stored_bytes": 0,
    "weight_copies": 1,
    "extra_passes_per_step": 0.0,
    "time_share": 0.25,
}
MODES = {
    "trained_parameters": 10,
    "frozen_parameters": 0,
    "batch_norms_in_training_mode": 0,
    "batch_norms_in_evaluation_mode": 0,
}
RUN = {
    "version": VERSION,
    "title": "made up",
    "stream": "split_digits",
    "methods": {},
    "seed": 0,
    "backbone": "tiny_cnn",
    "options": {},
    "size": 8,
    "weights": {"source": "none", "sha256": None},
    "split_manifest_sha256": "b" * 64,
    "retention_images_sha256": None,
    "tasks": ["a", "b"],
    "class_names": ["a", "b"],
    "independent": False,
    "shared_labels": False,
    "test_on": "test",
    "train_logits": "task",
    "warnings": [],
    "parameters": 10,
    "recipe": None,
}
TASK = {
    "validation": None,
    "retention": None,
    "curve": [],
    "methods": {},
    "remarks": [],
    "distance": {},
    "distance_over": "trunk",
    "modes": MODES,
    "loss": 0.1,
    "processes": 1,
    "steps": 10,
    "samples": 100,
    "seconds": 1.5,
    "parts": {},
    "peak_memory_bytes": 1,
    "footprint": {},
}


def run_event(**fields):
    return RunEvent.made(**RUN | fields)


def pretrained(top1=None, top5=1.0, **fields):
    retention = None if top1 is None else {"top1": top1, "top5": top5}
    return PretrainedEvent.made(retention=retention, **fields)


def measured(first, task_incremental, class_incremental=None):
    by_class = task_incremental if class_incremental is None else class_incremental
    return {
        "first": first,
        "task_incremental": task_incremental,
        "class_incremental": by_class,
    }


def task_event(task, accuracies=None, **fields):
    """A task, by default with an accuracy of 1/2 on all tasks so far."""
    told = accuracies or measured(0, [0.5] * (task + 1))
    place = {"task": task, "name": str(task), "last_step": 10 * (task + 1)}
    return TaskEvent.made(**TASK | place | told | fields)


def end(**fields):
    return EndEvent.made(**fields)


def write(folder, events):
    Path(folder, "record.jsonl").write_text("".join(event.text for event in events))


def edit(folder, change):
    """Change the lines of a record: ``change`` is given each as values."""
    path = Path(folder, "record.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        change(event)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
