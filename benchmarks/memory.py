"""Peak memory of each method against plain fine-tuning, next to what its footprint predicts.

Each run is a process of its own: ResNet-18 on two tasks of digits at 64 x 64, a few steps each.
The prediction is the declared copies of the weights plus what the method stores. Every run keeps
the pretrained and the task's first weights anyway, to report distances; so on a CPU, where these
lie in the same memory, methods that only read them cost less than predicted.

    python benchmarks/memory.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from clbench.methods import METHODS

SETTINGS = {"replay": {"fraction": 0.25}, "l1": {"strength": 1e-6}}
CODE = "import json, sys, clbench; clbench.run(json.loads(sys.argv[1]), sys.argv[2])"


def recipe(methods: dict) -> dict:
    return {
        "stream": {
            "name": "split_digits",
            "classes": [[4, 5], [6, 7]],
            "train_per_class": 100,
            "test_per_class": 20,
        },
        "images": {"size": 64},
        "model": {"backbone": "resnet18", "weights": "none"},
        "methods": methods,
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "steps": 4,
        "batch_size": 32,
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
    }


def run(methods: dict) -> dict:
    """The summary of a run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        subprocess.run(
            [sys.executable, "-c", CODE, json.dumps(recipe(methods)), str(output)],
            check=True,
            capture_output=True,
        )
        return json.loads((output / "summary.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=[m for m in METHODS if m != "sequential"])
    names = parser.parse_args().methods
    plain = min(run({})["cost"]["peak_memory_bytes"] for _ in range(2))
    print(f"plain fine-tuning: {plain / 1e6:.0f} MB at its peak\n")
    print(f"{'method':<16} {'measured':>12} {'predicted':>12}   extra MB")
    for name in names:
        summary = run({name: SETTINGS.get(name, {})})
        footprint, cost = summary["footprint"], summary["cost"]
        extra = cost["peak_memory_bytes"] - plain
        weights = 4 * cost["parameters"] * footprint["weight_copies"]
        predicted = weights + footprint["stored_samples"] * 3 * 64 * 64
        print(f"{name:<16} {extra / 1e6:>+12.0f} {predicted / 1e6:>+12.0f}", flush=True)


if __name__ == "__main__":
    main()
