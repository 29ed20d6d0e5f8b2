"""One image file as square pixels, whatever kind of image it is.

What an image means here: its EXIF orientation is applied; transparent pixels lie on white; of
several frames the first counts. Images of more than 8 bits have no agreed black and white: 16-bit
ones are taken as 0…65535 and floats as 0…1, unless a range says otherwise; without one, other
numbers are refused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from clbench.data.members import File
from clbench.data.square import Fit, square
from clbench.data.words import few, spelt
from clbench.errors import ClbenchError, reason

#: A scaling of an image in its full size to uint8 (S, S, 3); ``str`` names it.
Resize = Callable[[Image.Image], np.ndarray]
Limits = tuple[float, float]
#: What was met while decoding, such as ``"transparent"``, with the largest value found.
Notes = dict[str, float]

# Some of Pillow's other formats start programs (EPS) or are no photographs at all.
FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "PPM", "TIFF", "WEBP", "GIF")
#: Read where Pillow, or a plug-in that is loaded, can do so: the format of each file ending.
PERHAPS = {".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".jp2": "JPEG2000", ".jxl": "JXL"}
ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".tif", ".tiff", ".webp", ".gif"),
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow warns from 89 million pixels on, and refuses twice as many; it warns of damaged metadata,
# which changes no pixel.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class BadImages(ClbenchError):
    """Files that cannot be read as images.

    Args:
        found: each file with the reason.
    """

    def __init__(self, found: list[tuple[File | str, str]]) -> None:
        self.found = found
        listed = [f"{spelt(path)} ({why})" for path, why in found]
        if len(found) == 1:
            path, why = found[0]
            message = f"{spelt(path)} cannot be read as an image ({why}): replace or remove it"
        else:
            message = (
                f"{len(found):,} files cannot be read as images: {few(listed, 5)}: replace or "
                "remove them"
            )
        super().__init__(message)


@lru_cache
def formats() -> tuple[str, ...]:
    """The formats that are read, by Pillow's names."""
    Image.init()
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in (*FORMATS, *PERHAPS.values()) if name in Image.OPEN)


def decode(
    file: Path | bytes,
    size: int,
    fit: Fit | Resize,
    limits: Limits | None = None,
    name: File | str = "the image",
    notes: Notes | None = None,
) -> np.ndarray:
    """One image file as uint8 (size, size, 3), RGB, scaled with a bicubic antialiasing filter.

    Args:
        file: its path, or what is in it.
        size: side of the square in pixels.
        fit: how it becomes a square, see :func:`clbench.data.square.square`; or another scaling to
            that size, which has its own filter.
        limits: values that become black and white, in images of more than 8 bits.
        name: of the file, for the message.
        notes: takes down what a user should know of.

    Raises:
        BadImages: if the file cannot be read as an image; the message names it.
    """
    if isinstance(file, Path):
        name = file
    try:
        content = file.read_bytes() if isinstance(file, Path) else file
        scaled = None if callable(fit) else size
        image = _upright(content, scaled, limits, {} if notes is None else notes)
        return fit(image) if callable(fit) else square(image, size, fit)
    # Pillow raises a dozen types for damaged files, some of them by accident.
    except Exception as error:
        raise BadImages([(name, _reason(error, content if "content" in locals() else b""))]) from (
            error
        )


def _reason(error: Exception, content: bytes) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not content:
        return "an empty file"
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "HEIC, for which there is no decoder here: pip install pillow-heif, or save as JPEG"
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a kind that is not read"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    return reason(error)


def _upright(content: bytes, size: int | None, limits: Limits | None, notes: Notes) -> Image.Image:
    """The image in RGB, with its orientation applied; in full if no size says how much will do."""
    with Image.open(io.BytesIO(content), formats=formats()) as file:
        if file.format not in ("MPO", "JPEG") and _frames(file) > 1:
            notes["frames"] = 0
        if size is not None:
            file.draft("RGB", (size, size))  # JPEG: decode at a reduced scale where one will do
        image = _rgb(file, limits, notes)
        orientation = _orientation(file)  # what Pillow has applied itself is gone from it by now
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _frames(file: Image.Image) -> int:
    try:
        return int(getattr(file, "n_frames", 1))
    except Exception:  # a damaged frame behind the first does no harm
        return 1


def _orientation(file: Image.Image) -> object:
    try:
        return file.getexif().get(0x0112)
    except Exception:  # damaged EXIF data says nothing, whatever Pillow raises
        return None


def _rgb(file: Image.Image, limits: Limits | None, notes: Notes) -> Image.Image:
    if file.mode in ("I", "F") or file.mode.startswith("I;16"):
        return _scaled(file, limits, notes).convert("RGB")
    if file.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in file.info:
        pixels = file.convert("RGBA")
        if np.asarray(pixels.getchannel("A")).min() < 255:
            notes["transparent"] = 0
            white = Image.new("RGBA", pixels.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, pixels).convert("RGB")
        return pixels.convert("RGB")
    return file.convert("RGB")


def _scaled(file: Image.Image, limits: Limits | None, notes: Notes) -> Image.Image:
    """Grey values of more than 8 bits as 8 bits."""
    values = np.asarray(file)
    least, most = float(values.min()), float(values.max())
    # Pillow widens 16 bits of some formats to 32.
    wide = file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))
    if not np.isfinite(values).all():
        raise ValueError("holds values that are no numbers (NaN or infinite)")
    if limits is None:
        if wide:
            notes["16 bits"] = most
            return Image.fromarray((values >> 8).astype(np.uint8))
        if file.mode == "I":
            raise ValueError(
                f"32-bit integers from {least:.0f} to {most:.0f}: say which values are black and "
                "white by images.range"
            )
        if not 0 <= least <= most <= 1:
            raise ValueError(
                f"floats from {least:.6g} to {most:.6g}, not within 0…1: say which values are "
                "black and white by images.range"
            )
        notes["floats"] = most
        limits = (0.0, 1.0)
    black, white = limits
    shares = np.clip((values.astype(np.float64) - black) / (white - black), 0, 1)
    return Image.fromarray(np.rint(shares * 255).astype(np.uint8))
