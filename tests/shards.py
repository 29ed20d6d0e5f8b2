"""Tar shards as WebDataset lays them out, written by the standard library."""

import io
import json
import tarfile

import numpy as np
from PIL import Image


def picture(number, kind="PNG", side=8):
    """An image file of one colour, by its number."""
    made = io.BytesIO()
    colour = (number % 256, number // 256, 0)
    Image.new("RGB", (side, side), colour).save(made, kind)
    return made.getvalue()


def noise(number, side=8):
    """An image file unlike any other."""
    made = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def add(tar, name, content, **fields):
    """One member, with whatever else its header says."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def write_shard(path, samples, **options):
    """A shard of samples: name to content by ending; dictionaries become .json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for key, files in samples.items():
            for ending, content in files.items():
                content = json.dumps(content) if isinstance(content, dict) else content
                content = content.encode() if isinstance(content, str) else content
                add(tar, f"{key}.{ending}", content)
    return path


def numbered(start, count, classes=4):
    """Samples with .cls, from a number on; labels take turns."""
    return {
        f"{number:06}": {"png": noise(number), "cls": str(number % classes)}
        for number in range(start, start + count)
    }
