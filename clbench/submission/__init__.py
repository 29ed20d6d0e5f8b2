"""Runs to hand over in one file, and what can be checked of such a file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.submission.packing import pack as pack
    from clbench.submission.submission import PackedRun as PackedRun
    from clbench.submission.submission import Submission as Submission
    from clbench.submission.submission import opened as opened
    from clbench.submission.verdicts import RowVerdict as RowVerdict
    from clbench.submission.verdicts import Verdicts as Verdicts
    from clbench.submission.verdicts import read_verdicts as read_verdicts
    from clbench.submission.verifying import Rerun as Rerun
    from clbench.submission.verifying import verify as verify

_HOME = {
    "PackedRun": "submission",
    "Rerun": "verifying",
    "RowVerdict": "verdicts",
    "Verdicts": "verdicts",
    "read_verdicts": "verdicts",
    "Submission": "submission",
    "opened": "submission",
    "pack": "packing",
    "verify": "verifying",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"clbench.submission.{_HOME[name]}"), name)
    raise AttributeError(f"module 'clbench.submission' has no attribute {name!r}")
