import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from clbench.data.transforms import DRAWS, Augment, Transform, crop, jitter, resized_crop

MEAN, STD = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4)


def images(count=6, channels=3, size=8, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, size, size), generator=random, dtype=torch.uint8)


def draws(count=6, seed=1):
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed))


def normalised(pixels):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def transform(size=8, **augment):
    return Transform(size, MEAN, STD, Augment(**augment))


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_input_is_normalised():
    close(transform().test(images()), normalised(images()))


def test_grey_images_are_spread_over_the_channels():
    grey = images(channels=1)
    close(transform().test(grey), normalised(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(("stored", "start"), [(10, 1), (11, 1), (8, 0)])
def test_centre_is_cut_out_of_larger_images(stored, start):
    pixels = images(size=stored)
    wanted = pixels[:, :, start : start + 8, start : start + 8]
    close(transform().test(pixels), normalised(wanted))


def test_smaller_images_are_enlarged():
    pixels = images(size=4)
    wanted = F.interpolate(pixels.float(), (8, 8), mode="bicubic")
    close(transform().test(pixels), normalised(wanted))


def test_no_augmentation_is_the_test_input():
    assert torch.equal(transform().train(images(), draws()), transform().test(images()))


@pytest.mark.parametrize("rule", ["pad", "random"])
def test_crops_that_leave_no_choice_change_nothing(rule):
    found = transform(crop=rule, padding=0).train(images(), draws())
    assert torch.equal(found, transform().test(images()))


def test_flip_mirrors_the_samples_whose_draw_is_low():
    chosen = draws()
    chosen[:, 0] = torch.tensor([0.0, 0.49, 0.5, 0.99, 0.2, 0.8])
    wanted = torch.stack(
        [x.flip(-1) if u < 0.5 else x for x, u in zip(images(), chosen[:, 0], strict=True)]
    )
    close(transform(flip=True).train(images(), chosen), normalised(wanted))


def slow_crop(pixels, size, chosen):
    places, cut = pixels.shape[-1] - size + 1, []
    for image, row in zip(pixels, chosen.tolist(), strict=True):
        top, left = int(row[1] * places), int(row[2] * places)
        cut.append(image[:, top : top + size, left : left + size])
    return torch.stack(cut)


def test_padded_crop_against_a_loop():
    padded = F.pad(images(), [2] * 4)
    wanted = slow_crop(padded, 8, draws())
    close(transform(crop="pad", padding=2).train(images(), draws()), normalised(wanted))


def test_random_crop_against_a_loop():
    pixels = images(size=13)
    wanted = slow_crop(pixels, 8, draws())
    close(transform(crop="random").train(pixels, draws()), normalised(wanted))


def test_crops_reach_every_place_and_no_further():
    chosen = draws(4)
    most = 1 - 2**-24  # the largest number that torch.rand gives
    chosen[:, 1] = torch.tensor([0.0, 0.0, most, most])
    chosen[:, 2] = torch.tensor([0.0, most, 0.0, most])
    pixels = images(4, size=40)
    found = crop(pixels, 8, chosen)
    corners = [(0, 0), (0, 32), (32, 0), (32, 32)]
    for image, cut, (top, left) in zip(pixels, found, corners, strict=True):
        assert torch.equal(cut, image[:, top : top + 8, left : left + 8])


def bilinear(image, y, x):
    """The value at a place, in pixels from the upper left corner; borders repeat."""
    height, width = image.shape[-2:]
    y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * image[:, top, left] + dx * image[:, top, right]
    lower = (1 - dx) * image[:, bottom, left] + dx * image[:, bottom, right]
    return (1 - dy) * upper + dy * lower


def slow_resized(pixels, size, scale, chosen):
    side, results = pixels.shape[-1], []
    for image, row in zip(pixels.double(), chosen.double().tolist(), strict=True):
        area = scale[0] + (scale[1] - scale[0]) * row[3]
        aspect = (4 / 3) ** (2 * row[4] - 1)
        width = min(1, math.sqrt(area * aspect)) * side
        height = min(1, math.sqrt(area / aspect)) * side
        top, left = (side - height) * row[1], (side - width) * row[2]
        result = torch.empty(image.shape[0], size, size)
        for i in range(size):
            for j in range(size):
                y, x = top + (i + 0.5) * height / size, left + (j + 0.5) * width / size
                result[:, i, j] = bilinear(image, y, x)
        results.append(result)
    return torch.stack(results)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.3, 0.5), (1.0, 1.0)])
def test_resized_crop_against_a_loop(scale):
    pixels = images(size=9)
    found = resized_crop(pixels, 5, scale, draws())
    wanted = slow_resized(pixels, 5, scale, draws())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-2)


def test_resized_crop_of_everything_is_the_image():
    chosen = draws()
    chosen[:, 4] = 0.5  # aspect ratio 1
    found = transform(crop="resized", scale=(1, 1)).train(images(), chosen)
    torch.testing.assert_close(found, transform().test(images()), rtol=1e-4, atol=1e-4)


def slow_jitter(pixels, strength, chosen):
    results = []
    for image, row in zip(pixels, chosen.tolist(), strict=True):
        brightness, contrast, saturation = (1 + strength * (2 * u - 1) for u in row[5:8])

        def grey(x):
            return x if len(x) == 1 else (0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2])[None]

        image = (image * brightness).clamp(0, 1)
        mean = grey(image).mean()
        image = (mean + contrast * (image - mean)).clamp(0, 1)
        image = (grey(image) + saturation * (image - grey(image))).clamp(0, 1)
        results.append(image)
    return torch.stack(results)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_jitter_against_a_loop(channels, strength):
    pixels = images(channels=channels).float() / 255
    close(jitter(pixels, strength, draws()), slow_jitter(pixels, strength, draws()))


def test_jitter_without_strength_is_the_image():
    pixels = images().float() / 255
    close(jitter(pixels, 0.0, draws()), pixels)


def test_jitter_leaves_the_stored_images_alone():
    pixels = images()
    transform(jitter=0.8, flip=True, crop="pad").train(pixels, draws())
    assert torch.equal(pixels, images())


EVERYTHING = {"flip": True, "crop": "pad", "jitter": 0.5}


@pytest.mark.parametrize(
    "rules", [EVERYTHING, EVERYTHING | {"crop": "resized"}, EVERYTHING | {"crop": "random"}]
)
def test_every_sample_is_augmented_by_its_own_draws(rules):
    pixels, chosen = images(size=12), draws()
    together = transform(**rules).train(pixels, chosen)
    for i in range(len(pixels)):
        alone = transform(**rules).train(pixels[i : i + 1], chosen[i : i + 1])
        close(together[i], alone[0])
    same = transform(**rules).train(pixels[:1].expand(6, -1, -1, -1), chosen)
    assert all(not torch.equal(same[0], other) for other in same[1:])


@pytest.mark.parametrize("rule", ["none", "pad", "random", "resized"])
@pytest.mark.parametrize("stored", [6, 8, 12])
@pytest.mark.parametrize("channels", [1, 3])
def test_input_has_the_size_of_the_network(rule, stored, channels):
    pixels = images(channels=channels, size=stored)
    found = transform(crop=rule, flip=True, jitter=0.2).train(pixels, draws())
    assert (found.shape, found.dtype) == ((6, 3, 8, 8), torch.float32)


@pytest.mark.parametrize("scale", [(-0.5, 1.0), (0.0, 1.0), (0.8, 0.2), (0.5, 1.5)])
def test_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValidationError, match=r"must be two numbers 0 < smallest <= largest <= 1"):
        Augment(scale=scale)
