"""A small recipe, how two runs of it are compared, how one is cut off, and a stand-in for one."""

import sys
from types import SimpleNamespace

import records

from clbench.launch import local as launch
from clbench.processes.processes import is_first
from clbench.runner.products import PRODUCTS
from clbench.runner.saving import Saver
from clbench.suite import comparison

RECIPE = {
    "stream": {"name": "split_digits"},
    "images": {"size": 8},
    "model": {
        "backbone": "tiny_cnn",
        "weights": "pretrain",
        "options": {"width": 8},
        "pretraining": {"epochs": 3},
    },
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "steps": 6,
    "batch_size": 32,
    "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
}

#: A network that every method for vision transformers works on, and what fits it of theirs.
VIT = {
    "backbone": "tiny_vit",
    "options": {"depth": 2, "embed_dim": 32, "num_heads": 2},
    "weights": "pretrain",
    "pretraining": {"epochs": 1},
}
FITTING = {
    "dualprompt": {"g_blocks": [0], "e_blocks": [1]},
    "coda_prompt": {"pool": 8, "blocks": [0, 1]},
}


def comparable(record):
    """The summary of a run without what is measured with a clock or in memory."""
    summary = record.summary()
    for measured in ("seconds", "seconds_by_part", "peak_memory_bytes"):
        del summary["cost"][measured]
    del summary["footprint"]["time_share"]
    return summary


def look(model, batch=None, inputs=None):
    """A forward pass of which only so much is looked at."""
    return SimpleNamespace(step=1, model=model, batch=batch, inputs=inputs)


def interrupt_after(monkeypatch, tasks=1):
    """Runs stop as by Ctrl-C once so many tasks are finished."""
    save = Saver.save

    def save_and_stop(self, recorder, progress, *rest):
        save(self, recorder, progress, *rest)
        if is_first() and progress.done == tasks:
            self.join()
            raise KeyboardInterrupt

    monkeypatch.setattr(Saver, "save", save_and_stop)


EVENTS = [
    records.run_event(tasks=["a"]),
    records.pretrained(),
    records.task_event(0, seconds=1.0),
    records.end(),
]
#: Leaves a record of one task with an accuracy of 1 - 10 lr; a rate of 0.1 and l2 fail.
FAKE_TRAIN = (
    f"PRODUCTS, EVENTS = {PRODUCTS}, {[event.text for event in EVENTS]}"
    + """
import json, pathlib, sys, yaml
folder = pathlib.Path(sys.argv[1])
recipe = yaml.safe_load((folder / "config.yaml").read_text())
with (folder / "started").open("a") as file: file.write("x")
rate = recipe["optimizer"]["lr"]
if "l2" in recipe["methods"]: sys.exit("error: no l2 today")
if rate == 0.1: sys.exit("error: diverged")
value = 1 - 10 * rate
run, _, task, _ = events = list(map(json.loads, EVENTS))
run |= {"title": recipe["name"], "seed": recipe["seed"], "methods": recipe["methods"],
        "test_on": recipe["stream"]["test_on"]}
task |= {"task_incremental": [value], "class_incremental": [value / 2],
         "methods": {n: {} for n in recipe["methods"]}}
for name in PRODUCTS: (folder / name).write_bytes(b"\\2" + bytes(7) + b"{}")
(folder / "record.jsonl").write_text("".join(json.dumps(e) + "\\n" for e in events))
"""
)


def fake_train(monkeypatch, folder):
    """A script in the folder stands for the ``clbench train`` of comparisons."""
    script = folder / "fake.py"
    script.write_text(FAKE_TRAIN)
    monkeypatch.setattr(comparison, "train_words", lambda f: [sys.executable, str(script), str(f)])
    monkeypatch.setattr(launch, "POLL", 0.02)
