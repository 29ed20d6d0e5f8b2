"""All loggers of a run as one: TensorBoard's file, and Lightning's own loggers beside it.

The record holds all that was measured; whoever else hears of it may fail without harm. A logger
that cannot be reached or fails on the way is said in a line, once, and left out from there on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from torch import Tensor

from clbench.errors import ClbenchError, reason
from clbench.files.disk import to_json, write_atomic
from clbench.measure.board import StreamLogger, final_scores, hyperparameters
from clbench.processes.processes import is_first, say
from clbench.recipe.recipe import Recipe
from clbench.recipe.redacting import Redactor, own_names
from clbench.record.loggers import RunLogger
from clbench.record.record import Record
from clbench.text.textfile import read_file
from clbench.text.yamltext import dump, read_text

#: Where a run keeps what it is called by its loggers, to go on in the same place.
IDENTITIES = "loggers.json"


def check_loggers(recipe: Recipe) -> None:
    """Refuse loggers that can be known not to work, before the run begins.

    Raises:
        ClbenchError: naming the logger and the way out.
    """
    for name, rules in recipe.loggers.items():
        rules.check(name)


class Loggers(Logger):
    """The loggers of a recipe, through all Trainers of a run.

    Args:
        folder: the run folder.
        recipe: names the loggers.
        done: finished tasks; what was logged after the last one, of a run that was cut off, goes
            where a logger can forget.
    """

    def __init__(self, folder: Path, recipe: Recipe, done: int = 0) -> None:
        super().__init__()
        self.folder, self.recipe, self.done = folder, recipe, done
        given = dict(recipe.loggers)
        self.board = StreamLogger(folder, done) if given.pop("tensorboard", None) else None
        self.others = [_Other(name, rules, self) for name, rules in given.items() if is_first()]

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """A run has one."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add scalars."""
        if self.board:
            self.board.log_metrics(metrics, step)
        self._tell(lambda other, logger: logger.log_metrics(dict(metrics), step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: a task's Trainer does not know the run's settings."""

    def log_histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Add a histogram, which TensorBoard alone shows."""
        if self.board:
            self.board.log_histogram(tag, values, step)

    def log_results(self, recipe: Recipe, record: Record) -> None:
        """Add what a stream's end brings: final scores, the recipe, pictures and files."""
        if self.board:
            self.board.log_results(recipe, record)
        if not self.others:
            return
        scores, step = final_scores(record), record.tasks[-1].last_step
        pictures = sorted(self.folder.glob("*.png"))
        redactor = Redactor(own_names())
        text = redactor.recipe(dump(recipe.model_dump(mode="json")))
        values, lines = read_text(text, "config.yaml"), "".join(e.text for e in record.events)
        texts = {
            "record.jsonl": redactor.record(lines.encode()).decode(),
            "config.yaml": text,
            "summary.json": to_json(record.summary(), indent=1),
        }

        def tell(other: RunLogger, logger: Logger) -> None:
            logger.log_metrics(scores, step)
            other.recipe(logger, values)
            for path in pictures:
                other.picture(logger, path.stem, path, step)
            other.files(logger, texts)

        self._tell(tell)

    def save(self) -> None:
        """Write everything logged so far.

        Raises:
            OSError: if the disk is full, for TensorBoard's file.
        """
        if self.board:
            self.board.save()
        self._tell(lambda other, logger: logger.save(), begin=False)

    def sync(self) -> None:
        """Have what TensorBoard's file holds on the disk, as :meth:`StreamLogger.sync`."""
        if self.board:
            self.board.sync()

    def finalize(self, status: str) -> None:
        """Called at the end of each Trainer; :meth:`close` ends the stream."""
        if self.board:
            self.board.finalize(status)
        if status != "success":
            self._end(status)

    def close(self) -> None:
        """Write what is left."""
        if self.board:
            self.board.close()
        self._end("success")

    def _end(self, status: str) -> None:
        self._tell(lambda other, logger: other.end(logger, status), begin=False)
        self.others = []

    def _tell(self, act: Callable[[RunLogger, Logger], None], begin: bool = True) -> None:
        for other in self.others:
            other.tell(act, begin)


class _Other:
    """One of Lightning's loggers, made when it first has something to log.

    Args:
        name: in the recipe.
        rules: its settings.
        of: the run's.
    """

    def __init__(self, name: str, rules: RunLogger, of: Loggers) -> None:
        self.name, self.rules, self.run = name, rules, of
        self.logger: Logger | None = None
        self.lost = False

    def tell(self, act: Callable[[RunLogger, Logger], None], begin: bool) -> None:
        """Have the logger do something.

        Args:
            act: what.
            begin: whether it is made if it has logged nothing yet.
        """
        if self.lost or (self.logger is None and not begin):
            return
        try:
            if self.logger is None:
                self.logger = self._begin()
            act(self.rules, self.logger)
        except Exception as error:  # a server, a network, a disk, each in words of its own
            self.lost = True
            say(
                f"loggers.{self.name} is left out from here on, and the run goes on "
                f"({type(error).__name__}: {reason(error)[:300]}); record.jsonl has everything"
            )

    def _begin(self) -> Logger:
        run = self.run
        known = _identities(run.folder)
        logger = self.rules.make(run.folder, run.recipe.title, run.done, known.get(self.name))
        assert logger is not None
        identity = self.rules.identity(logger)
        if identity is not None and identity != known.get(self.name):
            text = json.dumps(known | {self.name: identity}, indent=1)
            write_atomic(run.folder / IDENTITIES, text)
        told = Redactor(own_names()).values(hyperparameters(run.recipe))
        logger.log_hyperparams(told)  # may fail; the run there has begun
        return logger


def _identities(folder: Path) -> dict[str, str]:
    """What a run is called by its loggers, as far as it is what a run writes."""
    path = folder / IDENTITIES
    try:
        found = json.loads(read_file(path)) if path.exists() else {}
    except (ClbenchError, ValueError, RecursionError):
        return {}
    return {
        name: value
        for name, value in (found.items() if isinstance(found, dict) else ())
        if isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value)
    }
