"""What ``clbench data`` says of a data set: where its files belong, and what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clbench.data.datasets import DATASETS, SOURCES, load
from clbench.data.datasets.base import MissingData
from clbench.data.datasets.sizes import SIZES, unlike_published
from clbench.errors import ClbenchError


def overview(root: Path) -> Iterator[str]:
    """A line for each data set."""
    for name in DATASETS:
        source = SOURCES.get(name)
        if source is None:
            yield f"{name:<18} {_elsewhere(name)}"
            continue
        there = (root / source.folder).is_dir()
        state = "there is a folder" if there else "--fetch" if source.downloads else "by hand"
        yield f"{name:<18} {state:<18} {root / source.folder}"


def look(name: str, root: Path, fetch: bool) -> tuple[list[str], bool]:
    """Read one data set.

    Args:
        name: of ``DATASETS``.
        root: the data root.
        fetch: whether torchvision may download it, where it can.

    Returns:
        Lines about it; and whether it is there, as it was published.
    """
    source = SOURCES.get(name)
    lines = [_known(name)]
    if source is None:
        lines.append(f"  {_elsewhere(name)}")
    else:
        how = "--fetch gets it" if source.downloads else "it must be fetched by hand"
        lines.append(f"  comes from  {source.page}; {how}")
        lines.append(f"  belongs in  {root / source.folder}: {source.contents}")
        if source.besides:
            folder, stream = root / source.besides[0], source.besides[1]
            state = "is there" if folder.is_dir() else "is not there"
            lines.append(f"  besides     {folder}, which stream {stream} needs, {state}")
    try:
        data = load(name, root, fetch)
    except MissingData as error:  # what belongs where is said above
        return [*lines, f"  is there    no{f': {error.reason}' if error.reason else ''}"], False
    except ClbenchError as error:
        return [*lines, f"  is there    in another state: {error}"], False
    found = f"{len(data.train.images):,} training and {len(data.test.images):,} test images"
    if name not in SIZES:
        return [*lines, f"  is there    yes: {found}, {len(data.classes)} classes"], True
    if unlike := unlike_published(data):
        return [*lines, f"  is there    in another state: it {unlike}"], False
    return [*lines, f"  is there    yes, as it was published: {found}"], True


def _elsewhere(name: str) -> str:
    return "comes with scikit-learn" if name in SIZES else "comes with a plugin, which knows where"


def _known(name: str) -> str:
    if name not in SIZES:
        return name
    size, source = SIZES[name], SOURCES.get(name)
    parts = f"{size.train + size.test:,} images"
    if not size.drawn:
        parts = f"{size.train:,} training and {size.test:,} test images"
    title = f" ({source.title})" if source else ""
    return f"{name}{title}: {size.classes} classes, {parts}"
