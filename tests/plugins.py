"""Plugins as users write them, for tests; what is loaded is forgotten after each."""

import pytest

from clbench.plugins import loading

LEASH = '''\
"""A method of one's own."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from clbench.method import Method, Needs

Path("loaded").touch()


class Leash(Method):
    """After every step, go a little of the way back to where the task began."""

    summary: ClassVar[str] = "pulls back to the weights the task started from"
    needs: ClassVar[Needs] = Needs(copies=1)
    pull: float = Field(0.03, ge=0, le=1, description="share of the way; 0 changes nothing")

    def start(self, context):
        self._anchor, self._head = context.anchors.previous, context.head

    def after_step(self, model, step):
        self._anchor.pull(model, self.pull, self._head)


METHODS = {"leash": Leash}
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in; ``loaded`` appears in it once ``leash.py`` is run."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


@pytest.fixture
def leash(place):
    path = place / "leash.py"
    path.write_text(LEASH)
    return path


def forget():
    """As in another process."""
    for name in list(loading.LOADED):
        loading.forget(name)
