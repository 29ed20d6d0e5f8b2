"""Every kind of image that lies in people's folders becomes the right pixels, or one clear line."""

import io
import re
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from clbench.data.decode import BadImages, decode


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(values, kind="TIFF"):
    return saved(Image.fromarray(np.asarray(values)), kind)


def read(content, limits=None, notes=None, size=8):
    return decode(content, size, "squash", limits, "x.tif", notes)


def refused(content, **rest):
    with pytest.raises(BadImages) as caught:
        read(content, **rest)
    message = str(caught.value)
    assert message.startswith("x.tif cannot be read as an image (")
    assert message.endswith("): replace or remove it")
    assert message.isprintable()
    return message


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    wanted = pixels(8, 8, 3)
    turn = {  # from upright to as stored
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = Image.fromarray(np.ascontiguousarray(turn(wanted)))
    assert np.array_equal(read(saved(stored, kind, exif=exif, **options)), wanted)


def test_a_photograph_taken_upright_is_upright():
    wide = np.zeros((40, 60, 3), dtype=np.uint8)
    wide[:, :20] = 250  # the left third, which is the top of the upright image
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(wide), "JPEG", exif=exif, quality=95)
    found = decode(content, 12, "squash")
    assert found[:3].min() > 200
    assert found[6:].max() < 50


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # the tests make errors of warnings
def test_damaged_exif_does_no_harm(exif):
    image = Image.fromarray(pixels(8, 8, 3))
    assert np.array_equal(read(saved(image, "JPEG", exif=exif)), read(saved(image, "JPEG")))


def test_transparent_pixels_lie_on_white():
    colour = np.zeros((8, 8, 4), dtype=np.uint8)
    colour[:4] = (200, 0, 0, 255)
    notes = {}
    found = read(saved(Image.fromarray(colour), "PNG"), notes=notes)
    assert (found[:4] == (200, 0, 0)).all()
    assert (found[4:] == 255).all()
    assert notes == {"transparent": 0}


@pytest.mark.parametrize("mode", ["LA", "P", "RGB", "L"])
def test_transparency_of_every_mode_lies_on_white(mode):
    if mode == "LA":
        content = saved(Image.fromarray(np.zeros((8, 8, 2), dtype=np.uint8), "LA"), "PNG")
    else:
        black = Image.new("RGB", (8, 8)).convert(mode)
        content = saved(black, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (read(content) == 255).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_images_are_no_news(mode):
    notes = {}
    image = Image.fromarray(pixels(8, 8, 3)).convert("L").convert(mode)
    found = read(saved(image, "PNG"), notes=notes)
    assert np.array_equal(found, np.asarray(image.convert("RGB")))
    assert notes == {}


def test_cmyk_jpeg():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(read(saved(image, "JPEG")).astype(int) - (254, 0, 0)).max() < 5


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_said(kind):
    values = np.linspace(0, 40_000, 64).astype(np.uint16).reshape(8, 8)
    notes = {}
    found = read(grey(values, kind), notes=notes)
    assert np.array_equal(found[..., 0], values >> 8)
    assert notes == {"16 bits": 40_000}


def test_floats_within_0_and_1_are_scaled_and_said():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    notes = {}
    found = read(grey(values), notes=notes)
    assert np.abs(found[..., 1] - values * 255).max() <= 0.5
    assert notes == {"floats": 1}


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_a_range_says_what_is_black_and_white(dtype):
    values = np.array([[0, 1000], [3000, 4096]]).astype(dtype)
    found = read(grey(values), limits=(1000.0, 3000.0), size=2)[..., 0]
    assert found.tolist() == [[0, 0], [255, 255]]
    assert read(grey(values), limits=(0.0, 4096.0), size=2)[0, 1, 0] == round(1000 / 4096 * 255)


def test_a_range_does_not_touch_eight_bits():
    image = Image.fromarray(pixels(8, 8, 3))
    assert np.array_equal(read(saved(image, "PNG"), limits=(0.0, 4096.0)), np.asarray(image))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.array([[-5, 70_000]], np.int32), "32-bit integers from -5 to 70000.*images.range"),
        (np.array([[0, 255.0]], np.float32), "floats from 0 to 255, not within 0…1.*images.range"),
        (np.array([[0, np.nan]], np.float32), "no numbers"),
        (np.array([[0, np.inf]], np.float32), "no numbers"),
    ],
)
def test_numbers_without_black_and_white_are_refused(values, why):
    assert re.search(why, refused(grey(values)))


def test_numbers_that_are_none_are_refused_within_a_range_too():
    refused(grey(np.array([[0, np.nan]], np.float32)), limits=(0.0, 1.0))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_counts_and_is_said(kind):
    frames = [Image.new("RGB", (8, 8), (shade, shade, shade)) for shade in (10, 200, 90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    notes = {}
    assert np.abs(read(content, notes=notes).astype(int) - 10).max() <= 1
    assert "frames" in notes


def test_phones_write_jpeg_with_a_second_frame():
    frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (10, 200)]
    notes = {}
    found = read(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]), notes=notes)
    assert found[..., 0].max() < 20
    assert notes == {}  # a preview or a depth map, of no interest


def png_header(width, height):
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IHDR" + data
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + b"\0" * 13


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "an empty file"),
        (b"words", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # would start gs
        (b"\0\0\0\x18ftypheic" + b"\0" * 99, "HEIC.*pillow-heif"),
        (png_header(60_000, 60_000), "decompression bomb"),
        (png_header(9, 9), ""),
        (saved(Image.fromarray(pixels(64, 64, 3)), "JPEG")[:900], "truncated"),
        (saved(Image.fromarray(pixels(64, 64, 3)), "WEBP")[:900], ""),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(content, why):
    assert re.search(why, refused(content))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_are_an_image_or_one_line():
    random = np.random.default_rng(0)
    image = Image.fromarray(pixels(16, 16, 3))
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"):
        whole = bytearray(saved(image, kind))
        for _ in range(40):
            damaged = whole.copy()
            for place in random.integers(0, len(whole), 8):
                damaged[place] = random.integers(256)
            with suppress(BadImages):
                assert read(bytes(damaged)).shape == (8, 8, 3)


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("shape", [(1, 60_000), (60_000, 1)])
def test_a_strip_does_not_take_gigabytes(shape, fit):
    content = saved(Image.new("RGB", shape, (9, 99, 200)), "PNG")
    assert (decode(content, 64, fit) == (9, 99, 200)).all()


def test_all_bad_files_are_counted_and_the_first_named():
    error = BadImages([(f"{number}.png", "why") for number in range(9)])
    assert str(error).startswith("9 files cannot be read as images: 0.png (why), 1.png (why), ")
    assert str(error).endswith("4.png (why) and 4 more: replace or remove them")


def test_names_that_are_no_text_can_be_printed():
    assert str(BadImages([("a\udcff\n.png", "why")])).startswith("a\\udcff\\n.png cannot")
