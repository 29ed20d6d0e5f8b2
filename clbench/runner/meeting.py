"""How the processes of a run find each other."""

from __future__ import annotations

import atexit
import os

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from clbench.errors import ClbenchError
from clbench.learner.trainer import make_trainer, quiet
from clbench.machine import cores, has_bfloat16
from clbench.processes.contact import LOCAL
from clbench.processes.members import First, Other
from clbench.processes.processes import is_first, say, share_cores, world_size
from clbench.processes.rollcall import Alone, RollCall
from clbench.recipe.recipe import Recipe
from clbench.runner.folder import recipe_hash

#: Seconds that processes have to come; most of them may be imports from a slow disk.
COMING = 300.0

_here: RollCall | None = None


def meet(recipe: Recipe) -> RollCall:
    """The roll call of the processes that make this run; later runs of theirs share it.

    Raises:
        ClbenchError: if the processes cannot find each other.
    """
    global _here
    quiet()
    try:
        trainer = make_trainer(recipe, 1)
        check_processes(recipe, trainer)
    except ClbenchError as error:  # on all processes alike
        if is_first():
            raise
        raise SystemExit(2) from error
    asked = recipe.trainer.get("precision")
    if trainer.precision == "bf16-mixed" and str(asked) in ("16", "16-mixed"):
        say(f"trainer.precision = {asked!r}: a CPU has bf16-mixed instead, which is taken")
    device: torch.device = trainer.strategy.root_device
    if trainer.precision == "bf16-mixed" and device.type == "cpu" and not has_bfloat16(device):
        say(
            "Warning: trainer.precision = 'bf16-mixed': this processor only emulates bfloat16, and "
            "a convolution can take a hundred times as long; say trainer.precision: 32-true"
        )
    world = trainer.world_size
    before = _here.world if _here else world_size()
    if before not in (1, world):
        raise ClbenchError(
            f"this process is one of {before}, but the recipe is for {world}: make runs with other "
            "numbers of processes in a program of their own"
        )
    if world == 1:
        return Alone()
    if _here is None:
        if device.type == "cpu" and recipe.trainer.get("accelerator") != "cpu":
            say(f"There is no GPU here: {trainer.num_devices} processes share the CPU's cores.")
        place = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        local, nodes, rank = trainer.num_devices, trainer.num_nodes, trainer.global_rank
        share_cores(local)
        starts = 0 if place.creates_processes_externally else local - 1
        if starts:
            os.environ |= {"LOCAL_RANK": "0", "NODE_RANK": str(place.node_rank())}
        chosen = "MASTER_PORT" in os.environ or not starts or nodes > 1
        try:
            address = (place.main_address, place.main_port) if chosen else (LOCAL, 0)
        except ValueError as error:
            raise ClbenchError(f"MASTER_PORT must be the number of a port: {error}") from error
        digest = recipe_hash(recipe, ("free", "place"))  # nodes may have other names and paths
        limit = min(COMING, recipe.process_timeout)
        if rank == 0:
            _here = First(world, nodes, starts, address, limit, digest)
        else:
            _here = Other(rank, world, nodes, starts, address, limit, digest)
        atexit.register(_here.close)
    return _here


def check_processes(recipe: Recipe, trainer: L.Trainer) -> None:
    """Refuse more processes than there can be, before any is started.

    Args:
        recipe: the run's.
        trainer: one of the run's.

    Raises:
        ClbenchError: naming the argument of the Trainer.
    """
    device: torch.device = trainer.strategy.root_device
    most = max(16, 2 * cores())
    if device.type == "cpu" and trainer.num_devices > most:
        raise ClbenchError(
            f"trainer.devices = {recipe.trainer.get('devices')!r}: that many processes on a CPU of "
            f"{cores()} cores only get in each other's way; give at most {most}"
        )
    if recipe.trainer.get("sync_batchnorm") and device.type == "cpu" and trainer.world_size > 1:
        raise ClbenchError(
            "trainer.sync_batchnorm = True: torch has it for GPUs only; leave it out on a CPU"
        )
    alone = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if trainer.num_nodes > 1 and alone and not {"NODE_RANK", "GROUP_RANK"} & set(os.environ):
        raise ClbenchError(
            f"trainer.num_nodes = {trainer.num_nodes}: this process was started on one machine "
            "alone and would wait for the others without end: start it with srun or torchrun on "
            "every node, or set NODE_RANK, MASTER_ADDR and MASTER_PORT there"
        )
