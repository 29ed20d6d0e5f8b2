"""The recipe's classes in outline, without torch: keys, help, types and names, kept in a file.

Torch, timm and Lightning take seconds to import. ``sketch.json`` has what the classes of recipes
say, so that help and most mistakes need none of them. Whatever it refuses, the classes refuse in
the same words: pydantic reads both, by validators that the file has as pydantic writes them. Fields
whose validators are code are not looked at here, and what fits is read by the classes as ever.

``python tests/test_sketch.py`` writes the file anew; a test holds it to the classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Union, final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, create_model
from pydantic_core import CoreSchema

from clbench import LateTable
from clbench.recipe.classes import OF_MEASURES, RecipeClasses
from clbench.recipe.named import (
    loggers_by_name,
    measures_by_name,
    methods_by_name,
    metrics_by_name,
    stream_by_name,
)
from clbench.recipe.trainer_arguments import check_known
from clbench.record.loggers import LOGGERS
from clbench.settings import Section

PLACE = Path(__file__).with_name("sketch.json")
#: Types of scalars by the file's words for them, see :func:`clbench.settings.kinds`.
TYPES: Mapping[str, Any] = {
    **{kind.__name__: kind for kind in (bool, int, float, str, Path, NoneType)},
    "object": Any,
}


@cache
def table() -> dict[str, Any]:
    """What the file says."""
    return json.loads(PLACE.read_text("utf-8"))  # type: ignore[no-any-return]


@cache
def sketch() -> RecipeClasses[Any]:
    """The classes in outline."""
    said = table()
    kinds = LateTable(said["kinds"], _model)
    streams = LateTable(said["streams"], lambda _, kind: kinds[kind])
    methods, measures = (LateTable(said[name], _model) for name in ("methods", "measures"))
    metrics = dict.fromkeys(said["metrics"])
    readers: dict[str, Any] = {
        "stream": PlainValidator(partial(stream_by_name, table=streams)),
        "methods": PlainValidator(partial(methods_by_name, table=methods, base=BaseModel)),
        "loggers": PlainValidator(partial(loggers_by_name, table=LOGGERS, base=BaseModel)),
        "trainer": BeforeValidator(check_known),
        "metrics": AfterValidator(partial(metrics_by_name, table=metrics)),
        **dict.fromkeys(
            OF_MEASURES, PlainValidator(partial(measures_by_name, table=measures, base=BaseModel))
        ),
    }
    recipe = _model("Recipe", said["recipe"], readers)
    return RecipeClasses(recipe, streams, methods, LOGGERS, measures, metrics)


@final
@dataclass(frozen=True, eq=False)
class _Kept:
    """Validation as pydantic has written it."""

    schema: CoreSchema

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return self.schema


def _model(
    name: str,
    rows: Mapping[str, Any],
    readers: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> type[BaseModel]:
    """A section of the fields that the file has.

    Args:
        name: of the class.
        rows: the fields.
        readers: validators of fields by dotted key, where those are known here.
        prefix: of the section's keys.
    """
    made: dict[str, Any] = {}
    for field, row in rows.items():
        key, default = prefix + field, ... if row.get("required") else row.get("default")
        if "section" in row:
            kind: Any = _model(field, row["section"], readers, f"{key}.")
        else:
            kind = shape(row.get("types", ()), row.get("takes", ()))
            if not row.get("plain"):
                kind = Annotated[kind, _Kept(row.get("schema", {"type": "any"}))]
            if readers and key in readers:
                kind = Annotated[kind, readers[key]]
        made[field] = (kind, Field(default, description=row.get("about")))
    return create_model(name, __base__=Section, **made)


def shape(types: Sequence[str], takes: Sequence[str]) -> Any:
    """A type that takes what a field's own does, as far as the words of a command line go."""
    scalars = tuple(TYPES[one] for one in types if one != NoneType.__name__)
    if not scalars:
        return dict[str, Any] | None if "null" in takes else dict[str, Any]
    inner: Any = Union[scalars]  # noqa: UP007 - of as many as there are
    forms = {"one": inner, "list": list[inner], "null": None}
    return Union[tuple(forms[form] for form in takes)]  # noqa: UP007
