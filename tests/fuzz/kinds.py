"""Every kind of what is given to clbench: each makes one case in an empty folder."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.base import Base
from fuzz.case import Case
from fuzz.pictures import images
from fuzz.stored import folders, weights
from fuzz.typed import recipes, suites, trainers, words

#: Every kind, and how many cases of it `make fuzz` tries.
KINDS: dict[str, tuple[Callable[[Random, Path, Base], Case], int]] = {
    "recipes": (recipes, 1000),
    "words": (words, 500),
    "suites": (suites, 200),
    "trainers": (trainers, 200),
    "folders": (folders, 200),
    "images": (images, 200),
    "weights": (weights, 50),
}
