"""What every data set's loader shares: its result, its messages and its checks."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torchvision.datasets.utils import check_integrity

from clbench.data.members import Members
from clbench.data.words import few
from clbench.errors import ClbenchError


@dataclass(frozen=True)
class Labelled:
    """Images with their labels, as a data set hands them over.

    Attributes:
        images: uint8 array (N, H, W) or (N, H, W, 3), N paths of image files, or N images in
            shards.
        labels: (N,) int64, class numbers from 0.
    """

    images: np.ndarray | tuple[Path, ...] | Members
    labels: np.ndarray


@dataclass(frozen=True)
class DataSet:
    """A data set's training and test parts; `classes[k]` is the name of label k.

    A `stand_in` has the sizes of one that is not there, and made-up names.
    """

    name: str
    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    stand_in: bool = False


class MissingData(ClbenchError):
    """A data set that is not there, or not whole; ``reason`` is what is known, or nothing."""

    reason = ""


#: The other way out of missing data, where clbench fetches it.
FETCHES = ", or let --stream.download true fetch it"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from and where its files belong.

    Attributes:
        title: the name its authors give it.
        page: the official page.
        folder: the folder below the data root that holds the files.
        contents: the files or folders expected there.
        downloads: whether clbench can fetch it.
        besides: a folder below the data root that one stream needs besides, and that stream.
    """

    title: str
    page: str
    folder: str
    contents: str
    downloads: bool
    besides: tuple[str, str] | None = None

    def missing(self, root: Path, reason: str = "") -> MissingData:
        """The error for absent or incomplete data: what, from where, into which folder.

        Args:
            root: the data root.
            reason: more about the failure; "" for none.
        """
        remedy = f"get it from {self.page}"
        if self.downloads:
            remedy += FETCHES
        message = (
            f"{self.title} is missing, incomplete or damaged: {root / self.folder} must hold "
            f"{self.contents}; {remedy}"
        )
        error = MissingData(f"{message} ({reason})" if reason else message)
        error.reason = reason
        return error

    def disagree(self, what: str) -> ClbenchError:
        """The error for files that contradict one another."""
        return ClbenchError(
            f"the files of {self.title} disagree: {what}; get them afresh from {self.page}"
        )


def kind_and_reason(error: Exception) -> str:
    """The error's type and message on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def from_torchvision(
    source: Source,
    root: Path,
    download: bool,
    kind: Callable[..., Any],
    archives: Sequence[tuple[Path, str]],
    **part: bool | str,
) -> Any:
    """Build a torchvision data set, unpacking or downloading it where it is not there yet.

    Args:
        source: the data set's source.
        root: the data root.
        download: whether the network may be used.
        kind: torchvision's class.
        archives: all files torchvision would download, each with its MD5 sum. Where every one
            lies in its place, torchvision only unpacks them, so that needs no network.
        **part: the class's own argument for the part wanted, such as split="train".

    Returns:
        The instance of `kind`.

    Raises:
        ClbenchError: the data are absent, damaged or could not be downloaded.
    """
    # torchvision has no common type for absent and unreadable files, hence `Exception`.
    try:
        return kind(root, download=False, **part)
    except Exception as error:
        failure = error
    if download or (archives and all(check_integrity(path, md5) for path, md5 in archives)):
        try:
            return kind(root, download=True, **part)
        except Exception as error:
            failure = error
    # torchvision's "use download=True" would name an option that clbench does not have.
    reason = "" if "download=True" in str(failure) else kind_and_reason(failure)
    other = [path for path, md5 in archives if path.is_file() and not check_integrity(path, md5)]
    if other:
        reason = (
            f"{few(other)}: the MD5 checksum is not the official archive's; if the content is "
            f"right, unpack it{f'; {reason}' if reason else ''}"
        )
    raise source.missing(root, reason) from failure


def labelled(
    source: Source,
    part: str,
    images: np.ndarray | Sequence[Path],
    labels: npt.ArrayLike,
    classes: int,
) -> Labelled:
    """Put images and labels together once they are known to agree.

    Args:
        source: the data set's source, for the message.
        part: "training" or "test", for the message.
        images: uint8 (N, H, W) or (N, H, W, 3), or N paths.
        labels: (N,) class numbers from 0.
        classes: number of classes K.

    Raises:
        ClbenchError: not one label for each image, or a label outside 0 … K-1.
    """
    numbers = np.asarray(labels, dtype=np.int64)
    if numbers.shape != (len(images),):
        raise source.disagree(f"{len(images)} {part} images but {numbers.size} labels")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < classes:
        raise source.disagree(
            f"{part} labels run from {numbers.min()} to {numbers.max()} (counted from 0), "
            f"but there are {classes} class names"
        )
    if isinstance(images, np.ndarray):
        return Labelled(np.ascontiguousarray(images), numbers)
    return Labelled(tuple(images), numbers)


def require_files(source: Source, root: Path, paths: Sequence[Path]) -> None:
    """Check that every file is there, reading each folder only once.

    Raises:
        ClbenchError: some are not; it counts them and names the first.
    """
    listed = {
        folder: set(os.listdir(folder)) if folder.is_dir() else set[str]()
        for folder in {path.parent for path in paths}
    }
    absent = [path for path in paths if path.name not in listed[path.parent]]
    if absent:
        reason = f"{len(absent)} of {len(paths)} files are not there, the first is {absent[0]}"
        raise source.missing(root, reason)


def every_fifth(labels: np.ndarray) -> np.ndarray:
    """Mark every fifth image of each class, in the given order, as held out for testing.

    The split depends on the order of the images alone: no random numbers, no library version.

    Args:
        labels: (N,) class numbers.

    Returns:
        (N,) bool; of a class with n images, floor(n / 5) are True.
    """
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        held_out[np.flatnonzero(labels == label)[4::5]] = True
    return held_out
