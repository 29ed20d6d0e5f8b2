"""A tiny random image tower of CLIP, texts and reference images, for methods that need them."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from clbench.methods import METHODS
from clbench.metrics.retained.texts import Texts, write_texts
from clbench.models import ModelConfig
from clbench.models.backbone import load

#: Numbers of an embedding.
WIDTH = 6
TOWER = {
    "backbone": "vit_base_patch16_clip_224",
    "options": {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2},
}


@cache
def place():
    """A folder with all of it, for images of 8 pixels, until :func:`forget`."""
    folder = Path(tempfile.mkdtemp(prefix="clbench-clips-"))
    random = np.random.default_rng(0)
    for number in range(12):
        (folder / "images" / f"any{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (9, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"any{number % 2}" / f"{number}.png")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        state = load(ModelConfig(weights="none", **TOWER), WIDTH, 8).model.state_dict()
    # What weights of a new network make of images hardly differs from one to the next.
    save_file({name: 5 * x if x.ndim > 1 else x for name, x in state.items()},
              folder / "clip.safetensors")  # fmt: skip
    rows = torch.from_numpy(random.normal(size=(5, WIDTH)).astype(np.float32))
    write_texts(folder / "texts.npz", Texts(tuple("abcde"), rows), {})
    return folder


def forget():
    """Remove the folder, if there is one: conftest.py asks for it when the tests end.

    Processes of pytest-xdist and forked ones do not call what waits for Python's own end.
    """
    if place.cache_info().currsize:
        shutil.rmtree(place(), ignore_errors=True)
        place.cache_clear()


def model():
    """A recipe's values of the network."""
    return TOWER | {"weights": str(place() / "clip.safetensors")}


def settings():
    """What the method needs, and its mean of some steps."""
    folder = place()
    return {
        "data": str(folder / "images"),
        "embeddings": str(folder / "texts.npz"),
        "interval": 3,
    }


def required():
    """By method, what it cannot be without."""
    return {"zscl": {name: settings()[name] for name in ("data", "embeddings")}}


def made(name):
    """A method, with what it cannot be without."""
    return METHODS[name](**required().get(name, {}))
