"""What lies in a folder of class folders, and what of it is no image of a class.

The layout and the order are those of torchvision's ``ImageFolder``. In addition, what cameras,
operating systems, notebooks and network drives leave behind is passed over, and said.
"""

from __future__ import annotations

import os
import stat
import time
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clbench.data.decode import ENDINGS, PERHAPS, formats
from clbench.data.words import few, note, spelt
from clbench.errors import ClbenchError

#: Folders that hold nothing of the user's, in lower case; so do all whose names begin with a dot.
FOREIGN = {
    *("__macosx", "@eadir", "#recycle", "@recycle", "#snapshot", "lost+found", "__pycache__"),
    *("$recycle.bin", "system volume information", "recycler"),
}


TRAINING = ("train", "training")
TESTING = ("test", "testing", "val", "valid", "validation", "eval", "dev")
#: Seconds after which a line says that a folder is still being listed.
QUIET = 5.0
DECODERS = dict.fromkeys([".heic", ".heif"], ": pip install pillow-heif, or save them as JPEG")
#: Device and inode of a folder, by whatever path it is reached.
Identity = tuple[int, int]


@dataclass
class Passed:
    """What is passed over, by kind."""

    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, path: str) -> None:
        """Remember one file or folder."""
        self.found[kind].append(path)

    def tell(self, root: Path) -> None:
        """Say in one line what was passed over, with a count and an example of each kind."""
        if self.found:
            parts = [
                f"{len(paths):,} {kind} ({spelt(os.path.relpath(min(paths), root))})"
                for kind, paths in self.found.items()
            ]
            note(f"Passed over in {root}: {'; '.join(parts)}")


@dataclass(frozen=True)
class Listing:
    """A folder of class folders.

    Attributes:
        classes: names of the classes, sorted, in Unicode's composed form.
        images: paths of each class's images, sorted.
        passed: what is no image of a class.
    """

    classes: tuple[str, ...]
    images: tuple[tuple[Path, ...], ...]
    passed: Passed


def listing(root: Path) -> Listing:
    """List a folder of class folders.

    Args:
        root: must exist.

    Raises:
        ClbenchError: if a folder cannot be read, a class folder's name cannot be used, or it is all
            there is on this machine.
    """
    if root.resolve() == Path(root.resolve().anchor):
        raise ClbenchError(
            f"{spelt(root)} is the root of the file system, which holds everything: give the "
            "folder that has a folder for each class"
        )
    passed = Passed()
    folders: dict[str, str] = {}
    for entry in _entries(root):
        if not _is_folder(entry):
            passed.add(_kind_of(entry.name) or "image files beside the class folders", entry.path)
        elif _foreign(entry.name):
            passed.add("foreign or hidden folders", entry.path)
        else:
            name = _class_name(entry)
            if name in folders:
                raise ClbenchError(
                    f"{spelt(root)} has two class folders named {name}, which differ only in how "
                    "their letters are encoded: rename or join them"
                )
            folders[name] = entry.path
    classes = tuple(sorted(folders))
    began, told = time.monotonic(), False
    above = frozenset([_identity(os.fspath(root))])
    images = []
    for number, name in enumerate(classes):
        if not told and time.monotonic() - began > QUIET:
            told = True
            note(f"Listing {root}: {number:,} of {len(classes):,} folders so far.")
        images.append(_images(folders[name], above, passed))
    return Listing(classes, tuple(images), passed)


def images_in(root: Path) -> tuple[Path, ...]:
    """All images in a folder and in the folders in it, sorted; what is none is said.

    Args:
        root: must exist.

    Raises:
        ClbenchError: if a folder cannot be read.
    """
    passed = Passed()
    found = _images(os.fspath(root), frozenset(), passed)
    passed.tell(root)
    return found


def _class_name(entry: os.DirEntry[str]) -> str:
    name = unicodedata.normalize("NFC", entry.name)
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        raise ClbenchError(
            f"the class folder {spelt(entry.path)} has a name that is not text in one line (bytes "
            "that are not UTF-8, or a control character): rename it"
        )
    return name


def _images(folder: str, above: frozenset[Identity], passed: Passed) -> tuple[Path, ...]:
    """The images in a folder and the folders in it, in torchvision's order."""
    found: list[tuple[str, str]] = []
    left = [(folder, above)]
    while left:
        here, above = left.pop()
        inside = above | {_identity(here)}
        for entry in _entries(Path(here)):
            if _is_folder(entry):
                if _foreign(entry.name):
                    passed.add("foreign or hidden folders", entry.path)
                elif _identity(entry.path) in inside:
                    passed.add("links to folders around them", entry.path)
                else:
                    left.append((entry.path, inside))
            elif (kind := _kind_of(entry.name)) is not None:
                passed.add(kind, entry.path)
            elif _special(entry):
                passed.add("pipes, sockets or devices", entry.path)
            else:
                found.append((here, entry.name))
    return tuple(Path(here, name) for here, name in sorted(found))


def _kind_of(name: str) -> str | None:
    """What a file is that is no image, by its name; None for an image."""
    ending = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return "hidden files"
    if ending in PERHAPS and PERHAPS[ending] not in formats():
        return f"{ending} images, for which there is no decoder here{DECODERS.get(ending, '')}"
    if ending in ENDINGS or ending in PERHAPS:
        return None
    return "files without an image's ending"


def _foreign(name: str) -> bool:
    return name.startswith(".") or name.lower() in FOREIGN


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ClbenchError(
            f"the image folder {spelt(folder)} cannot be read ({error.strerror}): change its "
            "permissions or remove it"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry exists and is neither a file nor a folder. Links that lead nowhere do not
    exist: those are images that are missing.
    """
    if entry.is_file(follow_symlinks=False):  # known without asking the disk
        return False
    try:
        mode = entry.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode)


def _identity(path: str) -> Identity:
    try:
        facts = os.stat(path)
    except OSError as error:
        raise ClbenchError(f"{spelt(path)} cannot be read ({error.strerror})") from error
    return facts.st_dev, facts.st_ino


def refuse_misplaced(root: Path, classes: Sequence[str], field: str) -> None:
    """Refuse a folder that holds, in place of classes, parts or a folder of classes.

    Args:
        root: the folder.
        classes: its class folders.
        field: of the recipe that names it.

    Raises:
        ClbenchError: it says which folder was probably meant.
    """
    parts = {name.lower(): name for name in classes}
    fit = [parts[name] for name in TRAINING if name in parts]
    test = [parts[name] for name in TESTING if name in parts]
    held = [root / name for name in classes]
    if fit and test and len(fit + test) == len(classes) and all(map(_folders, held)):
        raise ClbenchError(
            f"{spelt(root)} holds {few(classes)} in place of class folders: did you mean "
            f"--stream.train {spelt(root / fit[0])} --stream.test {spelt(root / test[0])}?"
        )
    if len(classes) == 1 and len(_folders(held[0])) > 1 and not _files(held[0]):
        raise ClbenchError(
            f"{spelt(root)} has a single class folder, {classes[0]}, which holds folders itself: "
            f"did you mean --{field} {spelt(held[0])}?"
        )


def _folders(folder: Path) -> list[str]:
    return [e.path for e in _entries(folder) if _is_folder(e) and not _foreign(e.name)]


def _files(folder: Path) -> bool:
    return any(not _is_folder(e) and _kind_of(e.name) is None for e in _entries(folder))
