"""Streams of tasks, by name."""

from clbench.streams.avalanche import AvalancheConfig
from clbench.streams.base import Storage, Stream, StreamConfig, Task
from clbench.streams.folder import FolderConfig
from clbench.streams.split import SPLITS, SplitConfig
from clbench.streams.transfer import TransferConfig

STREAMS: dict[str, type[StreamConfig]] = {
    **dict.fromkeys(SPLITS, SplitConfig),
    "transfer6": TransferConfig,
    "image_folder": FolderConfig,
    "avalanche": AvalancheConfig,
}


def describe(name: str) -> str:
    """One line about a stream, for ``--list``."""
    return SPLITS[name].summary if name in SPLITS else STREAMS[name].summary


__all__ = ["STREAMS", "Storage", "Stream", "StreamConfig", "Task", "describe"]
