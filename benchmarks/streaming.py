"""Images per second from files and from the cache on disk, and the memory that large data takes.

    python benchmarks/streaming.py [--images 400] [--workers 2] [--clock cpu]

Three things, each against its plain counterpart in turns:

- training batches straight from JPEG files (`images.keep: files`), scaled by Pillow and by torch,
  against torchvision's ImageFolder with the same scaling in a DataLoader of as many processes;
- batches from the cache on disk against batches from a tensor in memory;
- the peak memory of a pass over a data set and over one eight times as large, each in a process of
  its own: from files, from tar shards, and from the caches of both.

The photographs are parts of the two that come with scikit-learn. `--clock cpu` counts the
processor time of all processes in place of the time on the wall, for a machine that is not idle.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from pairs import Pair, show, take_turns
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms as tv
from torchvision.datasets import ImageFolder

from clbench.data.batches import Batches, Examples, Split
from clbench.data.cache import cache
from clbench.data.images import FileImages, Images, TensorImages
from clbench.streams import STREAMS, Storage

BATCH, SIDE = 64, 256
#: Width and height of the photographs: as most of ImageNet's, and as a camera's.
SHAPES = {"500 x 375": (500, 375), "2000 x 1500": (2000, 1500)}
#: Bytes of peak memory that an image more may take, of 12,288 of its pixels: what is known of it,
#: and of a file its path.
LEAN = {"image_folder": 1500, "shards": 500}


def photographs(folder: Path, shape: tuple[int, int], count: int) -> list[Path]:
    """JPEG files of a class each, `folder/<class>/<number>.jpg`, of two classes."""
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        whole = Image.fromarray(load_sample_images().images[number % 2])
        left, top = random.integers(0, 140), random.integers(0, 52)
        path = folder / str(number % 2) / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = whole.crop((left, top, left + 500, top + 375))
        part.resize(shape, Image.Resampling.BICUBIC).save(path, quality=92)
        paths.append(path)
    return sorted(paths)


def timed(clock: str, work: Callable[[], object]) -> float:
    """Seconds of the work, of the wall or of the processor; those of children that ended count."""

    def now() -> float:
        if clock == "wall":
            return time.perf_counter()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + ended.ru_utime + ended.ru_stime

    began = now()
    work()
    return now() - began


def epoch(images: Images, workers: int) -> Callable[[], None]:
    """One epoch of training batches."""
    count = len(images)
    split = Split(images, torch.arange(count), torch.zeros(count, dtype=torch.int64))
    batches = Batches(Examples(split), BATCH, (0,), workers)

    def work() -> None:
        assert sum(len(batch.images) for batch in batches) == count

    return work


def loaded(folder: Path, options: argparse.Namespace, count: int) -> Callable[[], None]:
    """The same of ImageFolder, as bytes. Its processes stay, unless they must end to be counted."""
    usual = tv.Compose(
        [
            tv.Resize(SIDE, tv.InterpolationMode.BICUBIC),
            tv.CenterCrop(SIDE),
            tv.PILToTensor(),
        ]
    )
    loader = DataLoader(
        ImageFolder(folder, usual),
        BATCH,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.clock == "wall",
    )

    def work() -> None:
        assert sum(len(images) for images, _ in loader) == count

    return work


def rates(folder: Path, options: argparse.Namespace) -> list[Pair]:
    """Files against ImageFolder, the cache against memory."""
    pairs = []
    for name, shape in SHAPES.items():
        count = options.images // (1 if shape[0] < 1000 else 4)
        paths = photographs(folder / name, shape, count)
        theirs = loaded(folder / name, options, count)
        for fit, scaled in (("crop", "Pillow"), ("crop-torch", "torch")):
            files = FileImages(paths, SIDE, fit)
            files.digests()
            ours = epoch(files, options.workers)
            seconds = take_turns(
                partial(timed, options.clock, ours),
                partial(timed, options.clock, theirs),
                options.rounds,
            )
            what = f"{name} to {SIDE}, by {scaled}"
            pairs.append(Pair(what, *seconds, count, "image", at_least=1.0))
    files = FileImages(sorted((folder / "500 x 375").rglob("*.jpg")), SIDE, "crop-torch")
    kept = cache(files, folder / "cache", "speed")
    memory = TensorImages(kept.in_memory())  # checksums are looked at here, once
    seconds = take_turns(
        partial(timed, options.clock, epoch(kept, 0)),
        partial(timed, options.clock, epoch(memory, 0)),
        4 * options.rounds,
    )
    what = "cache on disk, against memory"
    return [*pairs, Pair(what, *seconds, len(files), "image", at_most=1.15)]


def write_large(folder: Path, count: int) -> None:
    """Small images of two classes, as files and in shards of a thousand."""
    random = np.random.default_rng(0)
    for start in range(0, count, 1000):
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / "shards" / f"{start:06}.tar", "w") as shard:
            for number in range(start, min(start + 1000, count)):
                made = io.BytesIO()
                Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
                    made, "JPEG"
                )
                label = number % 2
                path = folder / "files" / str(label) / f"{number:06}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(made.getvalue())
                for ending, content in (
                    ("jpg", made.getvalue()),
                    ("cls", str(label).encode()),
                ):
                    member = tarfile.TarInfo(f"{number:06}.{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def passed_over(kind: str, keep: str, folder: Path) -> int:
    """Build a stream and take one epoch; the peak of memory from here on, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    where = {"image_folder": "files", "shards": "shards"}[kind]
    config = STREAMS[kind].model_validate({"name": kind, "train": str(folder / where)})
    stream = config.build(folder / "data", Storage(size=64, stored=64, keep=keep, workers=2))
    task = stream.tasks[0]
    stream.open(task, past=False)
    batches = Batches(Examples(task.train), BATCH, (0,), 2)
    assert sum(len(batch.images) for batch in batches) == len(task.train)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def growth(folder: Path, count: int) -> bool:
    """Print what an image more takes of memory; returns whether that is little."""
    write_large(folder / "small", count)
    write_large(folder / "large", 8 * count)
    held = True
    for kind in ("image_folder", "shards"):
        for keep in ("files", "disk"):
            peaks = []
            for size in ("small", "large"):
                with get_context("fork").Pool(1) as pool:
                    peaks.append(pool.apply(passed_over, (kind, keep, folder / size)))
            each = (peaks[1] - peaks[0]) / (7 * count)
            held &= each <= LEAN[kind]
            print(
                f"{kind}, keep: {keep}: peak {peaks[0] / 1e6:,.0f} MB at {count:,} images, "
                f"{peaks[1] / 1e6:,.0f} MB at {8 * count:,}: {each:,.0f} bytes an image, goal "
                f"{LEAN[kind]:,}: {'holds' if each <= LEAN[kind] else 'MISSED'}",
                flush=True,
            )
    return held


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4, help="pairs to measure")
    parser.add_argument("--images", type=int, default=400, help="photographs; a quarter of large")
    parser.add_argument(
        "--many",
        type=int,
        default=5000,
        help="images of the small data set; 2,000 and more fill what is fetched ahead",
    )
    parser.add_argument("--workers", type=int, default=2, help="threads, and processes of theirs")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        held = growth(Path(folder) / "growth", options.many)  # first: forks want a small process
        code = show(rates(Path(folder) / "rates", options), "its counterpart")
    return code or int(not held)


if __name__ == "__main__":
    sys.exit(main())
