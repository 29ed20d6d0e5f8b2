"""CORe50 in the batches that its authors published, ten runs of each of three scenarios.

[0] Lomonaco & Maltoni, *CORe50: a new dataset and benchmark for continuous object recognition*: NC,
    NI and NIC, each run ten times with its batches in other orders, all of one scenario tested on
    the same three sessions.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from clbench.data.datasets import DataSet
from clbench.data.datasets.core50 import BATCHES, OBJECTS, core50_run
from clbench.streams.assemble import assemble
from clbench.streams.base import Group, Stream, StreamConfig
from clbench.streams.divide import task_name
from clbench.streams.storage import DISK, Shelf, Storage


class Core50Config(StreamConfig):
    """A published run of CORe50 [0], read from its lists.

    New classes (NC) have rows of the head for each batch. Where objects come again (NI, NIC), all
    fifty share one head, and every task is tested on all of them, also those still to come.
    """

    summary: ClassVar[str] = "CORe50's ten published runs: scenario nc, ni or nic, run 0 to 9"

    scenario: Literal["nc", "ni", "nic"] = Field(
        "nc",
        description="nc: new objects in 9 batches; ni: a new session of all objects in each of 8; "
        "nic: five objects of one session in each of 79, after ten in the first",
    )
    run: int = Field(0, ge=0, le=9, description="which of the published orders of the batches")

    @property
    def shares_labels(self) -> bool:
        """See :attr:`StreamConfig.shares_labels`."""
        return self.scenario != "nc"

    def build(self, data_dir: Path, storage: Storage, shelf: Shelf = DISK) -> Stream:
        """See :meth:`StreamConfig.build`."""
        name = f"core50_runs {self.scenario} {self.run}"
        data = shelf.load(name, data_dir, self.download, self._load)
        groups = [self._group(data, batch) for batch in range(BATCHES[self.scenario])]
        about = {"scenario": self.scenario, "run": self.run}
        return assemble(self, [data], groups, data_dir, storage, about=about, shelf=shelf)

    def _load(self, name: str, root: Path, fetch: bool) -> DataSet:
        return core50_run(root, self.scenario, self.run)

    def _group(self, data: DataSet, batch: int) -> Group:
        """A batch: of new objects, or of all that share the head."""
        first, labels = OBJECTS * batch, data.train.labels
        mine = np.flatnonzero((labels >= first) & (labels < first + OBJECTS))
        there = np.unique(labels[mine]) - first
        session, objects = data.train.images[mine[0]].parts[-3], [data.classes[k] for k in there]
        name = {
            "nc": task_name(objects),
            "ni": session,
            "nic": f"{session}: {', '.join(objects)}",
        }[self.scenario]
        own = range(OBJECTS) if self.shares_labels else there.tolist()
        return Group(
            name,
            0,
            tuple(first + item for item in own),
            tested=tuple(own),
            partial=self.shares_labels,
        )
