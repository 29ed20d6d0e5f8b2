"""Streams of tasks, by name."""

from clbench.streams.avalanche import AvalancheConfig
from clbench.streams.base import Stream, StreamConfig, Task
from clbench.streams.core50 import Core50Config
from clbench.streams.domain import PERMUTED, ROTATED, PermutedConfig, RotatedConfig
from clbench.streams.domains import DOMAINS, DomainsConfig
from clbench.streams.folder import FolderConfig
from clbench.streams.libraries import HuggingFaceConfig, TorchvisionConfig
from clbench.streams.shards import ShardsConfig
from clbench.streams.split import SPLITS, SplitConfig
from clbench.streams.storage import DISK, Shelf, Storage
from clbench.streams.transfer import TRANSFERS, TransferConfig

STREAMS: dict[str, type[StreamConfig]] = {
    **dict.fromkeys(SPLITS, SplitConfig),
    **dict.fromkeys(PERMUTED, PermutedConfig),
    **dict.fromkeys(ROTATED, RotatedConfig),
    **dict.fromkeys(DOMAINS, DomainsConfig),
    **dict.fromkeys(TRANSFERS, TransferConfig),
    "core50_runs": Core50Config,
    "image_folder": FolderConfig,
    "shards": ShardsConfig,
    "avalanche": AvalancheConfig,
    "torchvision": TorchvisionConfig,
    "huggingface": HuggingFaceConfig,
}


def describe(name: str) -> str:
    """One line about a stream, for ``--list``."""
    for rows in (SPLITS, PERMUTED, ROTATED, DOMAINS):
        if name in rows:
            return rows[name].summary
    if name in TRANSFERS:
        sets = TRANSFERS[name]
        return f"{len(sets)} data sets, one a task: {', '.join(sets)}"
    return STREAMS[name].summary


def data_sets(name: str) -> list[str]:
    """The data sets that a stream needs by default; none for one's own images and avalanche."""
    for rows in (SPLITS, PERMUTED, ROTATED, DOMAINS):
        if name in rows:
            return [rows[name].dataset]
    if name == "core50_runs":
        return ["core50"]
    return TRANSFERS.get(name, [])


__all__ = [
    "DISK",
    "STREAMS",
    "Shelf",
    "Storage",
    "Stream",
    "StreamConfig",
    "Task",
    "data_sets",
    "describe",
]
