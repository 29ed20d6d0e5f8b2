import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from clbench.data import images as module
from clbench.data.cache import CachedImages, cache
from clbench.data.decode import decode
from clbench.data.images import (
    FileImages,
    GuardedImages,
    JoinedImages,
    TensorImages,
    from_array,
)
from clbench.data.square import square
from clbench.errors import ClbenchError

INDEX = torch.tensor([4, 0, 4, 2])


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def tensor(seed, count=5, channels=3, size=4):
    return torch.from_numpy(pixels(seed, count, channels, size, size))


@pytest.fixture
def files(tmp_path):
    """Five PNG files of 8 x 8 pixels, so that a working resolution of 8 reads them as they are."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(pixels(number, 8, 8, 3)).save(folder / f"{number}.png")
    return FileImages(sorted(folder.iterdir()), 8, "crop")


def opened(path):
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def test_tensor_images_take_in_order():
    stored = tensor(0)
    taken = TensorImages(stored).take(INDEX)
    assert torch.equal(taken, torch.stack([stored[i] for i in INDEX.tolist()]))


def test_file_images_take_what_the_files_hold(files):
    taken = files.take(INDEX)
    assert taken.dtype == torch.uint8
    assert torch.equal(taken, torch.stack([opened(files.paths[i]) for i in INDEX.tolist()]))


def test_cached_images_equal_the_files(files, tmp_path):
    cached = cache(files, tmp_path / "cache", "set")
    assert len(cached) == 5
    assert torch.equal(cached.take(INDEX), files.take(INDEX))
    assert cached.fingerprint() == files.fingerprint()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_cache_of_several_chunks_keeps_the_order(files, tmp_path, monkeypatch, workers):
    many = FileImages([files.paths[i % 5] for i in range(600)], 8, "crop")
    cached = cache(many, tmp_path / str(workers), "set", workers)
    places = torch.tensor([599, 3, 256, 257, 511, 512])
    assert torch.equal(cached.take(places), many.take(places))


def test_joined_images_equal_a_loop_over_the_parts():
    parts = [tensor(0, 3), tensor(1, 1), tensor(2, 4)]
    joined = JoinedImages([TensorImages(part) for part in parts])
    assert len(joined) == 8
    everything = torch.cat(parts)
    index = torch.tensor([7, 3, 0, 3, 4, 2, 6])
    assert torch.equal(joined.take(index), torch.stack([everything[i] for i in index.tolist()]))


def test_joined_grey_images_become_rgb():
    grey, colour = tensor(0, 2, 1), tensor(1, 2, 3)
    taken = JoinedImages([TensorImages(grey), TensorImages(colour)]).take(torch.tensor([2, 1]))
    assert torch.equal(taken, torch.stack([colour[0], grey[1].expand(3, -1, -1)]))


def test_joined_images_are_slow_if_one_part_is(files):
    fast = TensorImages(tensor(0))
    assert not JoinedImages([fast, fast]).slow
    assert JoinedImages([fast, files]).slow


def test_guard_lets_open_images_through():
    allowed = torch.tensor([True, False, True, False, True])
    stored = tensor(0)
    assert torch.equal(GuardedImages(TensorImages(stored), allowed).take(INDEX), stored[INDEX])


def test_guard_raises_at_one_closed_image_and_says_the_way_out():
    allowed = torch.ones(5, dtype=torch.bool)
    guarded = GuardedImages(TensorImages(tensor(0)), allowed)
    guarded.take(INDEX)
    allowed[2] = False
    with pytest.raises(ClbenchError, match=r"images of another task.*declare it on the method"):
        guarded.take(INDEX)


def test_fingerprints_tell_what_is_in_memory():
    one, two = tensor(0), tensor(0)
    assert TensorImages(one).fingerprint() == TensorImages(two).fingerprint()
    two[3, 0, 0, 0] ^= 1
    assert TensorImages(one).fingerprint() != TensorImages(two).fingerprint()


def test_fingerprints_of_files_depend_on_names_resolution_and_fit(files):
    others = [
        FileImages(files.paths[::-1], 8, "crop"),
        FileImages(files.paths, 9, "crop"),
        FileImages(files.paths, 8, "squash"),
        files,
    ]
    assert len({images.fingerprint() for images in others}) == 4


def test_fingerprints_of_files_stay_when_a_data_set_is_copied(files, tmp_path):
    shutil.copytree(files.paths[0].parent, tmp_path / "elsewhere" / "files")
    copied = sorted((tmp_path / "elsewhere" / "files").iterdir())
    assert FileImages(copied, 8, "crop").fingerprint() == files.fingerprint()


def test_cache_is_made_once(files, tmp_path, capsys):
    first = cache(files, tmp_path / "cache", "set")
    (path,) = (tmp_path / "cache").glob("set-8-crop-*.npy")
    before = path.stat().st_mtime_ns
    assert "Decoding 5 images once" in capsys.readouterr().out
    second = cache(files, tmp_path / "cache", "set")
    assert path.stat().st_mtime_ns == before
    assert capsys.readouterr().out == ""
    assert torch.equal(first.take(INDEX), second.take(INDEX))


def test_cache_is_made_anew_when_a_file_changes(files, tmp_path):
    cache(files, tmp_path / "cache", "set")
    Image.fromarray(pixels(9, 8, 8, 3)).save(files.paths[2])
    assert torch.equal(cache(files, tmp_path / "cache", "set").take(INDEX), files.take(INDEX))


def bitmap(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, 8, 8, 3)).save(path)
    return FileImages([path], 8, "crop")


def test_cache_sees_a_change_that_keeps_the_size(tmp_path):
    images = bitmap(tmp_path / "a.bmp", 0)
    cache(images, tmp_path / "cache", "set")
    size = images.paths[0].stat().st_size
    bitmap(tmp_path / "a.bmp", 1)
    os.utime(images.paths[0], ns=(1, 1))
    assert images.paths[0].stat().st_size == size
    taken = cache(images, tmp_path / "cache", "set").take(torch.tensor([0]))
    assert torch.equal(taken[0], opened(images.paths[0]))


def test_cache_tells_folders_with_equal_names_and_sizes_apart(tmp_path):
    one, two = (bitmap(tmp_path / name / "cat" / "0.bmp", i) for i, name in enumerate("ab"))
    os.utime(one.paths[0], ns=(1, 1))
    os.utime(two.paths[0], ns=(1, 1))
    cached = [cache(images, tmp_path / "cache", "set") for images in (one, two)]
    first = torch.tensor([0])
    assert not torch.equal(cached[0].take(first), cached[1].take(first))


def test_cache_goes_on_after_it_was_cut_off(files, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", stop)
        with pytest.raises(KeyboardInterrupt):
            cache(files, tmp_path / "cache", "set")
    assert torch.equal(cache(files, tmp_path / "cache", "set").take(INDEX), files.take(INDEX))


def test_cached_images_can_be_changed_without_harm(files, tmp_path):
    cached = cache(files, tmp_path / "cache", "set")
    cached.take(INDEX).zero_()
    assert torch.equal(cached.take(INDEX), files.take(INDEX))
    assert isinstance(cached, CachedImages)


def test_corrupt_image_is_named_in_one_line(files, tmp_path):
    whole = files.paths[3].read_bytes()
    for content in (b"", b"no image at all", whole[: len(whole) // 2]):
        files.paths[3].write_bytes(content)
        with pytest.raises(ClbenchError, match=r"3\.png cannot be read as an image") as caught:
            files.take(torch.arange(5))
        assert "\n" not in str(caught.value)
    with pytest.raises(ClbenchError, match=r"3\.png.*replace or remove it"):
        cache(files, tmp_path / "cache", "set")
    assert not list((tmp_path / "cache").glob("set*[0-9a-f].npy"))


def test_header_that_claims_a_huge_image_is_a_corrupt_image(tmp_path):
    path = bitmap(tmp_path / "a.bmp", 0).paths[0]
    content = bytearray(path.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(ClbenchError, match=r"a\.bmp cannot be read as an image"):
        decode(path, 8, "crop")


def test_unwritable_cache_folder(files, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ClbenchError, match=r"the image cache .*cache cannot be written"):
        cache(files, tmp_path / "cache", "set")


def test_crop_keeps_the_centre_square(tmp_path):
    array = np.zeros((8, 20, 3), dtype=np.uint8)
    array[:, 6:14] = pixels(0, 8, 8, 3)
    Image.fromarray(array).save(tmp_path / "wide.png")
    assert np.array_equal(decode(tmp_path / "wide.png", 8, "crop"), array[:, 6:14])
    Image.fromarray(array.transpose(1, 0, 2)).save(tmp_path / "high.png")
    found = decode(tmp_path / "high.png", 8, "crop")
    assert np.array_equal(found, array[:, 6:14].transpose(1, 0, 2))


@pytest.mark.parametrize("shape", [(24, 24), (24, 30), (31, 24), (7, 24), (5, 5), (100, 3)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_every_shape_becomes_a_square(tmp_path, shape, fit, kind):
    Image.fromarray(pixels(0, *shape, 3)).save(tmp_path / f"image.{kind}")
    found = decode(tmp_path / f"image.{kind}", 12, fit)
    assert (found.shape, found.dtype) == ((12, 12, 3), np.uint8)


@pytest.mark.parametrize("shape", [(48, 64), (65, 31), (9, 200), (8, 8), (24, 24)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_torch_scales_as_pillow_does_but_for_the_last_digits(shape, fit):
    small = Image.fromarray(pixels(0, 6, 6, 3))
    image = small.resize(shape[::-1], Image.Resampling.BICUBIC)  # smooth, as photographs are
    ours, theirs = square(image, 24, f"{fit}-torch"), square(image, 24, fit)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype) == ((24, 24, 3), np.uint8)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.2


def test_squash_keeps_the_edges_that_crop_cuts_off(tmp_path):
    array = np.zeros((16, 64, 3), dtype=np.uint8)
    array[:, :8] = 255
    Image.fromarray(array).save(tmp_path / "image.png")
    assert decode(tmp_path / "image.png", 16, "crop").max() == 0
    assert decode(tmp_path / "image.png", 16, "squash")[:, 0].min() > 200


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_large_images_are_scaled_not_cut(tmp_path, kind):
    array = np.full((200, 300, 3), (0, 0, 255), dtype=np.uint8)
    array[:, :150] = (255, 0, 0)
    Image.fromarray(array).save(tmp_path / f"image.{kind}", quality=95)
    found = decode(tmp_path / f"image.{kind}", 20, "crop").astype(int)
    assert (found[:, :9, 0] > 230).all()
    assert (found[:, 11:, 2] > 230).all()
    assert (found[:, 11:, 0] < 25).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    array[:4] = 255
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    grey = Image.fromarray(array).convert("L" if mode == "LA" else "RGB")
    grey.convert(mode).save(path)
    assert np.array_equal(decode(path, 8, "crop"), array)


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    grey = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "image.png")
    found = decode(tmp_path / "image.png", 8, "crop")
    assert np.array_equal(found, np.repeat(grey[..., None] // 256, 3, axis=2))


def test_arrays_become_channels_first():
    grey, colour = pixels(0, 3, 6, 6), pixels(1, 3, 6, 6, 3)
    assert torch.equal(from_array(grey).tensor, torch.from_numpy(grey)[:, None])
    assert torch.equal(from_array(colour).tensor, torch.from_numpy(colour).permute(0, 3, 1, 2))
    assert from_array(colour).tensor.is_contiguous()


def test_arrays_of_the_wanted_size_stay_as_they_are():
    colour = pixels(0, 3, 6, 6, 3)
    assert torch.equal(from_array(colour, 6).tensor, from_array(colour).tensor)


@pytest.mark.parametrize("size", [3, 9])
def test_arrays_are_scaled(size):
    flat = np.broadcast_to(np.array([0, 200, 255], dtype=np.uint8), (2, 6, 5, 3))
    found = from_array(flat, size).tensor
    assert found.dtype == torch.uint8
    assert torch.equal(
        found, torch.tensor([0, 200, 255], dtype=torch.uint8).view(3, 1, 1).expand(2, 3, size, size)
    )
    ramp = np.repeat(np.linspace(0, 240, 12).astype(np.uint8)[:, None], 12, axis=1)[None]
    column = from_array(ramp, size).tensor[0, 0, :, 0].float()
    assert (column.diff() > 0).all()
    assert column.mean() == pytest.approx(120, abs=3)
