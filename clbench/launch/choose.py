"""Where the runs of a suite go: processes on this machine, or a SLURM cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.launch import slurm
from clbench.launch.local import Launch, launch


def choose_launcher(
    name: str, at_once: int | None, folder: Path, options: Mapping[str, Any]
) -> Launch:
    """What runs jobs: processes on this machine, or a SLURM cluster.

    Args:
        name: ``local`` or ``slurm``.
        at_once: how many run side by side; None: 1 here, all on a cluster.
        folder: of the suite; for a cluster, on a file system that its nodes share.
        options: what to ask of the cluster, see :class:`clbench.launch.slurm.Settings`.

    Raises:
        ClbenchError: for an unknown name, wrong options, or if there is no SLURM here.
    """
    wanted = check_launcher(name, at_once, options)
    if wanted is not None:
        slurm.check_slurm()
        return lambda jobs, changed: slurm.launch_array(
            jobs, at_once or len(jobs), changed, wanted, folder / "slurm"
        )
    return lambda jobs, changed: launch(jobs, min(at_once or 1, len(jobs)), changed)


def check_launcher(
    name: str, at_once: int | None, options: Mapping[str, Any]
) -> slurm.Settings | None:
    """Refuse what can be seen to be wrong anywhere, without torch or SLURM.

    Args:
        name, at_once, options: see :func:`choose_launcher`.

    Returns:
        What is asked of the cluster; None where there is none.

    Raises:
        ClbenchError: for an unknown name or wrong options.
    """
    if at_once is not None and at_once < 1:
        raise ClbenchError(f"jobs must be at least 1, got {at_once}")
    if name not in ("local", "slurm"):
        raise ClbenchError(f"there is no launcher {name!r}: use local or slurm")
    if name == "slurm":
        return slurm.read_settings(options)
    if options:
        raise ClbenchError(f"slurm.{next(iter(options))} needs --launcher slurm")
    return None
