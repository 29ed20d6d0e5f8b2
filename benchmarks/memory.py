"""Peak memory of each method against plain fine-tuning, next to what its footprint predicts.

    python benchmarks/memory.py [--methods l2 si …] [--accelerator gpu] [--rounds 3]

Runs of ResNet-18 on two tasks of digits at 64 x 64 (a small ViT for methods that ask for one), a
few steps each. The goal is a peak within a tenth of the prediction: that of plain fine-tuning of
the same network by the same optimiser, and what the method adds as ``--dry_run`` counts it. θ_*
and θ_o are there anyway to report distances, on a GPU beside the network only where a method
keeps copies; what it keeps itself are its other declared copies, or its state if that is more.

On a GPU torch counts what tensors take, and all runs are in this process. On a CPU there is only
the size of a process, which the allocator and the libraries' pages blur by a tenth: each run is a
process of its own, and the least of some rounds counts.
"""

import argparse
import gc
import io
import json
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pairs import lacks_gpu, ready

import clbench
from clbench.machine import reset_peak
from clbench.methods import METHODS

SETTINGS = {"replay": {"fraction": 0.25}, "l1": {"strength": 1e-6}, "l2": {"strength": 0.1}}
CODE = "import json, sys, clbench; clbench.run(json.loads(sys.argv[1]), sys.argv[2])"
NEAR = 0.1
VIT = {"backbone": "tiny_vit", "options": {"embed_dim": 384, "depth": 8, "num_heads": 6}}


class Options(NamedTuple):
    """How runs are made; final."""

    accelerator: str
    rounds: int


def recipe(methods: dict, vit: bool, accelerator: str) -> dict:
    return {
        "stream": {
            "name": "split_digits",
            "classes": [[4, 5], [6, 7]],
            "train_per_class": 100,
            "test_per_class": 20,
        },
        "images": {"size": 32 if vit else 64},
        "model": (VIT if vit else {"backbone": "resnet18"}) | {"weights": "none"},
        "methods": methods,
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "steps": 4,
        "batch_size": 32,
        "trainer": {"accelerator": accelerator, "enable_progress_bar": False},
    }


def run(values: dict) -> dict:
    """The summary of a run; on a CPU in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        if values["trainer"]["accelerator"] == "gpu":
            gc.collect()
            reset_peak()
            clbench.run(values, output)
        else:
            command = [sys.executable, "-c", CODE, json.dumps(values), str(output)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{values['methods']}: {done.stderr[-2000:]}")
        return json.loads((output / "summary.json").read_text())


def least(values: dict, rounds: int) -> dict:
    """The summary of the round with the lowest peak."""
    made = [run(values) for _ in range(rounds)]
    return min(made, key=lambda summary: summary["cost"]["peak_memory_bytes"])


@cache
def plain(vit: bool, options: Options) -> int:
    """The peak of plain fine-tuning, in bytes."""
    values = recipe({}, vit, options.accelerator)
    return int(least(values, options.rounds)["cost"]["peak_memory_bytes"])


def measured(name: str, options: Options) -> tuple[str, bool]:
    """A line of the table, and whether the peak is near what was predicted."""
    vit, gpu = bool(METHODS[name]().networks), options.accelerator == "gpu"
    with redirect_stdout(io.StringIO()):
        summary = least(
            recipe({name: SETTINGS.get(name, {})}, vit, options.accelerator), options.rounds
        )
        base = plain(vit, options)
    footprint, cost = summary["footprint"], summary["cost"]
    size, copies = 4 * cost["parameters"], footprint["weight_copies"]
    anchors = 2 if copies or not gpu else 0
    predicted = anchors * size * gpu + max((copies - anchors) * size, footprint["stored_bytes"])
    peak = cost["peak_memory_bytes"]
    near = abs(peak / (base + predicted) - 1) <= NEAR
    line = (
        f"{name:<16} {base / 1e6:>8.0f} {(peak - base) / 1e6:>+12.0f} {predicted / 1e6:>+12.0f} "
        f"{peak / (base + predicted):>8.2f}  {'' if near else 'MISSED'}"
    )
    return line, near


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=ready()[1:], choices=ready())
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"])
    parser.add_argument("--rounds", type=int, help="runs of each; default: 3, on a GPU 1")
    given = parser.parse_args()
    if lacks_gpu(given.accelerator):
        return 0
    options = Options(given.accelerator, given.rounds or (1 if given.accelerator == "gpu" else 3))
    print(f"{'method':<16} {'plain MB':>8} {'measured':>12} {'predicted':>12} {'ratio':>8}")
    held = []
    for name in given.methods:
        line, near = measured(name, options)
        print(line.rstrip(), flush=True)
        held.append(near)
    print(f"goal: within {NEAR:.0%} of plain and predicted: {sum(held)} of {len(held)}")
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
