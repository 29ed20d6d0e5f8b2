"""``clbench new method NAME``: a method of one's own to start from, and its test."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from clbench.errors import ClbenchError, shown

METHOD = '''\
"""The method {name}: clbench train --plugins {name}.py --methods.{name}.pull 0.1"""

from typing import ClassVar

import torch
from pydantic import Field

from clbench.method import LOW_RANK, Method, Needs


class {kind}(Method):
    """After every step, go a little of the way back to where the task began.

    Write yours in its place: clbench/methods/base.py tells all hooks as a training loop, and
    docs/plugins.md says what else a file like this can hold.
    """

    summary: ClassVar[str] = "pulls back to the weights that the task began with"
    needs: ClassVar[Needs] = Needs(copies=1)  # of the weights, beside those that are trained
    #: Methods that it does not go with, and why.
    clashes: ClassVar[dict[str, str]] = dict.fromkeys(
        LOW_RANK, "it moves weights that the latter trains factors of"
    )
    #: The setting at which it changes nothing; where a run has it, clbench says so beforehand.
    neutral: ClassVar[dict[str, float]] = {{"pull": 0.0}}
    #: A setting: {{{name}: {{pull: 0.1}}}} in a recipe, checked when that is read.
    pull: float = Field(0.03, ge=0, le=1, description="share of the way; 0 changes nothing")

    def start(self, context):
        """Before a task. What is remembered is in attributes that start with an underscore."""
        self._anchor, self._head = context.anchors.previous, context.head

    @torch.no_grad()
    def after_step(self, model, step):
        """After every step of the optimiser."""
        if self.pull:
            self._anchor.pull(model, self.pull, self._head)

    def activity(self):
        """For the record: whether the method changed anything, and what else it tells."""
        return {{"active": float(self.pull > 0)}}


#: What clbench finds here: names in recipes, and what they mean.
METHODS = {{"{name}": {kind}}}
'''
TEST = '''\
"""Whether {name} keeps to what clbench relies on: python -m pytest test_{name}.py"""

from clbench.testing import check_method
from {name} import {kind}


def test_{name}():
    # In a minute or two: it trains, resumes bit for bit, changes nothing at its neutral setting,
    # and goes with every other method, or says why not.
    check_method({kind}, neutral={{"pull": 0}})
'''


def write_method(name: str, folder: Path) -> list[Path]:
    """Write the file of a method and its test; nothing is overwritten.

    Args:
        name: of the method, in recipes.
        folder: it is made if it is not there.

    Returns:
        The two files.

    Raises:
        ClbenchError: for a name that cannot be, or if a file is there.
    """
    from clbench.methods import METHODS

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ClbenchError(f"{shown(name)}: names are small letters, digits and _, as in my_method")
    if name in METHODS or name in sys.stdlib_module_names:
        owner = "method of clbench's" if name in METHODS else "module of Python's"
        raise ClbenchError(f"{name} is a {owner}: choose another name")
    kind = "".join(part.capitalize() for part in name.split("_"))
    texts = {folder / f"{name}.py": METHOD, folder / f"test_{name}.py": TEST}
    for path in texts:
        if path.exists():
            raise ClbenchError(f"{path} is there, and is not overwritten: choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text.format(name=name, kind=kind))
    return list(texts)
