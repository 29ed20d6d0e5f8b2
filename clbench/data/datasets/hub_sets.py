"""Any image data set of the Hugging Face hub, by its id, or from local Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clbench.data.datasets import laid_out
from clbench.data.datasets.base import DataSet, MissingData
from clbench.errors import ClbenchError, reason, shown
from clbench.text.textfile import home

TEST = ("test", "validation", "valid", "val")


def hub_set(name: str, settings: Mapping[str, str | None], root: Path, download: bool) -> DataSet:
    """A data set, whose images are laid out as files in ``root/huggingface``, once.

    Once they are, neither the network nor the library is asked. Code that comes with a data set
    is never run.

    Args:
        name: an id, as ``uoft-cs/cifar10``; or a Parquet file, or a folder of them.
        settings: ``subset``, ``revision``, ``image``, ``label``, ``train_split``, ``test_split``;
            None: what the data set has.
        root: the data root.
        download: whether the network may be used.

    Raises:
        ClbenchError: if the library or the data is missing, or there are no labelled images.
    """
    folder = laid_out.place_of(root, "huggingface", name, dict(settings))
    if known := laid_out.read(folder, name):
        return known
    local = Path(home(name))
    if not local.exists() and not download:
        raise MissingData(
            f"{name} is missing: it is neither a file nor laid out in {folder.parent} yet; let "
            "--stream.download true fetch it from the Hugging Face hub"
        )
    found = _loaded(name, local, settings, root)
    train_name = settings["train_split"] or ("train" if "train" in found else next(iter(found)))
    test_name = settings["test_split"] or next((one for one in TEST if one in found), None)
    for split in (train_name, test_name):
        if split is not None and split not in found:
            raise ClbenchError(f"{name} has no split {shown(split)}: it has {', '.join(found)}")
    image, label = _columns(name, found[train_name].features, settings)
    classes = _classes(found[train_name], label)
    train = _samples(found[train_name], image, label, classes)
    test = None
    if test_name not in (None, train_name):
        test = _samples(found[test_name], image, label, classes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return laid_out.lay_out(folder, name, train, test, classes)


def _loaded(name: str, local: Path, settings: Mapping[str, str | None], root: Path) -> Any:
    """The library's data sets by split."""
    try:
        import datasets
    except ImportError as error:
        raise ClbenchError(
            f"stream `huggingface` needs datasets ({error}): pip install 'clbench[huggingface]'"
        ) from error
    cache = {"cache_dir": str(root / "huggingface" / "cache")}
    try:
        if local.is_file():
            return datasets.load_dataset("parquet", data_files={"train": str(local)}, **cache)
        what = str(local) if local.is_dir() else name
        return datasets.load_dataset(
            what, settings["subset"], revision=settings["revision"], **cache
        )
    except Exception as error:  # the library has no common type
        raise ClbenchError(f"stream.dataset = {shown(name)}: {reason(error)[:300]}") from error


def _columns(name: str, features: Any, settings: Mapping[str, str | None]) -> tuple[str, str]:
    """The columns of the images and of the labels."""
    from datasets import ClassLabel, Image

    images = [key for key, kind in features.items() if isinstance(kind, Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, ClassLabel)]
    labels += [key for key in ("label", "labels") if key in features and key not in labels]
    chosen = []
    for field, usual in (("image", images), ("label", labels)):
        own = settings[field]
        if own is not None and own not in features:
            raise ClbenchError(f"stream.{field} = {shown(own)}: {name} has {', '.join(features)}")
        if own is None and not usual:
            raise ClbenchError(
                f"{name} has no column that is surely the {field}: say stream.{field}, one of "
                f"{', '.join(features)}"
            )
        chosen.append(own or usual[0])
    return chosen[0], chosen[1]


def _classes(part: Any, label: str) -> tuple[str, ...]:
    names = getattr(part.features[label], "names", None)
    return tuple(names) if names else tuple(map(str, sorted(part.unique(label))))


def _samples(
    part: Any, image: str, label: str, classes: tuple[str, ...]
) -> Iterator[laid_out.Sample]:
    from datasets import Image

    numbered = bool(getattr(part.features[label], "names", None))
    for row in part.select_columns([image, label]).cast_column(image, Image(decode=False)):
        kept = row[image]
        content = kept["bytes"] if kept["bytes"] is not None else Path(kept["path"]).read_bytes()
        yield content, row[label] if numbered else classes.index(str(row[label]))
