"""What sweeps, soups and rows begin with: a run that is finished. Found without torch."""

from __future__ import annotations

from pathlib import Path

from clbench.errors import ClbenchError
from clbench.files.disk import refuse_links
from clbench.record import trust
from clbench.record.record import Record


def finished_record(folder: Path | str) -> Record:
    """The record of a finished run, whose folder may be worked in.

    Raises:
        ClbenchError: if it is none.
    """
    record = trust.whole_record(Path(folder))
    if not record.finished:
        raise ClbenchError(
            f"{folder} is not finished: go on with `train.py --resume --output {folder}` first"
        )
    refuse_links(record.folder)
    return record
