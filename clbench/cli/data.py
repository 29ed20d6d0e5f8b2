"""``clbench data``: what it does with its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clbench.errors import ClbenchError, shown


def tell(names: Sequence[str], root: Path, fetch: bool) -> int:
    """Print where data sets belong and what is there; returns 1 if one is not as published.

    Args:
        names: data sets, or streams for those that they need; none for a list of all.
        root: the data root.
        fetch: download what torchvision can.

    Raises:
        ClbenchError: for a name of neither, or of a stream that needs none of the sets.
    """
    from clbench.data.datasets.place import look, overview

    if not names:
        for line in overview(root):
            print(line, flush=True)
        return 0
    whole = True
    for name in dict.fromkeys(one for given in names for one in _sets(given)):
        lines, good = look(name, root, fetch)
        print("\n".join(lines), flush=True)
        whole = whole and good
    return 0 if whole else 1


def _sets(name: str) -> list[str]:
    from clbench.data.datasets import DATASETS
    from clbench.explain import nearest
    from clbench.streams import STREAMS, data_sets

    if name in DATASETS:
        return [name]
    if name not in STREAMS:
        near = nearest(name, [*DATASETS, *STREAMS])
        raise ClbenchError(
            f"there is no data set or stream {shown(name)}{near}: clbench data lists the data sets"
        )
    found = data_sets(name)
    if not found:
        raise ClbenchError(f"the stream {name} needs no data set of clbench's: name its files")
    return found
