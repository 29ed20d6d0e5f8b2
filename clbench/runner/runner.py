"""A run from its recipe to a finished folder: the folder, the processes, and what may stop it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clbench.errors import ClbenchError
from clbench.files.disk import writing_to
from clbench.machine import keep_freed_memory
from clbench.plugins.recipes import admitted
from clbench.processes.processes import is_first, say
from clbench.processes.rollcall import Chosen, RollCall
from clbench.recipe.recipe import Recipe, parse
from clbench.record import checkpoints, trust
from clbench.report.run_view import RunView
from clbench.runner import folder as run_folder
from clbench.runner import outputs, screen
from clbench.runner.compiling import step_trial_of
from clbench.runner.finish import finish_from_folder
from clbench.runner.identity import IDENTITY, last_checkpoint
from clbench.runner.meeting import meet
from clbench.runner.setup import Setup
from clbench.runner.tasks import Run as Run


def run(
    recipe: Recipe | Mapping[str, Any], output: Path | str | None = None, resume: bool = False
) -> RunView:
    """Run a stream from beginning to end.

    Args:
        recipe: a recipe, or its values as read from YAML, whose plugins are loaded.
        output: the run folder; default: a free one under ``runs/``.
        resume: go on from the last finished task of the run in that folder.

    Returns:
        The record of the run; on another host than the first one's, where the folder is not, what
        was recorded from there.

    Raises:
        ClbenchError: for anything the user can mend.
    """
    recipe = recipe if isinstance(recipe, Recipe) else parse(admitted(recipe))
    place = Path(output) if output is not None else None
    together = meet(recipe)
    with _going_on() as at, together.watch(), ExitStack() as held:
        chosen = together.agree(lambda: _choose(recipe, place, resume, held, at))
        made = None if chosen.over else _go(recipe, chosen, together)
        folder = chosen.folder
        if recipe.checkpoints == "none" and is_first():
            checkpoints.remove(folder)
    if not is_first() and not (folder / "record.jsonl").exists():  # it is on another host
        return RunView(folder, made.recorder.record.events if made is not None else ())
    record = RunView.load(folder)
    if is_first():
        outputs.attempt("The table of results", lambda: screen.show(record))
    return record


def _choose(
    recipe: Recipe, place: Path | None, resume: bool, held: ExitStack, at: list[Path]
) -> Chosen:
    """What the first process decides for all; ``at`` gets the folder."""
    folder, resume = run_folder.take(recipe, place, resume, held)
    if resume and (folder / "record.jsonl").exists():
        trust.whole_record(folder)  # it may be anybody's; with a broken one nothing goes on
    at.append(folder)
    with _kept(folder):
        return Chosen(folder, resume, resume and finish_from_folder(folder, recipe))


def _go(recipe: Recipe, chosen: Chosen, together: RollCall) -> Run:
    with _kept(chosen.folder):
        together.start_others()
        keep_freed_memory()
        try:
            checkpoint = last_checkpoint(chosen.folder) if chosen.resume else None
            done = checkpoint["done"] if checkpoint else 0
            trial = step_trial_of(chosen.folder) if checkpoint else None
            setup = Setup.of(recipe, chosen.folder, done, tries=True, step_trial=trial)
            if together.world > 1:
                own = {IDENTITY[key]: value for key, value in setup.identity().items()}
                last = checkpoint and [checkpoint["done"], checkpoint.get("record_sha256")]
                together.compare(own | {"checkpoint": last}, recipe.process_timeout)
            made = Run(setup, chosen.folder, checkpoint)
            made.go()
            return made
        except ClbenchError:
            if is_first() and not chosen.resume:
                run_folder.give_back(chosen.folder)
            raise


def _kept(folder: Path) -> AbstractContextManager[None]:
    """Turns what the disk refuses into one line."""
    return writing_to(folder, f"go on with --resume --output {folder}")


@contextmanager
def _going_on() -> Iterator[list[Path]]:
    """Says how to go on where a run stops, once it is known why, in the folder that it was given.

    A process that another one's end has reached as an error may have been stopped, too.
    """
    at: list[Path] = []
    try:
        yield at
    except BaseException as error:
        for folder in at:
            if isinstance(error, KeyboardInterrupt) or (folder / "checkpoints").is_dir():
                say(f"Stopped. Finished tasks are kept; go on with --resume --output {folder}")
        raise
