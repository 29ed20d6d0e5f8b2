"""TensorBoard: one file in the run folder, which a run that goes on cuts back to where it starts.

The file is a sequence of events in the order in which they were logged, as ``record.jsonl`` is one
of lines; the last event of a task says how many are finished, and a run that goes on cuts there.
It is written here, and not by a thread of TensorBoard's writer, so that what is in it when a
checkpoint is saved is known, and so that a disk that is full costs a line and not the run.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard import summary

from clbench.errors import reason
from clbench.files.disk import atomic
from clbench.processes.processes import is_first, say
from clbench.recipe.recipe import Recipe
from clbench.record.baselines import PLAIN
from clbench.record.logged import FINISHED, no_end, until_task
from clbench.record.record import SCENARIOS, Record

#: TensorBoard reads files in the order of their names; a clock that is set back would mix them.
NAME = "events.out.tfevents.{:010}.clbench"
#: What a disk says that may have room later.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Bytes, and seconds, after which what was logged is written.
MOST, SECONDS = 1 << 16, 10.0
BINS = 64


class StreamLogger:
    """TensorBoard's file of a whole stream, through all its Trainers.

    Whatever fails here is said in a line, once; events wait until they can be written.

    Args:
        folder: the run folder.
        done: finished tasks; events after the last one's, of a run that was cut off, go.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self.folder, self.done = folder, done
        self._waiting = _Waiting()
        self._file: int | None = None
        self._written = time.monotonic()
        self._synced = True
        self._told = False
        self._full: OSError | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add scalars, as one event."""
        with self._safely():
            self._add(_scalars(metrics), step)

    def log_histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Add a histogram."""
        with self._safely():
            self._add(summary.histogram(tag, values, BINS).value, step)

    def log_results(self, recipe: Recipe, record: Record) -> None:
        """Add what a stream's end brings: the HPARAMS page, final scores, and the pictures."""
        with self._safely():
            scores = final_scores(record)
            values = _scalars(scores)
            for part in summary.hparams(hyperparameters(recipe), scores):
                values += part.value
            for path in sorted(self.folder.glob("*.png")):
                values.append(Summary.Value(tag=path.stem, image=_image(path.read_bytes())))
            self._add(values, record.tasks[-1].last_step)

    def save(self) -> None:
        """Write everything logged so far.

        Raises:
            OSError: if the disk is full. What else goes wrong costs a line.
        """
        self._full = None
        with self._safely():
            self._write()
        if self._full is not None:
            raise self._full

    def sync(self) -> None:
        """Have all that is written on the disk, before a checkpoint says it is there.

        Another thread may go on logging.

        Raises:
            OSError: as for :meth:`save`.
        """
        if self._file is None or self._synced:
            return
        self._synced = True  # what is written from now on waits for the next time
        try:
            os.fsync(self._file)
        except OSError as error:
            self._synced = False
            if error.errno in FULL:
                raise
            self._tell(error)

    def finalize(self, status: str) -> None:
        """Called at the end of each Trainer; :meth:`close` ends the stream."""
        with self._safely():
            self._write()

    def close(self) -> None:
        """Write what is left, and have it on the disk."""
        self.save()
        self.sync()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _add(self, values: Sequence[Any], step: int | None) -> None:
        if not is_first():
            return
        RecordWriter(self._waiting).write(_event(values, step or 0))
        late = time.monotonic() - self._written > SECONDS
        if late or len(self._waiting.data) > MOST:
            self._write()

    def _write(self) -> None:
        if not self._waiting.data:
            return
        self._written = time.monotonic()
        if self._file is None:
            self._file = _begin(self.folder, self.done)
        try:
            while self._waiting.data:  # where only a part found room, the rest waits
                del self._waiting.data[: os.write(self._file, self._waiting.data)]
        finally:  # not before: `sync`, in another thread, would take what is not written for synced
            self._synced = False

    @contextmanager
    def _safely(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                self._full = error
            else:
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            say(
                f"TensorBoard's file in {self.folder} is not complete ({reason(error)[:300]}): "
                "the run goes on, and writes the rest once it can"
            )


class _Waiting:
    """Where records wait to be written."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, record: bytes) -> None:
        self.data += record


def hyperparameters(recipe: Recipe) -> dict[str, str | float | bool]:
    """What the HPARAMS page shows of a recipe: TensorBoard takes words, numbers and truths."""
    values: dict[str, Any] = {
        "stream": recipe.stream.name,
        "methods": " + ".join(map(_told, recipe.methods.items())) or PLAIN,
        "seed": recipe.seed,
        "backbone": recipe.model.backbone,
        "weights": recipe.model.weights,
        "image_size": recipe.images.size,
        "epochs": recipe.epochs,
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "schedule": recipe.schedule.name,
    }
    for name, section in (("optimizer", recipe.optimizer), *recipe.methods.items()):
        values |= {f"{name}.{key}": value for key, value in section.model_dump(mode="json").items()}
    return {
        key: value if isinstance(value, str | int | float) else str(value)
        for key, value in values.items()
        if value is not None
    }


def final_scores(record: Record) -> dict[str, float]:
    """What a stream's end adds to the curves: the scores of ``summary.json``, by its names.

    ``final/<scenario>/<score>`` are those of a scenario, ``final/retention_…`` of the original
    head.
    """
    told = record.summary()
    found = {
        f"final/{scenario}/{name}": value
        for scenario in SCENARIOS
        for name, value in told[scenario].items()
        if isinstance(value, float)
    }
    for name in ("pretrained", "change", "kept"):
        if told["retention"][name] is not None:
            found[f"final/retention_{name}"] = told["retention"][name]
    for name, course in told["retention"].get("measures", {}).items():
        if course["kept"] is not None:
            found[f"final/kept/{name}"] = course["kept"]
    for name, about in told.get("representation", {}).items():
        if about["change"] is not None:
            found[f"final/representation_change/{name}"] = about["change"]
    return found


def _event(values: Sequence[Any], step: int) -> bytes:
    event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
    return event.SerializeToString()


def _scalars(values: Mapping[str, float]) -> list[Summary.Value]:
    return [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in values.items()]


def _image(png: bytes) -> Summary.Image:
    width, height = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
    return Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)


def _told(method: tuple[str, Any]) -> str:
    """A method with the settings that are not its defaults."""
    name, values = method
    changed = values.model_dump(mode="json", exclude_defaults=True)
    return f"{name}({', '.join(f'{k}={v}' for k, v in changed.items())})" if changed else name


def _begin(folder: Path, done: int) -> int:
    """A new file, open, with what is there of the first ``done`` tasks; the old ones go.

    A new name, so that a TensorBoard that is looking on takes notice.
    """
    old = sorted(
        path for path in folder.glob("*events.out.tfevents.*") if not path.name.endswith(".partial")
    )
    number = max(
        (int(n) for path in old for n in re.findall(r"tfevents\.(\d+)", path.name)), default=0
    )
    path = folder / NAME.format(number + 1)
    with atomic(path) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        if old:  # forget what an earlier file said
            start = SessionLog(status=SessionLog.START)
            writer.write(Event(wall_time=time.time(), session_log=start).SerializeToString())
        files = [p for p in old if p.is_file() and not p.is_symlink()] if done else []
        kept, found = until_task(done, _logged(files, done))
        for event in kept:
            writer.write(event)
        reached = 0 if found else max((Event.FromString(event).step for event in kept), default=0)
        if not found:  # to cut there the next time
            writer.write(_event(_scalars({FINISHED: done}), reached))
    for gone in old:
        gone.unlink()
    if not found:
        say(no_end(f"TensorBoard's file in {folder}", done, reached))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _logged(paths: Sequence[Path], done: int) -> list[tuple[bytes, bool]]:
    """The events, as TensorBoard would read them from files one after the other.

    Returns:
        Each event, and whether task ``done`` is finished with it.
    """
    found: list[tuple[int, bytes, bool]] = []
    for path in paths:
        # Only runs that go on read, and this takes along a stand-in for TensorFlow.
        from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            if event.session_log.status == SessionLog.START:
                found = [earlier for earlier in found if earlier[0] < event.step]
            elif event.HasField("summary"):
                values = event.summary.value
                ends = any(v.tag == FINISHED and v.simple_value == done for v in values)
                found.append((event.step, data, ends))
    return [(data, ends) for _, data, ends in found]
