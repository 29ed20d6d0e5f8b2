"""Linear probing: the trunk stays as it is, only the head learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from clbench.methods.base import Context, Method


class LinearProbe(Method):
    """Train the head on the frozen trunk: no forgetting in the trunk, little learning."""

    summary: ClassVar[str] = "train the head only, on the frozen trunk"
    still: ClassVar[bool] = True
    clashes: ClassVar[Mapping[str, str]] = {
        "hft": "a linear probe freezes every block already",
    }
    _head: tuple[str, ...] = ()

    def start(self, context: Context) -> None:
        self._head = context.head

    def trainable(self, name: str) -> bool:
        return name in self._head
