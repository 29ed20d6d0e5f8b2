"""What is spoilt: a small recipe, a suite, a finished run, weights, and a folder of images."""

import copy
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
        "all": {"optimizer.lr": [0.01, 0.1]},
        "methods": {"sfa": {"methods.sfa.p": [0.5, 0.9]}},
    },
}


@dataclass(frozen=True)
class Base:
    """Where whole things lie.

    Attributes:
        run: a finished run folder.
        images: a folder with ``train`` and ``test``, four classes each.
        weights: two files of weights of :data:`RECIPE`'s network.
        data: the data folder of all runs.
    """

    run: Path
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

    folder.mkdir(parents=True, exist_ok=True)
    images, weights = folder / "images", folder / "w.pth"
    base = Base(
        folder / "run", images, (weights, folder / "run/model.safetensors"), folder / "data"
    )
    wise = base.recipe() | {"methods": {"wise_ft": {}}, "checkpoints": "all"}
    run(wise, base.run)
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
