"""Weights in a repository of the Hugging Face hub: ``model.weights: hf-hub:user/name[@revision]``.

A repository is read as timm's own loader reads it, ``config.json`` and ``model.safetensors``, but
nothing of it is executed: weights are safetensors alone, never pickles, and of ``config.json``
only plain values within bounds count. What is in the cache of huggingface_hub needs no network.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import huggingface_hub
from huggingface_hub import constants, errors
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from safetensors.torch import load_file

from clbench.errors import ClbenchError, first_line, shown
from clbench.models.settings import ModelConfig
from clbench.models.weights_file import is_safetensors
from clbench.record import reading
from clbench.text.hub_id import COMMIT, HubId, hub_id
from clbench.weights import State

ABOUT: Final = "config.json"
#: Files of weights, the usual one first; open_clip's is of timm's own CLIP towers.
FILES: Final = ("model.safetensors", "open_clip_model.safetensors")
#: Bytes of a ``config.json`` at most; 21,843 names of classes have half of it.
MOST: Final = 4 << 20
#: Seconds to wait for the hub's first answer.
PATIENCE: Final = 10.0

_Text = Annotated[str, StringConstraints(max_length=400)]
_Pixel = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Deviation = Annotated[float, Field(ge=1e-4, le=1, allow_inf_nan=False)]


class _Expected(BaseModel):
    """What weights expect of an image, and where they come from; the rest is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    mean: tuple[_Pixel, _Pixel, _Pixel] | None = None
    std: tuple[_Deviation, _Deviation, _Deviation] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=4)] | None = None
    crop_mode: _Text | None = None
    interpolation: _Text | None = None
    input_size: tuple[int, int, int] | None = None
    license: _Text | None = None
    label_offset: Annotated[int, Field(ge=0, le=1000)] = 0
    classifier: _Text | tuple[_Text, ...] | None = None


class ConfigJson(BaseModel):
    """A ``config.json`` as timm writes it, as far as anything of it is used."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    architecture: _Text
    num_classes: Annotated[int, Field(ge=0, le=10**7)] = 0
    label_names: tuple[_Text, ...] | dict[str, _Text] | None = None
    model_args: dict[str, Any] = {}
    pretrained_cfg: _Expected

    @property
    def labels(self) -> tuple[str, ...]:
        """What each output stands for; empty if that is not told of all of them."""
        names = self.label_names or ()
        if isinstance(names, dict):
            names = tuple(names.get(str(n), "") for n in range(len(names)))
        return names if len(names) == self.num_classes and all(names) else ()

    @property
    def expected(self) -> dict[str, Any]:
        """What the weights expect of an image, in timm's words, and their labels where told."""
        told = {k: v for k, v in self.pretrained_cfg.model_dump().items() if v is not None}
        return told | ({"label_names": self.labels} if self.labels else {})


@dataclass(frozen=True)
class HubWeights:
    """Weights from the hub.

    Attributes:
        source: the repository at the commit that they are of.
        about: its ``config.json``.
        state: the weights, under timm's names.
    """

    source: str
    about: ConfigJson
    state: State


def cached(config: ModelConfig) -> bool:
    """Whether all files that ``model.weights`` needs are on this machine."""
    place = hub_id(config.weights)
    return bool(_kept(place, ABOUT)) and any(_kept(place, file) for file in FILES)


def about(config: ModelConfig) -> ConfigJson:
    """What a repository says of its weights; fetched if it is not on this machine.

    Raises:
        ClbenchError: if it cannot be had, is not timm's, or is of another network than
            ``model.backbone``.
    """
    return _about(config, hub_id(config.weights))[0]


def fetch(config: ModelConfig) -> HubWeights:
    """The weights of a repository; what is on this machine is not fetched again.

    Raises:
        ClbenchError: if they cannot be had, are no safetensors, or are of another network than
            ``model.backbone``.
    """
    place = hub_id(config.weights)
    said, commit = _about(config, place)
    # Both files of one commit, whatever is pushed meanwhile.
    pinned = HubId(place.repository, commit)
    path = _weights(config, pinned)
    with path.open("rb") as file:
        if not is_safetensors(file.read(16)):
            raise ClbenchError(f"model.weights = {config.weights!r}: {path.name} is no safetensors")
    try:
        state = load_file(path)
    except Exception as error:  # safetensors' own kinds
        raise ClbenchError(
            f"model.weights = {config.weights!r}: {path.name} cannot be read "
            f"({first_line(error)}): remove {path} from the cache, and it is fetched again"
        ) from error
    return HubWeights(place.at(commit), said, _without_offset(state, said))


