"""Files of the user's that methods' settings name, and a run cannot do without.

A field says so by its type::

    data: Annotated[str, OwnFiles("give a folder of images of any kind", folder=True)]

A recipe with such a method is read wherever it is; a run stops before it begins, and a suite with
``--skip_missing`` does without, as with data sets that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clbench.data.words import expanded
from clbench.errors import ClbenchError
from clbench.methods import name_of
from clbench.streams.outline import Missing

if TYPE_CHECKING:
    from clbench.methods.base import Method


@dataclass(frozen=True)
class OwnFiles:
    """That a field's value is the path of a file, or of a folder of files.

    Attributes:
        folder: whether it is a folder.
        how: how to get one.
    """

    how: str
    folder: bool = False


class Methodical(Protocol):
    """A recipe, as far as its methods go."""

    def all_methods(self) -> list[Method]:
        """Those of all tasks."""


def missing_files(recipe: Methodical) -> Iterator[Missing]:
    """What the settings of a recipe's methods name and this machine has not."""
    told = set[str]()
    for method in recipe.all_methods():
        for field, info in type(method).model_fields.items():
            for own in (about for about in info.metadata if isinstance(about, OwnFiles)):
                path = expanded(Path(getattr(method, field)))
                if str(path) not in told and not (path.is_dir() if own.folder else path.is_file()):
                    told.add(str(path))
                    kind = "folder" if own.folder else "file"
                    how = f"{path} is no {kind}: {own.how}"
                    yield Missing(f"methods.{name_of(method)}.{field}", how, False)


def refuse_missing(recipe: Methodical) -> None:
    """Stop where something is missing.

    Raises:
        ClbenchError: naming it, and how to get it.
    """
    for missing in missing_files(recipe):
        raise ClbenchError(f"{missing.what}: {missing.how}")
