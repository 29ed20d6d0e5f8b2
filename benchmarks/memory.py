"""Peak memory of each method against plain fine-tuning, next to what its footprint predicts.

    python benchmarks/memory.py [--methods l2 si …] [--accelerator gpu] [--jobs 4]

Each run is a process of its own: ResNet-18 on two tasks of digits at 64 x 64 (a small ViT for
methods that ask for one), a few steps each. The prediction is plain fine-tuning of the same
network by the same optimiser, the declared copies of the weights, and what the method stores; the
goal is a peak within a tenth of it. Every run keeps the pretrained and the task's first weights
anyway, to report distances; so on a CPU, where these lie in the same memory, methods that only
read them cost less than predicted, and the allocator blurs the peak by a tenth.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from pairs import ready

from clbench.methods import METHODS

SETTINGS = {"replay": {"fraction": 0.25}, "l1": {"strength": 1e-6}, "l2": {"strength": 0.1}}
CODE = "import json, sys, clbench; clbench.run(json.loads(sys.argv[1]), sys.argv[2])"
NEAR = 0.1
VIT = {"backbone": "tiny_vit", "options": {"embed_dim": 384, "depth": 8, "num_heads": 6}}


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
    """The summary of a run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        done = subprocess.run(
            [sys.executable, "-c", CODE, json.dumps(values), str(output)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{values['methods']}: {done.stderr[-2000:]}")
        return json.loads((output / "summary.json").read_text())


@cache
def plain(vit: bool, accelerator: str) -> int:
    """The peak of plain fine-tuning, in bytes: the lower of two."""
    made = [run(recipe({}, vit, accelerator)) for _ in range(2)]
    return min(summary["cost"]["peak_memory_bytes"] for summary in made)


def measured(name: str, accelerator: str) -> tuple[str, bool]:
    """A line of the table, and whether the peak is near what was predicted."""
    vit = bool(METHODS[name]().networks)
    summary = run(recipe({name: SETTINGS.get(name, {})}, vit, accelerator))
    footprint, cost = summary["footprint"], summary["cost"]
    weights = 4 * cost["parameters"] * footprint["weight_copies"]
    pixels = 3 * (32 if vit else 64) ** 2
    # State may be the copies that are declared (θ_0, importance), or something else (products).
    predicted = max(weights + footprint["stored_samples"] * pixels, footprint["stored_bytes"])
    base = plain(vit, accelerator)
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
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    options = parser.parse_args()
    for vit in (False, True):
        plain(vit, options.accelerator)
    print(f"{'method':<16} {'plain MB':>8} {'measured':>12} {'predicted':>12} {'ratio':>8}")
    with ThreadPoolExecutor(options.jobs) as pool:
        held = []
        for line, near in pool.map(
            lambda name: measured(name, options.accelerator), options.methods
        ):
            print(line.rstrip(), flush=True)
            held.append(near)
    print(f"goal: within {NEAR:.0%} of plain and predicted: {sum(held)} of {len(held)}")
    return int(not all(held))


if __name__ == "__main__":
    sys.exit(main())
