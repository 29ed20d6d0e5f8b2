"""The end of a run: what it leaves behind comes first, then the last line of its record."""

from __future__ import annotations

from pathlib import Path

from clbench.errors import ClbenchError
from clbench.measure.loggers import Loggers
from clbench.processes.processes import say
from clbench.recipe.recipe import Recipe
from clbench.record import checkpoints
from clbench.record.record import Record
from clbench.record.recorder import Recorder
from clbench.runner import outputs
from clbench.runner.identity import compare_recipe, state_of, take_up, whole
from clbench.runner.products import WEIGHTS, missing
from clbench.weights import State


def finish(recorder: Recorder, number: int, recipe: Recipe, state: State, to: Loggers) -> None:
    """Write what a run leaves behind, then that it has ended.

    Args:
        recorder: of the run; all tasks are recorded.
        number: of checkpoints, one a task.
        recipe: of the run.
        state: the weights that were evaluated last.
        to: all loggers of the run.
    """
    record = recorder.record.ended()
    outputs.export(record, state)  # first: whatever else fails, the weights are there
    failed = outputs.write(record)
    to.log_results(recipe, record)
    to.close()
    checkpoints.tidy(recorder.folder, number, recipe.checkpoints)
    recorder.add(recorder.record.ended(failed).events[-1])


def finish_from_folder(folder: Path, recipe: Recipe) -> bool:
    """Finish a run all of whose tasks are learned, without its data; whether it is one.

    Only the first process of a run calls this.

    Raises:
        ClbenchError: if its record or checkpoint is damaged, or its weights are gone.
    """
    if not (folder / "record.jsonl").exists():
        return False
    record, numbers = Record.load(folder), checkpoints.numbers(folder)
    if record.finished:
        compare_recipe(record, recipe)
        if absent := missing(folder):
            say(f"The run in {folder} is finished but lacks {', '.join(absent)}: made again.")
            _make_again(record)
        else:
            say(f"The run in {folder} is already finished.")
        return True
    if not numbers:
        return False
    parts = ("done", "stages", "step", "shown", "record_sha256")
    checkpoint = checkpoints.load(folder, numbers[-1], parts)
    if not record.tasks or checkpoint.get("done", 0) != checkpoint.get("stages"):
        return False
    whole(folder, numbers[-1], checkpoint, {"step", "shown"})
    compare_recipe(record, recipe)
    say(f"All tasks in {folder} are learned: the run ends.")
    events = take_up(record, record.tasks[-1].task, checkpoint)
    to = Loggers(folder, recipe, checkpoint["done"])
    finish(Recorder(folder, events), numbers[-1], recipe, checkpoint["shown"], to)
    return True


def _make_again(record: Record) -> None:
    """Make what a finished run left behind from its record and its last checkpoint."""
    folder = record.folder
    numbers = checkpoints.numbers(folder)
    if numbers and WEIGHTS in missing(folder):
        outputs.export(record, state_of(folder, numbers[-1], ("shown",), set())["shown"])
    outputs.write(record)
    if not (folder / WEIGHTS).exists():
        raise ClbenchError(
            f"the weights of the finished run in {folder} are gone, {WEIGHTS} and checkpoints: "
            "its scores are there; for its weights, run again into another folder"
        )
    outputs.write_loader(record)
