"""The outline of the recipe's classes is what they say, and refuses in their words.

python tests/test_sketch.py         writes clbench/recipe/sketch.json anew
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from clbench.cli.data import needed
from clbench.cli.listing import listed
from clbench.cli.words import takes
from clbench.methods import METHODS
from clbench.metrics import METRICS
from clbench.metrics.retained import MEASURES
from clbench.recipe.recipe import Recipe
from clbench.recipe.sketch import PLACE, shape
from clbench.settings import kinds
from clbench.streams import STREAMS
from clbench.sweep.values import parameters


def described(cls: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """What the file has of a class: its fields by name."""
    rules = cls.__pydantic_decorators__
    before = any(rule.info.mode == "before" for rule in rules.model_validators.values())
    coded = {
        field
        for rule in rules.field_validators.values()
        if rule.info.mode != "after"
        for field in rule.info.fields
    }
    return {
        name: field(info, not before, name not in coded) for name, info in cls.model_fields.items()
    }


def field(info: Any, needed: bool, plain: bool) -> dict[str, Any]:
    """What the file has of a field; ``needed``, ``plain``: nothing is put in or changed first."""
    kind, said = info.annotation, dict[str, Any]()
    if info.description is not None:
        said["about"] = info.description
    default = info.default  # as it stands in the help
    if default not in (None, PydanticUndefined):
        said["default"] = str(default).lower() if isinstance(default, bool) else str(default)
    if info.is_required() and needed:
        said["required"] = True
    if plain and isinstance(kind, type) and issubclass(kind, BaseModel):
        return said | {"section": described(kind)}
    types = sorted(one.__name__ for one in kinds(kind))
    if types:
        lists = takes(kind, list, tuple)
        forms = {"one": not lists or takes(kind, str, Path), "list": lists}
        forms["null"] = takes(kind, type(None))
        said |= {"types": types, "takes": [form for form, there in forms.items() if there]}
    if plain and not info.metadata and types and alike(shape(types, said["takes"]), kind):
        said["plain"] = True
    elif plain and (schema := validation(info)) is not None:
        said["schema"] = schema
    return said


def alike(one: Any, other: Any) -> bool:
    """Whether two types are the same, and in the same order."""
    parts = get_args(one)
    if not parts or not get_args(other):
        return one is other
    bare = (get_origin(other) in (Union, UnionType)) == (get_origin(one) is Union)
    return bare and len(parts) == len(get_args(other)) and all(map(alike, parts, get_args(other)))


def validation(info: Any) -> Any:
    """How pydantic validates a field; None where it takes code."""
    kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    try:
        return bare(TypeAdapter(kind, config=None).core_schema)
    except TypeError:
        return None


def bare(schema: Any) -> Any:
    """A schema without what pydantic notes for itself.

    Raises:
        TypeError: if code is in it.
    """
    if isinstance(schema, Mapping):
        return {key: bare(value) for key, value in schema.items() if key != "metadata"}
    if isinstance(schema, list | tuple):
        return [bare(one) for one in schema]
    if isinstance(schema, str | int | float | None):
        return schema
    raise TypeError(schema)


def table() -> dict[str, Any]:
    """All of the file."""
    streams = {name: cls.__name__ for name, cls in STREAMS.items()}
    made = {
        "recipe": described(Recipe),
        "streams": streams,
        "kinds": {cls.__name__: described(cls) for cls in STREAMS.values()},
        "methods": {name: described(cls) for name, cls in METHODS.items()},
        "measures": {name: described(cls) for name, cls in MEASURES.items()},
        "metrics": list(METRICS),
        "listed": listed(),
        "data": needed(),
        "swept": parameters(),
    }
    return json.loads(json.dumps(made))


def written(made: Any, pad: str = "") -> str:
    """JSON with a line for each field."""
    if not isinstance(made, dict) or ("about" in made and "section" not in made):
        return json.dumps(made, ensure_ascii=False)
    rows = [f"{pad} {json.dumps(key)}: {written(value, pad + ' ')}" for key, value in made.items()]
    return "{\n" + ",\n".join(rows) + f"\n{pad}}}" if rows else "{}"


def test_the_file_says_what_the_classes_say():
    assert json.loads(PLACE.read_text("utf-8")) == table(), "run python tests/test_sketch.py"


if __name__ == "__main__":
    PLACE.write_text(written(table()) + "\n", "utf-8")
