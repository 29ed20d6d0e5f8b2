"""Folders of images as phones, microscopes, macOS, archives and accidents leave them."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz import odd
from fuzz.base import Base, copied, pick, written
from fuzz.case import Case

STRAY = (
    "._0.png", ".DS_Store", "Thumbs.db", "9.jfif", "9.JPG", "9.txt", "9.png.part", "9", "é.png",
    "desktop.ini", "9.heic", "9.svg", "9.PNG", "9.webp", "9.gif", "9.bmp", "9.tif", "9.avif",
    " .png", ".png", "9.png ", "9\n.png", "9.npy", "9.mp4", "9.jpg.png", "$x_{.png", "=1+1.png",
    "\udce9.png",
)  # fmt: skip
FOLDERS = (
    ".ipynb_checkpoints", "__MACOSX", "$x_{", "é", "a b", "-x", "\udce9", "a\nb", "<b>", "=1+1",
    "x" * 200, "@eaDir", ".git", "数字", "train", "test", "0", "1", "A", "e\u0301",
    ".thumbnails", "a%2Fb",
)  # fmt: skip


def images(random: Random, folder: Path, base: Base) -> Case:
    """A folder of images in which something is not an image, or lies where none should."""
    copied(base.images, folder / "images")
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice(DISTURBANCES)(random, folder / "images")
    stream: dict[str, Any] = {
        "name": "image_folder",
        "train": "images/train",
        "test": "images/test",
        "tasks": 2,
        "first_tasks": 1,
    }
    if random.random() < 0.5:
        _divided(stream, random)
    values = base.recipe() | {"stream": stream, "data_dir": str(folder / "data")}
    values["images"] |= random.choice(
        (
            {},
            {},
            {"stored": 10},
            {"fit": "squash"},
            {"fit": "crop"},
            {"in_memory": False},
            {"size": 4},
        )
    )
    written(values, folder / "r.yaml")
    return Case(("--config", "r.yaml", "--output", "out"))


def _divided(stream: dict[str, Any], random: Random) -> None:
    """Other ways to make tasks of the folder, some of which make no sense."""
    change = random.randrange(9)
    if change == 0:
        del stream["test"]
    elif change == 1:
        stream["tasks"] = random.choice(([3, 1], [2, 2], [1, 1], [5], [2, 3], 4, 3, [0, 4], 10**9))
    elif change == 2:
        del stream["tasks"]
        stream["classes"] = random.choice(
            ([["a", "b"], ["c"]], [["a", "a"], ["b", "c"]], [[0, "b"], [3]], [["e"], ["a"]],
             [[4], [0]], [["a", 0], ["b"]], [[], ["a", "b"]], [["a"]], [[True, 1]],
             [["A", "b"], ["c", "d"]])
        )  # fmt: skip
    elif change == 3:
        stream["train_per_class"] = random.choice((1, 2, 3, 100, 10**12))
    elif change == 4:
        stream["test_per_class"] = random.choice((1, 100))
    elif change == 5:
        stream["validation"] = random.choice((0, 0.5, 0.9, 0.99))
    elif change == 6:
        stream["order_seed"] = random.choice((0, 1, 2**63))
    elif change == 7:
        del stream["tasks"]
        stream["train"], stream["test"] = (
            ["images/train", "images/test"],
            ["images/test", "images/train"],
        )
    else:
        stream["train"] = random.choice(
            (
                "images",
                "images/train/a",
                "nowhere",
                "images/train/../train",
                "/",
                "images/test",
                "r.yaml",
            )
        )


def _bytes(random: Random, root: Path) -> None:
    path = pick(root, random)
    path.write_bytes(odd.data(path.read_bytes(), random))


def _gone(random: Random, root: Path) -> None:
    pick(root, random).unlink()


def _renamed(random: Random, root: Path) -> None:
    path = pick(root, random)
    path.rename(path.with_name(random.choice(STRAY)))


def _no_file(random: Random, root: Path) -> None:
    path = pick(root, random)
    path.unlink()
    link = random.choice(("/nowhere", "/dev/zero", path.name, "..", "/dev/stdin"))
    random.choice((os.mkfifo, Path.mkdir, lambda p: Path(p).symlink_to(link)))(path)


def _stray(random: Random, root: Path) -> None:
    path = pick(root, random)
    place = random.choice([path.parent, path.parent.parent, root])
    target = place / random.choice(STRAY)
    if not target.exists() and not target.is_symlink():
        data = path.read_bytes()
        target.write_bytes(random.choice((data, odd.data(data, random), b"<svg/>", b"")))


def _stray_folder(random: Random, root: Path) -> None:
    path = pick(root, random)
    place = random.choice([path.parent, path.parent.parent, root])
    stray = place / random.choice(FOLDERS)
    stray.mkdir(exist_ok=True)
    for number in range(random.choice((0, 1, 1, 5))):
        (stray / f"{number}.png").write_bytes(path.read_bytes())


def _loop(random: Random, root: Path) -> None:
    place = random.choice((root, root / "train", root / "train" / "a"))
    if place.is_dir() and not (place / "loop").is_symlink():
        (place / "loop").symlink_to(random.choice((root, root / "train", Path("loop"))))


def _nested(random: Random, root: Path) -> None:
    """A class's images in folders of their own, or all in one more folder, as archives have it."""
    path = pick(root, random)
    inner = path.parent / random.choice(("more", "a", "2026", ".hidden", "train"))
    if random.random() < 0.5:
        inner.mkdir(exist_ok=True)
        path.rename(inner / path.name)
    elif (root / "train").is_dir() and not (root / "outer").exists():
        (root / "train").rename(root / "outer")
        (root / "train").mkdir()
        (root / "outer").rename(root / "train" / "train")


