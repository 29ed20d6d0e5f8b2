"""What reports know of a recipe's defaults is what the recipe says.

python tests/report/test_defaults.py         writes clbench/report/defaults.json anew
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clbench.methods import METHODS
from clbench.methods.statements import traits
from clbench.metrics.retained import MEASURES as RETAINED
from clbench.recipe.classes import fields
from clbench.recipe.recipe import Recipe
from clbench.record.same_run import flatten
from clbench.report.defaults import PLACE
from clbench.streams import STREAMS


def plain(every: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The defaults of fields, as a run's settings have them."""
    found = dict[str, Any]()
    for key, info in every:
        if not info.is_required():
            value = info.get_default(call_default_factory=True)
            if isinstance(value, dict):  # of rows by name
                rows = value.items()
                value = {n: v.model_dump() if isinstance(v, BaseModel) else v for n, v in rows}
            if not isinstance(value, BaseModel):
                flat = flatten({key: list(value) if isinstance(value, tuple) else value})
                found |= {k: v for k, v in flat.items() if v != "{}"}
    return found


def table() -> dict[str, Any]:
    """Defaults of the recipe and its methods, and of streams; what methods say of themselves."""
    every = list(fields(Recipe))
    for name, method in METHODS.items():
        every += fields(method, f"methods.{name}.")
    made = {
        "recipe": plain(every),
        "streams": {name: plain(fields(cls, "stream.")) for name, cls in STREAMS.items()},
        "measures": {name: plain(fields(cls)) for name, cls in RETAINED.items()},
        "traits": {name: traits(method) for name, method in METHODS.items()},
    }
    return json.loads(json.dumps(made))


def test_defaults_are_those_of_the_recipe():
    assert json.loads(PLACE.read_text()) == table(), f"run python {Path(__file__).name}"


def test_a_report_needs_no_torch_for_them(tmp_path):
    source = PLACE.with_suffix(".py").read_text()
    assert "clbench.methods" not in source
    assert "clbench.recipe.recipe" not in source


if __name__ == "__main__":
    PLACE.write_text(json.dumps(table(), indent=1, ensure_ascii=False) + "\n")
