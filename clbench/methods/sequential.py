"""Plain sequential fine-tuning: the baseline that forgets."""

from __future__ import annotations

from typing import ClassVar

from clbench.methods.base import Method


class Sequential(Method):
    """Train on one task after the other and do nothing else (the same as no method at all)."""

    summary: ClassVar[str] = "plain sequential fine-tuning, the baseline"
    alone: ClassVar[str] = "is plain fine-tuning, alone"
