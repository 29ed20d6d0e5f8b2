"""What is sent of a finished run: files by name, and what was taken out of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clbench.errors import ClbenchError
from clbench.files.disk import atomic, writing_to
from clbench.recipe.redacting import Redactor, own_names
from clbench.record import trust
from clbench.record.lines import events
from clbench.record.record import Record
from clbench.runner.products import WEIGHTS
from clbench.sharing.card import UNKNOWN, card
from clbench.sharing.timm_config import network_of, start_weights, timm_config
from clbench.sweep.finished import finished_record
from clbench.text.yamltext import dump, read_text

CARD, CONFIG, RECIPE, RECORD = "README.md", "config.json", "config.yaml", "record.jsonl"
#: What the card shows, if it is there.
PICTURE: Final = "accuracy_matrix.png"
#: What the hub calls licences by.
_LICENSE = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")


@dataclass(frozen=True)
class Upload:
    """What is to be in one commit.

    Attributes:
        repository: ``user/name``.
        private: whether only its owner sees it.
        license: of the weights, as the hub calls it.
        files: what is in each, or which file it is, by its name there.
        taken_out: what the record and the recipe are without, each a line.
    """

    repository: str
    private: bool
    license: str
    files: Mapping[str, bytes | Path]
    taken_out: Sequence[str]

    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }

    def write(self, folder: Path) -> None:
        """Write all files into a folder that is new or empty.

        Raises:
            ClbenchError: if it is neither, or the disk refuses.
        """
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or os.listdir(folder))):
            raise ClbenchError(f"--output {folder} is there already: name a new folder")
        with writing_to(folder, "push again"):
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                with atomic(folder / name) as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        with content.open("rb") as opened:
                            shutil.copyfileobj(opened, file)


def upload_of(
    folder: Path, repository: str, private: bool = False, license: str = UNKNOWN
) -> Upload:
    """What is sent of a finished run; nothing is sent yet.

    Args:
        folder: of the run.
        repository: ``user/name``, where it will be.
        private: whether only its owner will see it.
        license: of the weights, as the hub calls it.

    Raises:
        ClbenchError: if it is no finished run with its weights, or one whose network timm's
            loader cannot make; or for a licence that is no name.
    """
    if not _LICENSE.fullmatch(license):
        raise ClbenchError(
            f"--license {license!r:.100} is no name of the hub's: write one such as apache-2.0"
        )
    record = finished_record(folder)
    if not (folder / WEIGHTS).is_file():
        raise ClbenchError(
            f"{folder} has no {WEIGHTS}: `train.py --resume --output {folder}` makes it again, "
            "where a checkpoint is left"
        )
    values = trust.config_of(folder, record.run.recipe)
    redactor = Redactor(own_names())
    content = redactor.record("".join(event.text for event in record.events).encode())
    text = redactor.recipe(record.run.recipe or dump(values))
    recipe = read_text(text, RECIPE)
    config = timm_config(record, values)
    start = start_weights(network_of(values))
    pictures = [PICTURE] if (folder / PICTURE).is_file() else []
    about = Record(folder, tuple(events(folder / RECORD, content)))
    readme = card(about, recipe, config, start, repository, license, pictures)
    files: dict[str, bytes | Path] = {
        CARD: readme.encode(),
        CONFIG: json.dumps(redactor.values(config), indent=2, allow_nan=False).encode(),
        WEIGHTS: folder / WEIGHTS,
        RECORD: content,
        RECIPE: text.encode(),
        **{name: folder / name for name in pictures},
    }
    return Upload(repository, private, license, files, list(redactor.lines()))
