"""The processes of a run: which one this is, how many there are, and who prints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from clbench.errors import ClbenchError

_apart = False


def rank_and_world() -> tuple[int, int]:
    """Which process of the run this is, from 0, and how many there are."""
    there = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if there else (0, 1)


def world_size() -> int:
    """Number of processes of the run."""
    return rank_and_world()[1]


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


def say(line: str) -> None:
    """Print a line, on the first process only."""
    if is_first():
        print(line, flush=True)


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, which all have to ask for it."""
    if world_size() == 1:
        return value
    mean = value.detach().clone() / world_size()
    dist.all_reduce(mean)
    return mean


def gathered(values: Tensor) -> Tensor:
    """The rows (N, …) of all processes, which all have to ask for it; each may bring other N."""
    if world_size() == 1:
        return values
    sizes = [torch.zeros((), dtype=torch.int64, device=values.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor(len(values), device=values.device))
    counts = [int(size) for size in sizes]
    padded = values.new_zeros(max(counts), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@contextmanager
def apart() -> Iterator[None]:
    """Within it, Trainers are for this process alone, whoever has started it beside others."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def is_apart() -> bool:
    """Whether this is within :func:`apart`."""
    return _apart


def placement(trainer: Mapping[str, Any]) -> dict[str, int]:
    """``devices`` and ``num_nodes`` as torchrun or srun, which started this process, has them.

    Args:
        trainer: the recipe's arguments of the Trainer.

    Returns:
        The two numbers; nothing where the process was started on its own, or is :func:`apart`.

    Raises:
        ClbenchError: if the recipe says other numbers.
    """
    who, world, local = _started_by()
    if not who or _apart:
        return {}
    if world % local:
        raise ClbenchError(
            f"{who} started {world} processes, which nodes of {local} do not add up to: start as "
            "many on every node"
        )
    numbers = {"devices": local, "num_nodes": world // local}
    for name, number in numbers.items():
        wanted = device_count(trainer.get(name, "auto"))
        if wanted not in (None, number):
            where = "on every node" if name == "devices" else "nodes"
            raise ClbenchError(
                f"trainer.{name} is {trainer[name]}, but {who} started {number} "
                f"{'processes ' if name == 'devices' else ''}{where}: leave trainer.{name} out, "
                f"or start as many"
            )
    # A list names the devices themselves.
    return {k: v for k, v in numbers.items() if not isinstance(trainer.get(k), list)}


def torchelastic() -> bool:
    """Whether torchrun started this process."""
    return dist.is_available() and bool(dist.is_torchelastic_launched())


def by_srun() -> bool:
    """Whether srun started this process; a script that sbatch runs sees most of its variables too.

    Steps that SLURM makes itself, such as the one of a batch script, have the highest numbers.
    """
    known = os.environ
    if "SLURM_NTASKS" not in known or known.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return False
    step = known.get("SLURM_STEP_ID", known.get("SLURM_STEPID", ""))
    return step.isdigit() and int(step) < 0xFFFFFF00


def _started_by() -> tuple[str, int, int]:
    """Who started this process beside others, how many there are, and how many on this node."""
    known = os.environ
    if torchelastic():
        return "torchrun", int(known["WORLD_SIZE"]), int(known["LOCAL_WORLD_SIZE"])
    if by_srun():
        tasks, nodes = int(known["SLURM_NTASKS"]), int(known.get("SLURM_NNODES", 1))
        return "srun", tasks, int(known.get("SLURM_NTASKS_PER_NODE", max(1, tasks // nodes)))
    return "", 1, 1


def device_count(devices: Any) -> int | None:
    """How many devices a value of the Trainer asks for; None: as many as there are."""
    if isinstance(devices, str):
        words = [word for word in devices.split(",") if word.strip()]
        if len(words) > 1 or devices.endswith(","):
            return len(words)
        try:
            devices = int(devices)
        except ValueError:
            return None
    if isinstance(devices, list):
        return len(devices)
    return devices if isinstance(devices, int) and devices >= 0 else None


def share_cores(processes: int) -> None:
    """Give numerical libraries this process's share of the cores, unless the user has said it."""
    if processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, torch.get_num_threads() // processes)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
