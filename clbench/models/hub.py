"""The hub that timm's weights come from."""

from __future__ import annotations

import huggingface_hub
from huggingface_hub import constants

#: Names of the file of weights in a repository.
FILES = ("model.safetensors", "pytorch_model.bin")
#: Seconds to wait for the hub's first answer.
PATIENCE = 10.0


def cached(repository: str) -> bool:
    """Whether the weights of a repository are on this machine already."""
    found = (huggingface_hub.try_to_load_from_cache(repository, file) for file in FILES)
    return any(isinstance(path, str) for path in found)


def reach(repository: str) -> None:
    """Ask once whether the hub can be reached, if weights have to be fetched from it.

    Its client asks for each file six times, for most of a minute and with a warning each.

    Args:
        repository: the weights'; empty if they come from elsewhere.

    Raises:
        Exception: of the client's kinds, if the hub does not answer.
    """
    if repository and not cached(repository):
        print(f"Fetching {repository} from {constants.ENDPOINT}", flush=True)
        huggingface_hub.get_session().head(constants.ENDPOINT, timeout=PATIENCE)
