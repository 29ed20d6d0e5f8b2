"""Lightning's Trainer as clbench uses it: a fresh one for each task."""

from __future__ import annotations

import functools
import logging
import math
import os
import signal
import threading
import warnings
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities import registry
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from clbench.errors import ClbenchError, reason
from clbench.learner.progress import TaskProgress
from clbench.processes.processes import by_srun, device_count, is_apart, placement, torchelastic
from clbench.recipe.attached import make_callbacks
from clbench.recipe.recipe import Recipe

# For every Trainer, Lightning reads the metadata of all installed packages: once is enough.
if hasattr(registry, "entry_points"):
    registry.entry_points = functools.cache(registry.entry_points)


def make_trainer(
    recipe: Recipe, total_steps: int, title: str = "", logger: Logger | None = None
) -> L.Trainer:
    """A Trainer with the recipe's arguments.

    Args:
        recipe: the settings of the task.
        total_steps: optimiser steps of the task.
        title: what the progress bar says; without one there is no bar.
        logger: of the run; without one, the recipe's callbacks are left out too.

    Raises:
        ClbenchError: if Lightning refuses the recipe's arguments, as it may on this machine.
    """
    arguments: dict[str, Any] = {
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": max(1, min(50, total_steps // 10)),
    } | recipe.trainer
    arguments |= placement(recipe.trainer)
    if is_apart():
        arguments["plugins"] = LightningEnvironment()
    elif "SLURM_NTASKS" in os.environ and SLURMEnvironment.detect() and not torchelastic():
        # Lightning's own requeueing would load its checkpoint of one task in the middle of another.
        # In a script of sbatch it would wait for processes that nobody starts.
        try:
            place = SLURMEnvironment(auto_requeue=False) if by_srun() else LightningEnvironment()
        except RuntimeError as error:  # what srun was told
            raise ClbenchError(f"srun: {reason(error)}") from error
        arguments.setdefault("plugins", place)
    given = make_callbacks(recipe.callbacks) if logger else []
    shows = bool(title) and arguments.get("enable_progress_bar", True)
    arguments["enable_progress_bar"] = shows
    arguments |= {
        "max_epochs": recipe.epochs if recipe.epochs is not None else -1,
        "max_steps": recipe.steps if recipe.steps is not None else -1,
        "logger": logger or False,
        "callbacks": [_OwnSigterm(), *([TaskProgress(title)] if shows else []), *given],
        "use_distributed_sampler": False,
    }
    try:
        trainer = L.Trainer(**arguments)
    except Exception as error:  # Lightning, torch and the drivers raise a dozen kinds
        raise _refused(arguments, list(recipe.trainer), error) from error
    if not isinstance(trainer.strategy, DDPStrategy):
        return trainer
    # The same strategy, which does not wait for ever.
    strategy = DDPStrategy(
        timeout=timedelta(seconds=recipe.process_timeout),
        find_unused_parameters="unused_parameters_true" in str(recipe.trainer.get("strategy")),
    )
    return L.Trainer(**arguments | {"strategy": strategy})


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
    return ClbenchError(
        f"{values or 'trainer'}: Lightning refuses it ({reason(error)}); change it or leave it out"
    )


class _OwnSigterm(L.Callback):
    """SIGTERM stays as it is outside of training.

    Lightning lets the processes talk about it within the signal handler, in the middle of whatever
    else they say to each other.
    """

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Undo what Lightning has just done."""
        if self.before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.before)


def fit(trainer: L.Trainer, learner: L.LightningModule, batches: Iterable[Any]) -> None:
    """Train, and raise Ctrl-C as what it is: Lightning makes an exit of it."""
    try:
        trainer.fit(learner, train_dataloaders=batches)
    except SystemExit as error:
        stopped = trainer.interrupted or isinstance(error.__context__, KeyboardInterrupt)
        if not stopped:
            raise
        raise KeyboardInterrupt from error


def count_steps(recipe: Recipe, batches: int) -> int:
    """Optimiser steps of a task with ``batches`` batches in an epoch, T."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    return recipe.epochs * math.ceil(batches / accumulated(recipe))


def accumulated(recipe: Recipe) -> int:
    """Batches whose gradients are accumulated for a step."""
    return int(recipe.trainer.get("accumulate_grad_batches", 1))


def devices(recipe: Recipe) -> int:
    """How many devices a run trains on."""
    nodes = int(recipe.trainer.get("num_nodes", 1))
    gpus = torch.cuda.device_count() if recipe.trainer.get("accelerator") != "cpu" else 0
    return nodes * (device_count(recipe.trainer.get("devices", "auto")) or max(1, gpus))


def quiet() -> None:
    """Keep Lightning's tips and its advice on things clbench does on purpose off the screen."""
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.fabric.utilities.distributed",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*GPU available but not used.*",
        ".*LeafSpec.*",
        ".*smaller than the logging interval.*",
        ".*`training_step` returned.*",
        ".*`srun` command is available.*",
        ".*AMP with fp16 is not supported on CPU.*",  # said by `meet`, once
        ".*is supported for historical reasons.*",
    ):
        warnings.filterwarnings("ignore", message)
    torch.set_float32_matmul_precision("high")
