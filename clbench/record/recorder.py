"""What writes the record of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from clbench.files.disk import append, sync_file, write_atomic
from clbench.record.events import Event
from clbench.record.record import Record


class Recorder:
    """Appends events to ``record.jsonl``, each whole or not at all.

    Args:
        folder: the run folder.
        keep: events of an interrupted run to go on from.
        writes: whether this process writes; of several, only the first does.
    """

    def __init__(self, folder: Path, keep: Sequence[Event] = (), writes: bool = True) -> None:
        self.folder, self.path, self.writes = folder, folder / "record.jsonl", writes
        self.events = list(keep)
        lines = "".join(event.text for event in keep)
        self._sha256 = hashlib.sha256(lines.encode())
        if writes:
            write_atomic(self.path, lines)

    @property
    def record(self) -> Record:
        """What was recorded so far."""
        return Record(self.folder, tuple(self.events))

    @property
    def sha256(self) -> str:
        """SHA-256 of what was recorded so far."""
        return self._sha256.hexdigest()

    def add(self, event: Event, wait: bool = True) -> None:
        """Append one event.

        Args:
            event: what happened.
            wait: until it is on the disk; without, :meth:`sync` does.
        """
        self.events.append(event)
        self._sha256.update(event.text.encode())
        if self.writes:
            append(self.path, event.text, wait)

    def sync(self) -> None:
        """Have all that was added so far on the disk."""
        if self.writes:
            sync_file(self.path)


def lines_sha256(events: Sequence[Event]) -> str:
    """SHA-256 of the lines of some events."""
    return hashlib.sha256("".join(event.text for event in events).encode()).hexdigest()
