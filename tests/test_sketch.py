"""The outline of the recipe's classes is what they say, and refuses in their words.

python tests/test_sketch.py         writes clbench/recipe/sketch.json anew
"""

import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from clbench.cli.data import needed
from clbench.cli.listing import listed
from clbench.cli.words import takes, value_of
from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.metrics import METRICS
from clbench.metrics.retained import MEASURES
from clbench.plugins import loading
from clbench.recipe import known
from clbench.recipe.classes import RecipeClasses, fields
from clbench.recipe.merging import merge
from clbench.recipe.recipe import CLASSES, Recipe
from clbench.recipe.sketch import PLACE, shape, sketch
from clbench.recipe.yamlfile import nested, read, read_mapping
from clbench.settings import kinds
from clbench.streams import STREAMS
from clbench.sweep.values import parameters

CONFIGS = Path(__file__).parents[1] / "configs"


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
    default = list(default) if isinstance(default, tuple) else default
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


def told(classes: RecipeClasses[Any], values: Mapping[str, Any]) -> str | None:
    """How values are refused; None if they are not."""
    try:
        classes.read(values)
    except ClbenchError as error:
        return str(error)
    return None


#: Of all kinds: each is wrong for most fields.
VALUES = ("x", 5, -1, 1.5, True, None, [1], {}, {"a": 1}, [["a"]], "", 1e400, "yes", [1, 2], 10**9)


def test_the_outline_refuses_what_the_classes_refuse_and_in_their_words():
    keys, values, told_early = list(CLASSES.keys()), itertools.cycle(VALUES), 0
    assert list(sketch().keys()) == keys
    base = read("default")
    for key, value in zip(keys, values, strict=False):
        over = nested({key: value})
        if key.startswith("stream.") and key != "stream.name":
            name = next(n for n, c in STREAMS.items() if key[7:] in c.model_fields)
            over = merge(over, {"stream": {"name": name}, "model": {"weights": "none"}})
        early = told(sketch(), merge(base, over))
        if early is not None:
            late = told(CLASSES, merge(base, over))
            # Of several mistakes, the outline may see some alone.
            assert late is not None, (key, early)
            assert all(part in late for part in early.split("; ")), key
            told_early += 1
    assert told_early > len(keys) // 3


def test_words_of_the_command_line_mean_the_same():
    of_both = [
        [*fields(classes.recipe), *itertools.chain.from_iterable(map(fields, rows))]
        for classes in (CLASSES, sketch())
        for rows in [[*classes.streams.values(), *classes.methods.values()]]
    ]
    for (key, info), (same, outline) in zip(*of_both, strict=True):
        assert key == same
        for words in (["a"], ["[a]"], ["a", "b"], [""], ["1"], ["true"], ["{"]):
            meant = []
            for annotation in (info.annotation, outline.annotation):
                try:
                    meant.append(value_of(f"--{key}", words, [annotation]))
                except ClbenchError as error:
                    meant.append(str(error))
            assert meant[0] == meant[1], (key, words)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_fit_the_outline(path):
    assert told(sketch(), read_mapping(path)) is None


def test_the_outline_stands_aside_for_plugins_and_for_torch(monkeypatch):
    assert not known.is_early()  # tests have imported torch
    monkeypatch.delitem(sys.modules, "torch")
    assert known.is_early()
    assert known.classes() is sketch()
    monkeypatch.setitem(loading.LOADED, "a.py", loading.Plugin("a.py", Path("a.py"), ""))
    assert not known.is_early()


if __name__ == "__main__":
    PLACE.write_text(written(table()) + "\n", "utf-8")
