from types import SimpleNamespace

import pytest

from clbench.models.anchors import Anchors


@pytest.fixture
def fake_context():
    """A context with what SFA asks for."""

    def make(model, anchor, total_steps, head, task=0):
        return SimpleNamespace(
            task=SimpleNamespace(index=task),
            model=model,
            head=head,
            anchors=Anchors(pretrained=anchor, previous=anchor),
            total_steps=total_steps,
        )

    return make
