"""What a user sees while a task is trained: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm


class TaskProgress(ProgressBar):
    """One bar for each task.

    Args:
        title: says which task of how many.
        seconds: least time between updates.
    """

    def __init__(self, title: str, seconds: float = 0.2) -> None:
        super().__init__()
        self.title, self.seconds = title, seconds
        self._bar: tqdm[Any] | None = None
        self._shown = self._done = 0
        self._time = 0.0
        self._enabled = True

    def disable(self) -> None:
        """Called by Lightning on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Counterpart of :meth:`disable`."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar."""
        super().on_train_start(trainer, pl_module)
        self._shown = 0
        if self._enabled and sys.stderr.isatty():
            total = int(pl_module.total_steps)  # type: ignore[arg-type]
            self._bar = tqdm(total=total, desc=self.title, unit="step", leave=False)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Move the bar on, at most once in ``seconds`` (reading the loss waits for a GPU)."""
        now = time.monotonic()
        if not self._enabled or now - self._time < (self.seconds if self._bar else 10.0):
            return
        first, self._time = self._time == 0.0, now
        step, part = int(pl_module.step_count), pl_module.last_loss  # type: ignore[arg-type]
        loss = float(part if trainer.world_size == 1 else pl_module.run_loss or math.nan)  # type: ignore[arg-type]
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._bar.update(step - self._shown)
            self._shown = step
        elif not first:
            print(f"{self.title}: step {step}/{pl_module.total_steps}, loss {loss:.3f}", flush=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
