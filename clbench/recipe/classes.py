"""The classes that a recipe is read by: its sections, and those of what it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from clbench.errors import ClbenchError, shown
from clbench.explain import explain_all
from clbench.plugins.recipes import completed
from clbench.text.plain import check_plain

_Recipe = TypeVar("_Recipe", bound=BaseModel)
#: Fields of a recipe whose keys are measures.
OF_MEASURES = ("retention.measures", "representation.measures")


@final
@dataclass(frozen=True)
class RecipeClasses(Generic[_Recipe]):
    """The recipe, and by name what it chooses among.

    Attributes:
        recipe: the recipe itself.
        streams, methods, loggers, measures: the settings of each.
        metrics: those that have none.
    """

    recipe: type[_Recipe]
    streams: Mapping[str, type[BaseModel]]
    methods: Mapping[str, type[BaseModel]]
    loggers: Mapping[str, type[BaseModel]]
    measures: Mapping[str, type[BaseModel]]
    metrics: Mapping[str, Any]

    def under(self, key: str) -> Mapping[str, type[BaseModel]]:
        """By name, the settings that stand under a key of the recipe; none under most.

        Those of streams, whose name is a field, are under the key itself.
        """
        if key in OF_MEASURES:
            return self.measures
        return {"methods": self.methods, "loggers": self.loggers}.get(key, {})

    def keys(self) -> Iterator[str]:
        """All dotted keys that a recipe can have, those of every stream and method included."""
        for key, _ in fields(self.recipe):
            yield key
            for kind in self.streams.values() if key == "stream" else ():
                yield from (f"stream.{name}" for name in kind.model_fields)
            for row, kind in self.under(key).items():
                yield from (f"{key}.{row}.{name}" for name in kind.model_fields)

    def owners(self, field: str, about: str | None = None) -> list[str]:
        """Streams that have a field, such as ``classes``; none if all have it.

        Args:
            field: its name.
            about: its description, where fields of one name differ.
        """
        having = [
            name
            for name, cls in self.streams.items()
            if field in cls.model_fields and about in (None, cls.model_fields[field].description)
        ]
        if len(having) == len(self.streams):
            return []
        split = [name for name in self.streams if name.startswith("split_")]
        if set(split) <= set(having):
            return ["split_*", *(name for name in having if name not in split)]
        return having

    def read(self, values: Mapping[str, Any]) -> _Recipe:
        """A recipe from plain values; plugins that it names must be loaded.

        Args:
            values: as read from YAML.

        Raises:
            ClbenchError: one line naming the key, the value, the reason and the way out.
        """
        if not isinstance(values, Mapping):
            raise ClbenchError(f"a recipe must be a mapping of keys to values, got {shown(values)}")
        check_plain(values)
        try:
            return self.recipe.model_validate(completed(values))
        except ValidationError as error:
            told = explain_all(error.errors(), list(self.keys()), self.owners)
            raise ClbenchError(told) from error


def fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """The dotted keys of a section and of the sections in it, with their fields."""
    for name, info in section.model_fields.items():
        yield prefix + name, info
        inner = info.annotation
        # The stream's own fields are those of its class.
        if name != "stream" and isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name}.")
