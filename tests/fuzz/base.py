"""What is spoilt: a small recipe, a suite, a finished run, weights, and a folder of images."""

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from PIL import Image

from fuzz import odd

RECIPE: dict[str, Any] = {
    "seed": 0,
    "stream": {"name": "split_digits", "first_tasks": 1, "validation": 0.1},
    "images": {"size": 8, "mean": [0.5, 0.5, 0.5]},
    "augment": {"flip": False},
    "model": {"backbone": "tiny_cnn", "weights": "none", "options": {"width": 8}},
    "methods": {"sfa": {"p": 0.5, "beta": 0.5}, "replay": {"fraction": 0.1}},
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
    "schedule": {"name": "cosine", "warmup": 0.1},
    "steps": 2,
    "batch_size": 16,
    "eval_every": 1,
    "retention": {"data": "none"},
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
}
SUITE: dict[str, Any] = {
    "base": RECIPE,
    "methods": {"plain": {}, "sfa": {"sfa": {"p": 0.9}}, "ewc": {"ewc": {"strength": 1.0}}},
    "seeds": [0, 1],
    "overrides": {"ewc": {"optimizer": {"lr": 0.1}}},
    "tune": {
        "tries": 2,
        "tasks": 1,
        "space": {"optimizer.lr": [0.01, 0.1]},
        "methods": {"sfa": {"methods.sfa.p": [0.5, 0.9]}},
    },
}
#: Methods with settings that suit the small recipe.
METHODS: dict[str, Any] = {
    "sfa": {"p": 0.5},
    "ewc": {"strength": 1.0, "samples": 8},
    "flow": {"temperature": 1.0},
    "gem": {"samples": 8},
    "l2": {},
    "lora": {"rank": 2},
    "replay": {"fraction": 0.1},
    "ties": {},
    "wise_ft": {},
    "hft": {},
    "linear_probe": {},
}


#: How a suite's methods were tuned.
TUNING: dict[str, Any] = {
    "tries": 2, "tasks": 1, "seed": 0, "scenario": "task_incremental",
    "cells": [
        {
            "name": "plain", "method": "plain", "space": {"optimizer.lr": [0.01, 0.1]}, "chosen": 0,
            "tries": [
                {"number": 0, "settings": {"optimizer.lr": 0.01}, "value": 0.6, "reason": "",
                 "folder": "tuning/plain/0", "state": "finished"},
                {"number": 1, "settings": {"optimizer.lr": 0.1}, "value": None,
                 "reason": "it diverged", "folder": "tuning/plain/1", "state": "failed"},
            ],
        }
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Base:
    """Where whole things lie.

    Attributes:
        run: a finished run folder, with a sweep.
        cut: one that was stopped after the first of its two tasks.
        suite: a folder of two runs and how they were tuned.
        images: a folder with ``train`` and ``test``, four classes each.
        weights: two files of weights of :data:`RECIPE`'s network.
        data: the data folder of all runs.
    """

    run: Path
    cut: Path
    suite: Path
    images: Path
    weights: tuple[Path, Path]
    data: Path

    def recipe(self) -> dict[str, Any]:
        """The small recipe, to be changed."""
        return copy.deepcopy(RECIPE) | {"data_dir": str(self.data)}


def prepare(folder: Path) -> Base:
    """Make everything once."""
    import torch

    from clbench import run
    from clbench.sweep import sweeping as sweep

    folder.mkdir(parents=True, exist_ok=True)
    images, weights = folder / "images", folder / "w.pth"
    base = Base(
        folder / "run",
        folder / "cut",
        folder / "suite",
        images,
        (weights, folder / "run/model.safetensors"),
        folder / "data",
    )
    wise = base.recipe() | {"methods": {"wise_ft": {}}, "checkpoints": "all"}
    wise["stream"]["first_tasks"] = 2
    with _kept_at_first(base.cut):
        run(wise, base.run)
    sweep.sweep(base.run, "alpha", [0.0, 0.5, 1.0])
    for seed in (0, 1):
        run(base.recipe() | {"seed": seed, "methods": {}}, base.suite / f"plain-seed{seed}")
    (base.suite / "tuning.json").write_text(json.dumps(TUNING))
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for name in "abcd":
            place = images / part / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    from safetensors.torch import load_file

    torch.save({"state_dict": load_file(base.weights[1])}, weights)
    return base


def _kept_at_first(target: Path) -> Any:
    """While this holds, a run's folder is copied when its first task is finished."""
    from unittest.mock import patch

    from clbench.runner.saving import Saver

    save = Saver.save

    def saved(self: Saver, recorder: Any, progress: Any, *others: Any) -> None:
        save(self, recorder, progress, *others)
        if progress.done == 1:
            self.join()
            copied(recorder.folder, target)

    return patch.object(Saver, "save", saved)


def copied(source: Path, target: Path) -> Path:
    """A copy of a folder, its symlinks kept."""
    shutil.copytree(source, target, symlinks=True)
    return target


def written(values: Any, path: Path) -> Path:
    """Plain values as YAML, whatever they hold."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    path.write_bytes(odd.unfolded(text).encode("utf-8", errors="surrogatepass"))
    return path


def pick(folder: Path, random: Random) -> Path:
    """A file below a folder."""
    return random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
