"""File systems of their own that are full, for the run folder and for data and caches."""

import os
import shutil
import subprocess

import pytest
from crash.campaign import RECIPES, Campaign, is_refused, size
from crash.outcome import differences
from PIL import Image

SIZES = 20
PAGE = 4096


@pytest.fixture
def mounted(tmp_path):
    """A folder that is a file system in memory."""
    place = tmp_path / "mounted"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "clbench", str(place)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("file systems may not be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def resize(place, room):
    subprocess.run(["mount", "-o", f"remount,size={room}", str(place)], check=True)


def photos(place):
    """A stream of two tasks of two classes each."""
    for part, count in (("train", 20), ("test", 5)):
        for label, name in enumerate("abcd"):
            (place / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.effect_noise((40, 40), 10 + 60 * label)
                image.save(place / part / name / f"{number}.png")
    return {
        "name": "image_folder",
        "train": str(place / "train"),
        "test": str(place / "test"),
        "tasks": 2,
    }


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount file systems")
@pytest.mark.parametrize("what", ["output", "data", "images"])
def test_one_line_and_then_the_same_run(forks, tmp_path, mounted, what):
    recipe = RECIPES["sfa"]
    if what == "images":  # which are decoded into a cache among the data
        recipe = recipe | {"stream": photos(tmp_path / "photos"), "images": {"size": 32}}
        recipe |= {"model": recipe["model"] | {"weights": "none"}}
    made = Campaign(forks, recipe, tmp_path)
    whole = size(tmp_path / ("whole" if what == "output" else "data")) * 6 // 5
    failures = []
    for number in range(1, SIZES + 1):
        for path in mounted.iterdir():
            shutil.rmtree(path)
        resize(mounted, room := max(PAGE, whole * number // SIZES // PAGE * PAGE))
        folder = mounted / "run" if what == "output" else tmp_path / f"run{number}"
        words = made.words(folder)
        if what != "output":
            words += ["--data_dir", str(mounted / "data")]
        ended = forks.run(words, tmp_path / "unwatched")
        told = [] if is_refused(ended) else [f"exit {ended.code}: {ended.output[-2000:]}"]
        resize(mounted, 1 << 26)
        ended = forks.run([*words, "--resume"], tmp_path / "unwatched")
        told += [f"exit {ended.code}: {ended.output[-2000:]}"] if ended.code else []
        found = [] if ended.code else differences(folder, made.whole)
        told += [line for line in found if what == "output" or "config.yaml" not in line]
        failures += [f"{room} bytes: {'; '.join(told)}"] if told else []
        print(*failures[-1:], flush=True)
    assert not failures
