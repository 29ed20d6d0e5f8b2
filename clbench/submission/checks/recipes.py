"""Whether the recipe is one of this clbench, and the record is of it."""

from __future__ import annotations

from typing import Any

from packaging.version import InvalidVersion, Version

from clbench.errors import ClbenchError
from clbench.methods import METHODS
from clbench.models import finite
from clbench.models.backbone import full_tag
from clbench.models.settings import ModelConfig
from clbench.plugins.recipes import HASHES
from clbench.record.same_run import Role, settings
from clbench.streams import STREAMS
from clbench.submission.attached import packed_sha256
from clbench.submission.checks.base import PackedRow, of_every_run
from clbench.submission.here import Here, NotMade
from clbench.submission.located import is_path
from clbench.submission.submission import PackedRun
from clbench.text.hub_id import is_hub_id

#: The oldest releases that clbench works with, as its package asks for them.
OLDEST = {
    "python": "3.10",
    "torch": "2.4",
    "torchvision": "0.19",
    "lightning": "2.4",
    "timm": "1.0.9",
    "numpy": "1.26",
    "scikit-learn": "1.4",
}


@of_every_run
def recipe(one: PackedRun, here: Here) -> str | None:
    """A recipe that no clbench can run: misspelt settings, values out of range; or none at all."""
    if not one.run.recipe:
        return "neither the record nor config.yaml has one: nothing says what was run"
    try:
        here.recipe(one.run)
    except ClbenchError as error:
        return str(error)
    return None


@of_every_run
def recorded(one: PackedRun, here: Here) -> str | None:
    """A record under the recipe of another run: easier tasks, another method or seed."""
    try:
        asked = here.recipe(one.run)
    except ClbenchError as error:
        raise NotMade("its recipe is none of this clbench") from error
    run, stream = one.run.record.run, asked.stream
    found: dict[str, tuple[Any, Any]] = {
        "stream": (run.stream, stream.name),
        "seed": (run.seed, one.run.recipe.get("seed", 0)),
        "backbone": (run.backbone, asked.model.backbone),
        "options": (run.options, asked.model.options),
        "train_logits": (run.train_logits, asked.train_logits),
        "independent": (run.independent, stream.starts_anew),
        "shared_labels": (run.shared_labels, stream.shares_labels),
        "size": (run.size, asked.images.size),
        "test_on": (run.test_on, stream.test_on),
        "methods": (_order(run.methods), _order(asked.methods)),
    }
    unknown = ("size", "test_on", "train_logits") if run.version == 0 else ()
    for key, (there, wanted) in found.items():
        if there != wanted and not (key in unknown and there is None):
            return f"the record has {key} = {there!r:.60}, the recipe {wanted!r:.60}"
    told = run.weights.source
    if told is not None and not _are(told, asked.model):
        return f"the record has weights {told!r:.60}, the recipe {asked.model.weights!r:.60}"
    for name, method in asked.methods.items():
        wanted = finite.written(method.model_dump(mode="json"))
        if (there := _known(run.methods[name], wanted)) != wanted:
            return f"the record has methods.{name} = {there!r:.80}, the recipe {wanted!r:.80}"
    return None


def _are(source: str, model: ModelConfig) -> bool:
    """Whether weights can be those of a recipe, by name; files have other places."""
    asked = model.weights
    if is_hub_id(asked):
        return source.partition("@")[0] == asked.partition("@")[0]
    if not {source, asked}.isdisjoint(("none", "pretrain", "packaged")):
        return source == asked
    return is_path(asked) or source in (asked, full_tag(model))


def _order(methods: Any) -> list[str]:
    return [*methods]


def _known(there: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """A method's settings in a record; what an older one did not know is as today's recipe."""
    return wanted | there if isinstance(there, dict) else {}


@of_every_run
def config(one: PackedRun, here: Here) -> str | None:
    """A ``config.yaml`` to be read by people that is not what was run."""
    if one.config is None or one.run.record.run.recipe is None:
        raise NotMade("there is one recipe only")
    free: tuple[Role, ...] = ("free", "place", "placement")
    told, ran = settings(one.config, free), settings(one.run.recipe, free)
    differ = sorted(k for k in told.keys() | ran if told.get(k) != ran.get(k))
    return f"config.yaml and the recipe in the record differ in {differ[0]}" if differ else None


@of_every_run
def version(one: PackedRun, here: Here) -> str | None:
    """A record of an older definition of its stream, beside those of today's."""
    run = one.run.record.run
    if run.stream not in STREAMS:
        raise NotMade(f"this clbench has no stream {run.stream!r:.60}")
    try:
        now = here.recipe(one.run).stream.version
    except ClbenchError as error:
        raise NotMade("its recipe is none of this clbench") from error
    if run.stream_version != now:
        return f"the stream is of version {run.stream_version}, and {now} is today's"
    return None


@of_every_run
def environment_fits(one: PackedRun, here: Here) -> str | None:
    """Versions that do not exist or cannot have run clbench, or another run's environment."""
    told, run = one.run.environment, one.run.record.run
    if not told:
        raise NotMade("there is no environment.json")
    versions = {"python": told.get("python", "unknown"), **told.get("packages", {})}
    for name, text in versions.items():
        if text in ("unknown", "not installed"):
            continue
        try:
            release = Version(text)
        except InvalidVersion:
            return f"{name} {text!r:.40} is no version"
        if name in OLDEST and release < Version(OLDEST[name]):
            return f"{name} {text} is older than {OLDEST[name]}, the first that clbench works with"
    own = (
        ("weights", told.get("weights"), {"sha256": run.weights.sha256}),
        (
            "split",
            {"split": told.get("split_manifest_sha256")},
            {"split": run.split_manifest_sha256},
        ),
    )
    for what, there, wanted in own:
        for key, value in wanted.items():
            other = there.get(key) if isinstance(there, dict) else None
            if None not in (other, value) and other != value:
                return f"environment.json is of another run: its {what} has another SHA-256"
    return None


def plugins(row: PackedRow, here: Here) -> str | None:
    """Code beside a submission that is not what was run."""
    came = False
    for one in row.members:
        for name, sha256 in (one.run.recipe.get(HASHES) or {}).items():
            packed = packed_sha256(name, one.plugins)
            came = came or packed is not None
            if packed not in (None, sha256):
                return f"the code of {name} that came along is not what was run"
    unknown = [n for one in row.members for n in one.run.methods if n not in METHODS]
    if unknown and not came:
        raise NotMade(f"the code of {unknown[0]!r:.60} did not come along")
    return None