def _case(random: Random, root: Path) -> None:
    """A class whose folder is called otherwise in one of both parts."""
    place = random.choice(sorted(p for p in root.glob("*/*") if p.is_dir()) or [root])
    target = place.with_name(random.choice((place.name.upper(), f"{place.name} ", "e", "é")))
    if place != root and not target.exists():
        place.rename(target)


def _twice(random: Random, root: Path) -> None:
    """The same images for training and testing, or under two names."""
    one, other = pick(root, random), pick(root, random)
    other.write_bytes(one.read_bytes())


def _locked(random: Random, root: Path) -> None:
    """A file that says nothing: root reads everything, so it is only empty."""
    pick(root, random).write_bytes(b"")


def _archive(random: Random, root: Path) -> None:
    path = pick(root, random)
    with zipfile.ZipFile(path.with_suffix(random.choice((".zip", ".png"))), "w") as archive:
        archive.writestr("0.png", path.read_bytes())


def _odd_image(random: Random, root: Path) -> None:
    """An image of another mode, size, or format than the others."""
    import numpy as np
    from PIL import Image

    path = pick(root, random)
    size = random.choice(((1, 1), (1, 500), (300, 2), (12, 10), (2000, 1), (64, 64)))
    mode = random.choice(
        ("1", "L", "P", "PA", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "I", "F", "I;16", "LAB")
    )
    kinds = FORMATS.get(
        mode, ("PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG", "ICO", "PPM", "TGA", "JPEG2000")
    )
    image = Image.new(
        mode, size, random.choice((0, 3)) if mode in ("1", "L", "P", "I", "F", "I;16") else None
    )
    if mode == "F" and random.random() < 0.6:
        pixels = np.asarray(image).copy()
        pixels[0, 0] = random.choice((np.nan, np.inf, 1e30, -5.0, 0.5))
        image = Image.fromarray(pixels)
    kept: dict[str, Any] = {}
    if random.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = random.choice((0, 3, 6, 8, 9, 255))
        kept["exif"] = exif.tobytes()
    if random.random() < 0.2:
        kept |= {"save_all": True, "append_images": [image, image]}
    if random.random() < 0.2:
        kept["icc_profile"] = b"nonsense"
    try:
        image.save(path, random.choice(kinds), **kept)
    except (OSError, ValueError, TypeError, KeyError, SystemError):
        image.convert("RGB").save(path, "PNG")


FORMATS: dict[str, tuple[str, ...]] = {
    "CMYK": ("JPEG", "TIFF"),
    "YCbCr": ("JPEG", "TIFF"),
    "LAB": ("TIFF",),
    "I": ("TIFF", "PNG"),
    "F": ("TIFF",),
    "I;16": ("PNG", "TIFF"),
    "PA": ("PNG",),
}


def _bomb(random: Random, root: Path) -> None:
    """A small file that says it is a huge image."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    side = random.choice((0, 20_000, 100_000, 2**31 - 1))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    pick(root, random).write_bytes(b"\x89PNG\r\n\x1a\n" + data)


#: What can happen to a folder.
DISTURBANCES: tuple[Callable[[Random, Path], None], ...] = (
    _bytes, _bytes, _gone, _renamed, _renamed, _no_file, _stray, _stray, _stray_folder,
    _stray_folder, _loop, _nested, _case, _twice, _locked, _archive, _odd_image,
    _odd_image, _odd_image, _bomb,
)  # fmt: skip
