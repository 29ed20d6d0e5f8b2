"""Where weights that timm knows by a tag come from: mostly the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub import constants

#: Names of the file of weights in a repository.
FILES = ("model.safetensors", "pytorch_model.bin")
#: Seconds to wait for the hub's first answer.
PATIENCE = 10.0


def source(tag: str) -> str:
    """Where the weights of a tag are to be fetched from; empty if they are on this machine."""
    about = timm.models.get_pretrained_cfg(tag, allow_unregistered=True)
    repository, url = str(getattr(about, "hf_hub_id", "") or ""), str(getattr(about, "url", ""))
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if (repository and _cached(repository)) or file.is_file():
        return ""
    return f"{constants.ENDPOINT}/{repository}" if repository else url


def _cached(repository: str) -> bool:
    found = (huggingface_hub.try_to_load_from_cache(repository, file) for file in FILES)
    return any(isinstance(path, str) for path in found)


def reach(tag: str) -> None:
    """Ask once whether the hub can be reached, if weights have to be fetched from it.

    Its client asks for each file six times, for most of a minute and with a warning each.

    Raises:
        Exception: of the client's kinds, if the hub does not answer.
    """
    place = source(tag)
    if place.startswith(constants.ENDPOINT):
        print(f"Fetching {place}", flush=True)
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=PATIENCE)