def _about(config: ModelConfig, place: HubId) -> tuple[ConfigJson, str]:
    """A repository's ``config.json``, and the commit that it is of."""
    path = _download(config, place, ABOUT, MOST)
    commit = path.parent.name
    try:
        values = reading.json_of(path.resolve())  # the cache's own link
        said = reading.fit(ConfigJson, _as_timm(values), ABOUT)
    except (ClbenchError, OSError) as error:
        raise ClbenchError(
            f"model.weights = {config.weights!r} are none that timm could load: "
            f"{str(error).replace(path.resolve().name, ABOUT)}"
        ) from error
    architecture = said.architecture.split(".")[0]
    if architecture != config.backbone:
        raise ClbenchError(
            f"model.weights = {config.weights!r} are of {shown(architecture)}, not of "
            f"{config.backbone}: say model.backbone: {architecture}"
        )
    return said, commit


def _as_timm(values: Any) -> Any:
    """As timm has written it since 2023; before, there was one mapping of everything."""
    if not isinstance(values, Mapping) or "pretrained_cfg" in values:
        return values
    names = values.get("label_names", values.get("labels"))
    return {**values, "label_names": names, "pretrained_cfg": values}


def _weights(config: ModelConfig, place: HubId) -> Path:
    for file in FILES:
        try:
            return _download(config, place, file)
        except _NoFile:
            continue
    raise ClbenchError(
        f"model.weights = {config.weights!r}: the repository has no {FILES[0]}, and nothing else "
        "is read, as a pickle can run code: convert it, or choose another repository"
    )


class _NoFile(ClbenchError):
    """A file that a repository does not have."""


def _download(config: ModelConfig, place: HubId, file: str, most: int | None = None) -> Path:
    """Where a file of a repository lies on this machine, fetched if it has to be.

    Args:
        config: for messages.
        place: the repository.
        file: its name there.
        most: bytes that it may have.
    """
    kept = _kept(place, file)
    if kept and COMMIT.fullmatch(place.revision or ""):
        return kept
    where = f"{constants.ENDPOINT}/{place.repository}"
    weights = f"model.weights = {config.weights!r}"
    # The hub's client tells of each of its tries; what comes of them is said in one line below.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        url = huggingface_hub.hf_hub_url(place.repository, file, revision=place.revision)
        size = huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE).size or 0
        if most is not None and size > most:
            raise ClbenchError(f"{weights}: {file} has {size:,} bytes, more than {most:,}")
        if file != ABOUT:
            print(f"Fetching {url} ({size / 1e6:,.1f} MB)", flush=True)
        return Path(
            huggingface_hub.hf_hub_download(place.repository, file, revision=place.revision)
        )
    except ClbenchError:
        raise
    except errors.RevisionNotFoundError as error:
        raise ClbenchError(f"{weights}: {where} has no revision {place.revision}") from error
    except errors.GatedRepoError as error:
        raise ClbenchError(
            f"{weights}: {where} is given only to those whom its owner admits: ask there, then "
            "log in (hf auth login)"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ClbenchError(
            f"{weights}: there is no {where}, or it is private: if it is yours, log in "
            "(hf auth login, or HF_TOKEN)"
        ) from error
    except Exception as error:  # of the network, each client with kinds of its own
        here = isinstance(error, errors.LocalEntryNotFoundError)
        if isinstance(error, errors.EntryNotFoundError) and not here:
            told = f"{weights}: {where} has no {file}, which timm's loader reads"
            raise _NoFile(told) from error
        if kept:
            return kept
        raise ClbenchError(
            f"{weights}: {where} cannot be reached, and is not on this machine "
            f"({first_line(error)}): without a network, fetch it elsewhere and give its "
            "model.safetensors as model.weights"
        ) from error


def _kept(place: HubId, file: str) -> Path | None:
    """Where a file lies in the cache of huggingface_hub; None if it does not."""
    found = huggingface_hub.try_to_load_from_cache(
        place.repository, file, revision=place.revision or constants.DEFAULT_REVISION
    )
    return Path(found) if isinstance(found, str) else None


def _without_offset(state: State, said: ConfigJson) -> State:
    """The weights without the rows of classes that timm passes over, such as a background."""
    offset, names = said.pretrained_cfg.label_offset, said.pretrained_cfg.classifier
    if not offset or names is None:
        return state
    heads = [names] if isinstance(names, str) else names
    rows = {f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias")}
    return {name: x[offset:].clone() if name in rows else x for name, x in state.items()}
