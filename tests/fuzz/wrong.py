"""Values that no recipe, suite or Trainer may hold: what takes one has taken nonsense."""

import math
from random import Random
from typing import Any, Literal, get_args, get_origin

from fuzz import odd

#: Of the Trainer's arguments, what Lightning itself would take, or end at in a traceback.
TRAINER: dict[str, tuple[Any, ...]] = {
    "accumulate_grad_batches": (0, -1, 1.5, "2x", None, [2], True),
    "gradient_clip_val": (-1, math.nan, "x", [1], True),
    "gradient_clip_algorithm": ("mean", 1),
    "log_every_n_steps": (-1, 1.5, "x"),
    "precision": ("foo", 8, "bf16-mixd", -32, []),
    "devices": (0, -2, 1.5, "x", {}, [-1], []),
    "num_nodes": (0, -1, 1.5, "x", 2**40),
    "strategy": ("ddp_x", "", 1, []),
    "accelerator": ("gpux", "", 1, [], "tpu"),
    "enable_progress_bar": (2, "x", []),
    "deterministic": ("x", 2, []),
    "benchmark": ("x", 2),
    "detect_anomaly": ("x", 2, None, []),
    "sync_batchnorm": ("x", 2, None),
    "profiler": ("x", 1, []),
    "max_steps": (1, -1),
    "max_epochs": (1,),
    "callbacks": ([], None, "x"),
    "logger": (True, False, "x"),
}


def field(values: dict[str, Any], random: Random) -> None:
    """Put a value into a recipe's field that it cannot hold, whichever field it is."""
    paths = _fields(values)
    path = random.choice(sorted(paths))
    *way, key = path.split(".")
    holder = values
    for step in way:
        if not isinstance(holder.get(step), dict):
            holder[step] = {}
        holder = holder[step]
    if random.random() < 0.25:
        holder[_slip(key, {p.split(".")[-1] for p in paths}, random)] = holder.pop(key, 1)
    else:
        holder[key] = random.choice(paths[path])


def _fields(values: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Fields of the recipe, of its stream and of its methods, and what they cannot hold."""
    from clbench.methods import METHODS
    from clbench.recipe.classes import fields
    from clbench.recipe.recipe import Recipe
    from clbench.streams import STREAMS

    found = {key: _against(info) for key, info in fields(Recipe)}
    kind = STREAMS[values["stream"]["name"]]
    found |= {f"stream.{key}": _against(info) for key, info in kind.model_fields.items()}
    for method in values["methods"]:
        of = METHODS[method].model_fields.items()
        found |= {f"methods.{method}.{key}": _against(info) for key, info in of}
    return {key: against for key, against in found.items() if against}


def _against(info: Any) -> tuple[Any, ...]:
    """What a field of this kind cannot hold."""
    kinds = set(_kinds(info.annotation))
    if kinds & {int, float} and not kinds & {str, list, tuple, dict}:
        wrong: tuple[Any, ...] = (-3, math.nan, -math.inf, "x", [[1]], {"a": 1}, "1,5", "-1e400")
        return wrong if float in kinds else (*wrong, 1.5, 1e300, True)
    if kinds <= {bool, type(None)}:
        return ("x", 2, 1.5, [], {}, "", "maybe")
    if "literal" in kinds and kinds <= {"literal", type(None)}:
        return ("nope", 7.5, [], {}, "", " ")
    return ()


def _kinds(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return ["literal"]
    inner = [kind for arg in get_args(annotation) for kind in _kinds(arg)]
    origin = get_origin(annotation)
    if origin in (list, tuple, dict):
        return [origin]
    if hasattr(annotation, "__metadata__"):
        return _kinds(get_args(annotation)[0])
    return inner or [annotation]


def _slip(word: str, known: set[str], random: Random) -> str:
    """A name near to a word, that is no other field's."""
    while (slip := odd.misspell(word, random)) in known or not slip:
        pass
    return slip


def suite(values: dict[str, Any], random: Random) -> None:
    """Put into a suite what it cannot hold."""
    tune = values.setdefault("tune", {"tries": 1, "space": {"optimizer.lr": [0.1]}})
    change = random.randrange(12)
    if change == 0:
        values[_slip(random.choice(list(values)), set(values), random)] = {}
    elif change == 1:
        values["seeds"] = random.choice(
            ([-1], [1.5], ["a"], [0, 0], [True], [None], [], {}, 3, [[0]])
        )
    elif change == 2:
        values["methods"] = random.choice(
            ([], {}, None, "sfa", ["sfa"], {"a": {"sfaa": {}}}, {"a": 1})
        )
    elif change == 3:
        values["overrides"] = random.choice(
            (
                [],
                {"nobody": {}},
                {"sfa": {"optimiser": {}}},
                {"sfa": {"steps": -1}},
                {"ewc": 3},
                "x",
            )
        )
    elif change == 4:
        tune["tries"] = random.choice((0, -1, 1.5, "x", math.nan, None, 99, True, [2], 10**30))
    elif change == 5:
        tune["tasks"] = random.choice((0, -1, 1.5, "x", math.inf, [2], True))
    elif change == 6:
        tune["scenario"] = random.choice(("class", "", None, 1, [], "task_incremental "))
    elif change == 7:
        tune["space"] = random.choice(
            (
                {"optimizer.lr": []},
                {"optimizer.lr": [0.1, math.nan]},
                {"optimizer.lr": [0.1, "fast"]},
                {"optimizer.lr": [0.1, -0.1]},
                {"optimizer.lr": 0.1},
                {"optimizer.lrr": [0.1, 0.2]},
                {"optimizer": [0.1, 0.2]},
                {"": [0.1, 0.2]},
                {"optimizer.": [0.1, 0.2]},
                {".lr": [0.1, 0.2]},
                {"optimizer.lr.x": [0.1, 0.2]},
                {"methods.nobody.p": [0.1, 0.2]},
                {"optimizer.lr": {"low": 0.1, "high": 0.1}},
                {"optimizer.lr": {"low": 0.0, "high": 0.1, "log": True}},
                {"optimizer.lr": {"low": 0.01, "high": math.inf}},
                {"optimizer.lr": {"low": math.nan, "high": 1.0}},
                {"optimizer.lr": {"low": 0.01}},
                {"optimizer.lr": {"low": 0.01, "high": 0.1, "step": 1}},
                {"optimizer.lr": {"low": -1.0, "high": 0.1}},
                {"optimizer.lr": {"low": "0.01x", "high": 0.1}},
                {"seed": [0, 1]},
                {"stream.test_on": ["test", "validation"]},
                {"name": ["a", "b"]},
                {"data_dir": ["a", "b"]},
                {"optimizer.lr": [0.1, 0.1]},
            )
        )
    elif change == 8:
        tune["methods"] = random.choice(({"nobody": {"optimizer.lr": [0.1]}}, [], {"sfa": []}, "x"))
    elif change == 9:
        values["streams"] = random.choice(
            ([], "split_digits", [1], [None], ["nope"], [{}, {}], {}, [[]])
        )
    elif change == 10:
        values["backbones"] = random.choice(([], "tiny_cnn", [1], [{"backbonee": "a"}], {}, [[]]))
    else:
        values["base"] = random.choice((1, [], None, "nope", {}, "../x", {"config": "default"}))
