"""Lightning's Trainer as clbench uses it: a fresh one for each task."""

from __future__ import annotations

import logging
import math
import os
import resource
import sys
import warnings
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from clbench.errors import ClbenchError
from clbench.progress import TaskProgress
from clbench.recipe import Recipe


def make_trainer(
    recipe: Recipe, total_steps: int, title: str = "", logger: Logger | None = None
) -> L.Trainer:
    """A Trainer with the recipe's arguments.

    Args:
        recipe: the settings of the task.
        total_steps: optimiser steps of the task.
        title: what the progress bar says; without one there is no bar.
        logger: TensorBoard, or None.

    Raises:
        ClbenchError: if Lightning refuses the recipe's arguments, as it may on this machine.
    """
    arguments: dict[str, Any] = {
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": max(1, min(50, total_steps // 10)),
    } | recipe.trainer
    if "SLURM_NTASKS" in os.environ and SLURMEnvironment.detect():
        # Lightning's own requeueing would load its checkpoint of one task in the middle of another.
        arguments.setdefault("plugins", SLURMEnvironment(auto_requeue=False))
    shows = bool(title) and arguments.get("enable_progress_bar", True)
    arguments["enable_progress_bar"] = shows
    arguments |= {
        "max_epochs": recipe.epochs if recipe.epochs is not None else -1,
        "max_steps": recipe.steps if recipe.steps is not None else -1,
        "logger": logger or False,
        "callbacks": [TaskProgress(title)] if shows else [],
        "use_distributed_sampler": False,
    }
    try:
        return L.Trainer(**arguments)
    except Exception as error:  # Lightning, torch and the drivers raise a dozen kinds
        raise _refused(arguments, list(recipe.trainer), error) from error


def _refused(arguments: dict[str, Any], given: list[str], error: Exception) -> ClbenchError:
    """Which of the ``given`` arguments no Trainer can be built with, and why."""

    def works_without(name: str) -> bool:
        try:
            L.Trainer(**{key: value for key, value in arguments.items() if key != name})
        except Exception:  # another argument is wrong, or this one too
            return False
        return True

    blamed = [name for name in given if works_without(name)] or given
    values = ", ".join(f"trainer.{name} = {arguments[name]!r}" for name in blamed)
    reason = " ".join(str(error).split()) or type(error).__name__
    return ClbenchError(
        f"{values or 'trainer'}: Lightning refuses it ({reason}); change it or leave it out"
    )


def count_steps(recipe: Recipe, batches: int) -> int:
    """Optimiser steps of a task with ``batches`` batches in an epoch, T."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    return recipe.epochs * math.ceil(batches / accumulated(recipe))


def accumulated(recipe: Recipe) -> int:
    """Batches whose gradients are accumulated for a step."""
    return int(recipe.trainer.get("accumulate_grad_batches", 1))


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


def say(line: str) -> None:
    """Print a line, on the first process only."""
    if is_first():
        print(line, flush=True)


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: of the GPU, or of the whole process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def quiet() -> None:
    """Keep Lightning's tips and its advice on things clbench does on purpose off the screen."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*LeafSpec.*",
        ".*smaller than the logging interval.*",
        ".*`training_step` returned.*",
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")
