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
    sets = dict.fromkeys(one for given in names for one in _sets(given))
    from clbench.data.datasets.place import look, overview  # torchvision takes seconds

    if not names:
        for line in overview(root):
            print(line, flush=True)
        return 0
    whole = True
    for name in sets:
        lines, good = look(name, root, fetch)
        print("\n".join(lines), flush=True)
        whole = whole and good
    return 0 if whole else 1


def needed() -> dict[str, list[str]]:
    """The data sets that every data set (itself) and every stream needs."""
    from clbench.data.datasets import DATASETS
    from clbench.streams import STREAMS, data_sets

    own = {name: [name] for name in DATASETS}
    return own | {name: data_sets(name) for name in STREAMS if name not in own}


def _sets(name: str) -> list[str]:
    from clbench.explain import nearest
    from clbench.recipe.known import said

    known = said("data", needed)
    if name not in known:
        raise ClbenchError(
            f"there is no data set or stream {shown(name)}{nearest(name, list(known))}: clbench "
            "data lists the data sets"
        )
    if not known[name]:
        raise ClbenchError(f"the stream {name} needs no data set of clbench's: name its files")
    return known[name]
