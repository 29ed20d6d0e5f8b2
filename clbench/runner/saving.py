"""Checkpoints beside the run: a finished task's is written while the next task is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from clbench.errors import ClbenchError
from clbench.files.background import Background
from clbench.learner.deploy import Weights
from clbench.methods.context import Context
from clbench.processes.processes import is_first, say
from clbench.record import checkpoints
from clbench.record.packing import unkept
from clbench.record.recorder import Recorder
from clbench.runner.setup import Setup
from clbench.runner.start import Progress, checkpoint_of
from clbench.weights import tensors_in

#: Of a tensor: its memory, and what of it.
_Spot = tuple[Any, ...]


class Saver:
    """Writes the checkpoints of a run, one at a time.

    Nothing counts on one before it is whole and on the disk: the next one waits for it, and so does
    the end of the run. What cannot be written stops the run at its next step.

    Args:
        setup: of the run.
        folder: the run folder.
        done: tasks whose checkpoints are there.
    """

    def __init__(self, setup: Setup, folder: Path, done: int) -> None:
        self.setup, self.folder = setup, folder
        again = done > 0 and setup.recipe.checkpoints == "all"
        self._stored = checkpoints.stored(folder, done) if again else set[str]()  # by their hashes
        self._background = Background()

    def save(
        self, recorder: Recorder, progress: Progress, context: Context, weights: Weights
    ) -> None:
        """Begin to write the checkpoint of a task, with which it is finished; the first process
        does.

        Args:
            recorder: which has recorded it.
            progress: after the task.
            context: of the task.
            weights: that it ended with; nobody changes them from now on.

        Raises:
            ClbenchError: for a method that remembers what no checkpoint could give back.
        """
        if not is_first():
            return
        state = checkpoint_of(self.setup, progress, recorder, context, weights)
        remembered = {name: m.state_dict() for name, m in self.setup.named_methods.items()}
        for name, own in remembered.items():
            if strange := unkept(own):
                raise ClbenchError(f"method {name}: its state_dict has {strange}")
        # Methods go on in place with what they remember, a part of the weights at times.
        shared = {x.untyped_storage().data_ptr() for x in tensors_in(remembered)}
        copies: dict[_Spot, Tensor] = {}
        for x in (*tensors_in(remembered), *tensors_in(state)):
            if x.untyped_storage().data_ptr() in shared and _place(x) not in copies:
                copies[_place(x)] = x.detach().to("cpu", copy=True)
        state, remembered = _replaced(state, copies), _replaced(remembered, copies)
        self._background.start(partial(self._write, recorder, progress.done, state, remembered))

    def watched(self, on_step: Callable[[int], None] | None) -> Callable[[int], None] | None:
        """What is to be called after every step, and sees whether a checkpoint has failed."""
        if not is_first():
            return on_step

        def look(step: int) -> None:
            self._background.check()
            if on_step is not None:
                on_step(step)

        return look

    def join(self) -> None:
        """Wait until all is on the disk.

        Raises:
            BaseException: what kept it from being written.
        """
        self._background.join()

    def close(self) -> None:
        """Wait, where the run has failed; if this has failed, too, a line says why."""
        if lost := self._background.close():
            say(f"The last checkpoint in {self.folder} could not be written: {lost}")

    def _write(
        self, recorder: Recorder, number: int, state: dict[str, Any], methods: dict[str, Any]
    ) -> None:
        recorder.sync()  # a checkpoint says that these are there
        self.setup.logger.sync()
        keep = self.setup.recipe.checkpoints
        checkpoints.save(self.folder, number, state, methods, keep, self._stored)


def _place(x: Tensor) -> _Spot:
    """Where in memory a tensor is; views of the same are in one place."""
    return x.untyped_storage().data_ptr(), x.storage_offset(), x.shape, x.stride(), x.dtype


def _replaced(node: Any, copies: Mapping[_Spot, Tensor]) -> Any:
    """Nested mappings and sequences with the copies of some tensors, by place, in their place.

    What is there twice is so afterwards.
    """
    if isinstance(node, Tensor):
        return copies.get(_place(node), node)
    if isinstance(node, Mapping):
        return {name: _replaced(inner, copies) for name, inner in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_replaced(inner, copies) for inner in node)
    return node
