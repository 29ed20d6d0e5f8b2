"""Domain-incremental streams of photographs: the same classes in every task, seen otherwise.

[0] Peng et al., *Moment matching for multi-source domain adaptation*: DomainNet.
[1] Venkateswara et al., *Deep hashing network for unsupervised domain adaptation*: Office-Home.
[2] Lomonaco & Maltoni, *CORe50: a new dataset and benchmark for continuous object recognition*: new
    instances (NI), a session a task, all of them tested on the same three sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from clbench.data.datasets.core50 import TRAIN_SESSIONS
from clbench.data.datasets.lists import DOMAINNET_DOMAINS
from clbench.data.datasets.packed import OFFICE_HOME_DOMAINS
from clbench.data.words import few
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Stream, StreamConfig
from clbench.streams.storage import DISK, Shelf, Storage


@dataclass(frozen=True)
class DomainPreset:
    """What one name of the table stands for.

    Attributes:
        dataset: with K classes, class c of domain d has the label K·d + c.
        domains: their names.
        summary: one line about the stream.
        one_test: whether all domains are tested on the images with the labels of the first.
    """

    dataset: str
    domains: tuple[str, ...]
    summary: str
    one_test: bool = False


DOMAINS = {
    "domainnet": DomainPreset(
        "domainnet", DOMAINNET_DOMAINS, "DomainNet, 345 classes in 6 domains, a task each"
    ),
    "office_home": DomainPreset(
        "office_home", OFFICE_HOME_DOMAINS, "Office-Home, 65 classes in 4 domains"
    ),
    "core50_ni": DomainPreset(
        "core50_sessions",
        tuple(f"s{number}" for number in TRAIN_SESSIONS),
        "CORe50, 50 objects in 8 sessions, in their order, one test set",
        one_test=True,
    ),
}


class DomainsConfig(StreamConfig):
    """All classes of one domain in every task; one head, and the task is never told [0, 1, 2]."""

    summary: ClassVar[str] = "the classes of one data set in every task, a domain each"

    domains: list[str] = Field(min_length=1, description="the domain of each task, in order")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") in DOMAINS:
            return {"domains": list(DOMAINS[values["name"]].domains)} | values
        return values

    @field_validator("domains")
    @classmethod
    def _known(cls, names: list[str], info: ValidationInfo) -> list[str]:
        row = DOMAINS.get(info.data.get("name", ""))
        if row and (not set(names) <= set(row.domains) or len(set(names)) < len(names)):
            raise ValueError(f"names each of {few(row.domains)} at most once, got {few(names)}")
        return names

    @property
    def shares_labels(self) -> bool:
        """Always."""
        return True

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        row = DOMAINS[self.name]
        data = shelf.load(row.dataset, data_dir, self.download)
        count = len(data.classes) // len(row.domains)

        def labels(domain: int) -> tuple[int, ...]:
            return tuple(range(domain * count, (domain + 1) * count))

        places = [row.domains.index(name) for name in self.domains]
        groups = [
            Group(name, 0, labels(place), tested=labels(0) if row.one_test else None)
            for name, place in zip(self.domains, places, strict=True)
        ]
        return assemble(self, [data], groups, data_dir, storage, shelf=shelf)
