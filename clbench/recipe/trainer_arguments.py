"""Which arguments of lightning.Trainer a recipe may set, and which values make sense there.

Lightning takes some nonsense in silence (one and a half batches to accumulate, a negative bound of
gradients) and ends at other nonsense in a traceback after the data was read. What can be told from
the value alone is refused when the recipe is read; what depends on the machine when the Trainer is
built (:func:`clbench.learner.trainer.make_trainer`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from clbench.explain import nearest

#: Arguments that clbench sets itself or has no use for, and what to do instead.
OWNED = {
    "max_epochs": "use epochs",
    "max_steps": "use steps",
    "min_epochs": "use epochs",
    "min_steps": "use steps",
    "max_time": "a task's length decides, not the clock",
    "logger": "use loggers",
    "default_root_dir": "use --output",
    "callbacks": "use callbacks, or add a method",
    "use_distributed_sampler": "batches are dealt out by clbench",
    "reload_dataloaders_every_n_epochs": "batches are dealt out by clbench",
    "barebones": "benchmarks/ measures speed",
    "fast_dev_run": "use --steps 1",
    "overfit_batches": "use fewer classes or steps",
    "limit_train_batches": "use steps",
    "limit_val_batches": "use stream.validation",
    "limit_test_batches": "use stream.test_per_class",
    "limit_predict_batches": "nothing is predicted",
    "val_check_interval": "use eval_every",
    "check_val_every_n_epoch": "use eval_every",
    "num_sanity_val_steps": "every task is tested when it ends",
    "inference_mode": "every task is tested when it ends",
    "enable_checkpointing": "use checkpoints",
    "enable_autolog_hparams": "the record holds the recipe",
    "model_registry": "the run folder holds the weights",
    "plugins": "use precision and strategy",
}

#: Says what a value must be, or None where it is that.
ArgumentRule = Callable[[Any], str | None]


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that do not exist, are clbench's own, or hold a value without sense.

    Raises:
        ValidationError: one entry for each, at the argument's name.
    """
    import lightning as L  # it takes seconds

    known = [name for name in inspect.signature(L.Trainer).parameters if name not in OWNED]
    _check(arguments, known)


def check_known(arguments: Any) -> Any:
    """The same, without Lightning: of arguments that clbench knows, if there are no others.

    Raises:
        ValidationError: as :func:`check_arguments`.
    """
    known = {**OWNED, **RULES}
    if isinstance(arguments, Mapping) and all(name in known for name in arguments):
        _check(arguments, list(RULES))
    return arguments


def _check(arguments: Mapping[str, Any], known: Sequence[str]) -> None:
    wrong: dict[str, str] = {}
    for name, value in arguments.items():
        if name in OWNED:
            wrong[name] = f"is set by clbench: {OWNED[name]}, and leave it out"
        elif name not in known:
            wrong[name] = f"lightning.Trainer has no such argument{nearest(name, known)}"
        elif (must := RULES.get(name, _anything)(value)) is not None:
            wrong[name] = must
    if not wrong:
        wrong = _together(arguments)
    lines: list[InitErrorDetails] = [
        {"type": PydanticCustomError("trainer", reason), "loc": (name,), "input": arguments[name]}  # type: ignore[arg-type]
        for name, reason in wrong.items()
    ]
    if lines:
        raise ValidationError.from_exception_data("trainer", lines)


def _together(arguments: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with arguments that are right one by one."""
    devices, clip = arguments.get("devices", "auto"), arguments.get("gradient_clip_val")
    if arguments.get("gradient_clip_algorithm") is not None and clip is None:
        way = "does nothing without trainer.gradient_clip_val: give both or leave it out"
        return {"gradient_clip_algorithm": way}
    numbered = devices in (-1, "-1") or isinstance(devices, list) or "," in str(devices)
    if arguments.get("accelerator") == "cpu" and numbered:
        way = "a CPU has no numbered devices: give the number of processes, such as 1"
        return {"devices": way}
    return {}


def _whole(least: int, most: int) -> ArgumentRule:
    def rule(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"must be a whole number from {least} to {most:,}"

    return rule


def _one_of(*values: object) -> ArgumentRule:
    def rule(value: Any) -> str | None:
        # 1 is no True, and 32.0 no 32.
        fits = any(type(value) is type(one) and value == one for one in values)
        return None if fits else f"must be one of {', '.join(map(_word, values))}"

    return rule


def _or_none(rule: ArgumentRule) -> ArgumentRule:
    return lambda value: None if value is None else rule(value)


def _anything(_: Any) -> None:
    """Arguments of a later Lightning: whatever it takes."""


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bound(value: Any) -> str | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and (value == 0 or 1e-30 <= value < 1e30):
        return None  # what is smaller is 0 in single precision: no step would move anything
    return "must be a number above 0, or 0 to leave gradients as they are"


def _strategy(value: Any) -> str | None:
    if isinstance(value, str) and any(word in value for word in ("spawn", "fork", "notebook")):
        return "loses the state of methods: use ddp"
    if isinstance(value, str) and any(word in value for word in ("fsdp", "deepspeed", "parallel")):
        return (
            "is not supported: it leaves each process a part of the weights, and anchors, averages "
            "and checkpoints need them whole: use ddp, and for memory model.checkpointing or "
            "trainer.accumulate_grad_batches with a smaller batch_size"
        )
    plain = ("auto", "ddp", *(f"ddp_find_unused_parameters_{word}" for word in ("false", "true")))
    return None if value in plain else "is not supported: use auto or ddp"


def _devices(value: Any) -> str | None:
    numbers: list[Any] = []
    if isinstance(value, str):
        try:
            numbers = [int(part) for part in value.split(",") if part.strip()]
        except ValueError:
            numbers = []
        if "," not in value and len(numbers) == 1:
            value, numbers = numbers[0], []
    elif isinstance(value, list):
        numbers = value
    several = bool(numbers) and all(_whole(0, 1023)(number) is None for number in numbers)
    if value == "auto" or (several and len(set(numbers)) == len(numbers)):
        return None
    if not isinstance(value, str | list) and _whole(-1, 1024)(value) is None and value != 0:
        return None
    return (
        "must be auto, how many (1 to 1,024), -1 for all GPUs, or a list of different GPU numbers"
    )


def _precision(value: Any) -> str | None:
    if str(value) in ("64", "64-true", "16-true", "bf16-true") or "engine" in str(value):
        return (
            "keeps the weights themselves at that precision, which averages and anchors do not "
            "go with: use bf16-mixed, 16-mixed or 32"
        )
    allowed = ("32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")
    fits = type(value) in (int, str) and str(value) in allowed
    return None if fits else "must be one of 32, bf16-mixed, 16-mixed"


_SWITCH = _one_of(True, False)

RULES: dict[str, ArgumentRule] = {
    "accelerator": _one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "strategy": _strategy,
    "devices": _devices,
    "num_nodes": _whole(1, 10_000),
    "precision": _or_none(_precision),
    "log_every_n_steps": _or_none(_whole(1, 10**9)),
    "enable_progress_bar": _or_none(_SWITCH),
    "enable_model_summary": _or_none(_SWITCH),
    "accumulate_grad_batches": _whole(1, 10**6),
    "gradient_clip_val": _or_none(_bound),
    "gradient_clip_algorithm": _or_none(_one_of("norm", "value")),
    "deterministic": _or_none(_one_of(True, False, "warn")),
    "benchmark": _or_none(_SWITCH),
    "profiler": _or_none(_one_of("simple", "advanced", "pytorch")),
    "detect_anomaly": _SWITCH,
    "sync_batchnorm": _SWITCH,
}
