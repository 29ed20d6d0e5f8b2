"""The loggers of a run beside its record: their settings, and Lightning's own loggers of them."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from clbench.errors import ClbenchError
from clbench.record.logged import FINISHED, no_end, until_task
from clbench.settings import Section
from clbench.text.yamltext import dump

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

#: Seconds that a server has for an answer, and how often it is asked again.
PATIENCE, AGAIN = 10, 1
#: Seconds that W&B has to begin, to log in, and to send the rest.
WANDB_PATIENCE = 30


class RunLogger(Section, ABC):
    """Settings of one logger; abstract. A new kind has :meth:`make`, and the rest where it can."""

    summary: ClassVar[str]
    #: The package that it cannot do without, which is an extra of clbench of the logger's name.
    package: ClassVar[str] = ""
    #: Fields that say where the run is told of: they count only where the user names them.
    addresses: ClassVar[tuple[str, ...]] = ()

    def check(self, name: str) -> None:
        """Refuse settings that can be known not to work, before the run begins.

        Raises:
            ClbenchError: naming the logger's ``name`` and the way out.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            raise ClbenchError(
                f"loggers.{name} needs the package {self.package}, which is not installed: "
                f"pip install 'clbench[{name}]', or leave it out"
            )

    @abstractmethod
    def make(self, folder: Path, title: str, done: int, identity: str | None) -> Logger | None:
        """Lightning's logger.

        Args:
            folder: the run folder.
            title: the run's name.
            done: finished tasks of a run that goes on; what was logged after the last one, whose
                end is :data:`~clbench.record.logged.FINISHED`, is cut off.
            identity: what :meth:`identity` gave before the run was cut off.

        Returns:
            The logger; None for TensorBoard's, which the run writes itself.
        """

    def identity(self, logger: Logger) -> str | None:
        """What the run is called there, so that it goes on in the same place; None: nothing."""
        return None

    def picture(self, logger: Logger, name: str, path: Path, step: int) -> None:
        """Show a PNG file; nothing where the logger cannot."""

    def recipe(self, logger: Logger, values: Mapping[str, Any]) -> None:
        """Take the whole recipe, as plain values; nothing where hyperparameters are all there is.

        Called at the stream's end; ``values`` have no paths of this machine.
        """

    def files(self, logger: Logger, texts: Mapping[str, str]) -> None:
        """Keep text files, by their names, if the user asks for it; nothing where it cannot."""

    def end(self, logger: Logger, status: str) -> None:
        """Called once, with ``success`` or ``failed``."""
        logger.finalize(status)


class TensorBoard(RunLogger):
    """A file for ``tensorboard --logdir``, see :mod:`clbench.measure.board`."""

    summary: ClassVar[str] = "a file in the run folder; histograms and pictures too"

    def make(self, folder: Path, title: str, done: int, identity: str | None) -> None:
        """Nothing: the run writes it itself."""


