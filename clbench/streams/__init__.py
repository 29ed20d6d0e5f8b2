"""Streams of tasks, by name."""

from clbench.streams.avalanche import AvalancheConfig
from clbench.streams.base import DISK, Shelf, Storage, Stream, StreamConfig, Task
from clbench.streams.domain import PERMUTED, ROTATED, PermutedConfig, RotatedConfig
from clbench.streams.folder import FolderConfig
from clbench.streams.split import SPLITS, SplitConfig
from clbench.streams.transfer import TransferConfig

STREAMS: dict[str, type[StreamConfig]] = {
    **dict.fromkeys(SPLITS, SplitConfig),
    **dict.fromkeys(PERMUTED, PermutedConfig),
    **dict.fromkeys(ROTATED, RotatedConfig),
    "transfer6": TransferConfig,
    "image_folder": FolderConfig,
    "avalanche": AvalancheConfig,
}


def describe(name: str) -> str:
    """One line about a stream, for ``--list``."""
    domains = {**PERMUTED, **ROTATED}
    if name in domains:
        return domains[name].summary
    return SPLITS[name].summary if name in SPLITS else STREAMS[name].summary


def owners(field: str) -> list[str]:
    """Streams that have a field, such as ``classes``; none if all have it."""
    having = [name for name, cls in STREAMS.items() if field in cls.model_fields]
    if len(having) == len(STREAMS):
        return []
    split = [name for name in STREAMS if name.startswith("split_")]
    if set(split) <= set(having):
        return ["split_*", *(name for name in having if name not in split)]
    return having


__all__ = [
    "DISK",
    "STREAMS",
    "Shelf",
    "Storage",
    "Stream",
    "StreamConfig",
    "Task",
    "describe",
    "owners",
]