class CSV(RunLogger):
    """``csv/metrics.csv`` in the run folder: a row for each step at which something was logged."""

    summary: ClassVar[str] = "csv/metrics.csv in the run folder"

    def make(self, folder: Path, title: str, done: int, identity: str | None) -> Logger:
        """Lightning's, with the rows of finished tasks of a run that goes on."""
        from lightning.pytorch.loggers import CSVLogger

        from clbench.processes.processes import say  # takes along torch

        path = folder / "csv" / "metrics.csv"
        rows = _whole_rows(path) if done and path.is_file() else []
        kept, found = until_task(done, ((row, row.get(FINISHED) == str(done)) for row in rows))
        if not found:
            reached = max((int(row["step"]) for row in kept), default=0)
            say(no_end(str(path), done, reached))
            kept.append({FINISHED: done, "step": reached})  # to cut there the next time
        logger = CSVLogger(folder, name="", version="csv")
        with warnings.catch_warnings():  # it takes the old file away, whose rows are kept here
            warnings.simplefilter("ignore")
            logger.experiment.metrics += kept
            logger.save()
        return logger


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file, without any that a kill has left in part."""
    text = path.read_text("utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    whole = [row for row in rows if None not in row and None not in row.values()]
    return [
        {key: value for key, value in row.items() if value}
        for row in whole
        if row.get("step", "").isdecimal()
    ]


class Wandb(RunLogger):
    """Weights & Biases; offline, its files are in the run folder, for ``wandb sync``."""

    summary: ClassVar[str] = "Weights & Biases; needs the extra clbench[wandb]"
    package: ClassVar[str] = "wandb"

    project: str = Field("clbench", description="W&B's project")
    entity: str | None = Field(None, description="W&B's team or user; default: your own")
    group: str | None = Field(None, description="what W&B groups the run under")
    tags: tuple[str, ...] = Field((), description="W&B's tags of the run")
    offline: bool = Field(False, description="only write files, for `wandb sync` later")
    artifact: bool = Field(
        False, description="send record.jsonl, config.yaml and summary.json as an artifact"
    )

    def make(self, folder: Path, title: str, done: int, identity: str | None) -> Logger:
        """Lightning's; a run that goes on has its id again."""
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(
            name=title,
            save_dir=folder,
            version=identity or secrets.token_hex(4),
            project=self.project,
            offline=self.offline,
            entity=self.entity,
            group=self.group,
            tags=list(self.tags),
            settings={
                "console": "off",  # what is printed is the terminal's
                "init_timeout": WANDB_PATIENCE,
                "login_timeout": WANDB_PATIENCE,
                "finish_timeout": WANDB_PATIENCE,
                "finish_timeout_raises": False,
            },
        )

    def identity(self, logger: Logger) -> str | None:
        """The run's id."""
        return str(logger.version)

    def picture(self, logger: Any, name: str, path: Path, step: int) -> None:
        """As an image."""
        logger.log_image(name, [str(path)], step)

    def recipe(self, logger: Any, values: Mapping[str, Any]) -> None:
        """As ``recipe`` in the run's config, nested, beside the hyperparameters."""
        logger.experiment.config.update({"recipe": dict(values)}, allow_val_change=True)

    def files(self, logger: Any, texts: Mapping[str, str]) -> None:
        """As one artifact of the type ``run``."""
        if not self.artifact:
            return
        import wandb

        made = wandb.Artifact(f"run-{logger.version}", type="run")
        for name, text in texts.items():
            with made.new_file(name, mode="w", encoding="utf-8") as file:
                file.write(text)
        logger.experiment.log_artifact(made)

    def end(self, logger: Any, status: str) -> None:
        """Send the rest."""
        logger.experiment.finish(exit_code=int(status != "success"))


class MLflow(RunLogger):
    """An MLflow tracking server."""

    summary: ClassVar[str] = "an MLflow tracking server; needs the extra clbench[mlflow]"
    package: ClassVar[str] = "mlflow"
    addresses: ClassVar[tuple[str, ...]] = ("tracking_uri",)

    tracking_uri: str | None = Field(
        None,
        description="where the server is, such as http://127.0.0.1:5000; default: what "
        "MLFLOW_TRACKING_URI says",
    )
    experiment: str = Field("clbench", description="MLflow's experiment")
    tags: dict[str, str] = Field(default_factory=dict, description="MLflow's tags of the run")
    artifact: bool = Field(
        False, description="send record.jsonl and summary.json as artifacts, beside the pictures"
    )

    def check(self, name: str) -> None:
        """Refuse to guess where the server is."""
        super().check(name)
        if not (self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")):
            raise ClbenchError(
                f"loggers.{name}: nothing says where the server is: give loggers.{name}."
                "tracking_uri, such as http://127.0.0.1:5000, or set MLFLOW_TRACKING_URI"
            )

    def make(self, folder: Path, title: str, done: int, identity: str | None) -> Logger:
        """Lightning's; a run that goes on has its id again."""
        # MLflow would ask for minutes before it says that nobody is there.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(AGAIN))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(
            experiment_name=self.experiment,
            run_name=title,
            tracking_uri=self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"),
            tags=dict(self.tags),
            run_id=identity,
        )

    def identity(self, logger: Any) -> str | None:
        """The run's id, which the server has given."""
        return str(logger.run_id)

    def picture(self, logger: Any, name: str, path: Path, step: int) -> None:
        """As an artifact."""
        logger.experiment.log_artifact(logger.run_id, str(path))

    def recipe(self, logger: Any, values: Mapping[str, Any]) -> None:
        """As the artifact ``config.yaml``: of a run that goes on, no parameter can change."""
        logger.experiment.log_text(logger.run_id, dump(values), "config.yaml")

    def files(self, logger: Any, texts: Mapping[str, str]) -> None:
        """As artifacts."""
        for name, text in texts.items() if self.artifact else ():
            if name != "config.yaml":  # is there
                logger.experiment.log_text(logger.run_id, text, name)


#: By name in recipes; plugins bring theirs into the same table.
LOGGERS: dict[str, type[RunLogger]] = {
    "tensorboard": TensorBoard,
    "csv": CSV,
    "wandb": Wandb,
    "mlflow": MLflow,
}
