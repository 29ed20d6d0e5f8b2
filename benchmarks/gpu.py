"""What a run takes on a GPU: steps, evaluation, augmentation, transfers, memory, and waits.

    python benchmarks/gpu.py                       # ResNet-18 at batch 64, ViT-B/16 at batch 128
    python benchmarks/gpu.py steps waits --networks vit --rounds 20
    python benchmarks/gpu.py --accelerator cpu     # tries the program; its figures mean nothing

Runs are in bf16-mixed on images of 224 × 224 that lie on the GPU; what they are compared with is a
loop without any clbench on the same images, in the same process and in turns. Every clock is read
when the GPU has done its work.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from bare import HALF, BareLoop, Bench, Case, after_steps
from pairs import Pair, lacks_gpu, show, take_turns
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torchvision.transforms import v2
from waits import count

from clbench.data.batches import Batches, Examples, Split
from clbench.data.images import Images
from clbench.data.transforms import DRAWS, Augment, Transform
from clbench.estimate import estimate
from clbench.machine import reset_peak

#: Goals: ours / a bare loop's; waits of a step, on average; an estimate / what was taken.
STEP, EVALUATION, WAITS, MEMORY = 1.05, 1.10, 0.1, (1 / 1.2, 1.2)
BLOCK = 10  # steps from one look at the clock to the next


CASES = {
    "gpu": {
        "resnet18": Case("resnet18", 224, 64),
        "vit": Case("vit_base_patch16_224", 224, 128),
    },
    "cpu": {"resnet18": Case("tiny_cnn", 16, 64), "vit": Case("tiny_vit", 16, 128)},
}


def steps(bench: Bench) -> list[Pair]:
    """Training steps against the bare loop's, a block of each in turns."""
    bare, ours, theirs = BareLoop(bench), list[float](), list[float]()
    began = 0.0

    def act(step: int) -> None:
        nonlocal began
        if step % BLOCK:
            return
        now = bench.wait()
        bare.steps(BLOCK)
        after = bench.wait()
        if step > BLOCK:  # the first block warms up
            ours.append(now - began)
            theirs.append(after - now)
        began = bench.wait()

    with after_steps(act):
        bench.run(bench.recipe(BLOCK * (bench.rounds + 1)))
    return [Pair(f"step, {bench.case.name}", ours, theirs, BLOCK, "step", at_most=STEP)]


def evaluation(bench: Bench) -> list[Pair]:
    """Accuracy on 2,048 images against a bare loop's."""
    setup, bare = bench.run(bench.recipe(1)).setup, BareLoop(bench)
    test, stream = setup.stream.tasks[1].test, setup.stream
    chosen = torch.arange(2048) % len(test)
    split = Split(test.images, test.index[chosen], test.labels[chosen])
    owner, seen = stream.task_of_class, torch.ones(len(stream.class_names), dtype=torch.bool)
    model, evaluator, index = setup.network.model, setup.meter.evaluator, chosen.to(bench.device)

    def ours() -> None:
        evaluator.accuracy(model, [split], owner, seen)

    found = take_turns(ours, lambda: bare.evaluate(index, 256), bench.rounds)
    name = f"evaluation, {bench.case.backbone}"
    return [Pair(name, *found, 2048, "image", at_most=EVALUATION)]


def augmentation(bench: Bench) -> list[Pair]:
    """A batch, each image by numbers of its own, against torchvision's v2 image by image."""
    size, batch = bench.case.size, bench.case.batch
    shape = (batch, 3, size, size)
    images = torch.randint(256, shape, dtype=torch.uint8, device=bench.device)
    draws = torch.rand(batch, DRAWS, device=bench.device)
    flip, crop = v2.RandomHorizontalFlip(), v2.RandomResizedCrop(size, antialias=False)
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(HALF, HALF)]
    pairs = []
    for what, augment, usual in (
        ("pad, flip", Augment(crop="pad", flip=True), [v2.RandomCrop(size, padding=4), flip]),
        ("resized crop, flip", Augment(crop="resized", flip=True), [crop, flip]),
    ):
        transform, other = Transform(size, HALF, HALF, augment), v2.Compose([*usual, *end])

        def ours(transform: Transform = transform) -> None:
            transform.train(images, draws)
            bench.wait()

        def theirs(other: v2.Compose = other) -> None:
            torch.stack([other(image) for image in images])
            bench.wait()

        found = take_turns(ours, theirs, bench.rounds)
        rate = batch / sorted(found[0])[len(found[0]) // 2]
        print(f"{what}, {size} × {size}, batch {batch}: {rate:,.0f} images/s on the device")
        pairs.append(Pair(f"{what}, {size} × {size}", *found, batch, "image"))
    return pairs


class Taken(Images):
    """Images that are not on the device; final."""

    def __init__(self, pool: Tensor) -> None:
        self.pool = pool

    def __len__(self) -> int:
        return len(self.pool)

    def take(self, index: Tensor) -> Tensor:
        """See :meth:`Images.take`."""
        return self.pool[index]

    def fingerprint(self) -> str:
        """Nobody asks."""
        return ""


def transfers(bench: Bench) -> list[Pair]:
    """Batches from the host, pinned and not waited for, against plain copies, before equal work."""
    size, batch, device = bench.case.size, bench.case.batch, bench.device
    pool = torch.randint(256, (8 * batch, 3, size, size), dtype=torch.uint8)
    split = Split(Taken(pool), torch.arange(len(pool)), torch.zeros(len(pool), dtype=torch.int64))
    square = torch.rand(2048 if device.type == "cuda" else 64, device=device).diag()

    def epoch(place: torch.device | None) -> None:
        for got in Batches(Examples(split), batch, (0,), workers=4, device=place):
            got.images.to(device), got.labels.to(device), got.draws.to(device)
            for _ in range(20):
                square @ square
        bench.wait()

    found = take_turns(partial(epoch, device), partial(epoch, None), bench.rounds)
    return [Pair(f"transfers, {size} × {size}", *found, len(pool), "image", at_most=1.0)]


def memory(bench: Bench) -> bool:
    """What ``--dry_run`` says of a run's peak against what it is; whether they are near."""
    recipe = bench.recipe(4)
    said = estimate(recipe).memory["peak"]
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    reset_peak()
    peak = bench.run(recipe).recorder.record.tasks[-1].peak_memory_bytes
    near = MEMORY[0] <= said / peak <= MEMORY[1]
    print(
        f"memory, {bench.case.name}: {said / 1e9:.2f} GB said, {peak / 1e9:.2f} GB taken: "
        f"{said / peak:.2f}× (goal {MEMORY[0]:.2f} to {MEMORY[1]:.2f}) "
        f"{'holds' if near else 'MISSED'}"
    )
    return near


def waits(bench: Bench) -> bool:
    """What a block of steps waits for, from batch to batch; whether next to nothing."""
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA][: 1 + (bench.device.type == "cuda")]
    seen = profile(activities=kinds)

    def act(step: int) -> None:
        if step == BLOCK:
            bench.wait()
            seen.start()
        elif step == 2 * BLOCK:
            seen.stop()

    with after_steps(act):
        bench.run(bench.recipe(3 * BLOCK))
    found = count(seen.events())
    times = {kind: number / BLOCK for kind, number in found.items()}
    few = times.get("waits", 0.0) <= WAITS
    told = ", ".join(f"{kind} {number:.1f}" for kind, number in sorted(times.items())) or "nothing"
    print(f"waits, {bench.case.name}: a step has {told} (goal: waits ≤ {WAITS}) "
          f"{'holds' if few else 'MISSED'}")  # fmt: skip
    return few


TIMED = {
    "steps": steps,
    "evaluation": evaluation,
    "augmentation": augmentation,
    "transfers": transfers,
}
TOLD = {"memory": memory, "waits": waits}


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(TOLD | TIMED))
    parser.add_argument("--networks", nargs="*", default=["resnet18", "vit"], choices=CASES["gpu"])
    parser.add_argument("--accelerator", default="gpu", choices=["gpu", "cpu"])
    parser.add_argument("--rounds", type=int, default=10, help="pairs to measure")
    options = parser.parse_args()
    if lacks_gpu(options.accelerator):
        return 0
    if unknown := set(options.parts) - {*TOLD, *TIMED}:
        parser.error(f"{', '.join(unknown)}: parts are {', '.join(TOLD | TIMED)}")
    pairs, held = list[Pair](), []
    for name in options.networks:
        case = CASES[options.accelerator][name]
        for part in options.parts or [*TOLD, *TIMED]:
            with tempfile.TemporaryDirectory() as folder:
                bench = Bench(case, options.accelerator, options.rounds, Path(folder))
                if part in TOLD:
                    held.append(TOLD[part](bench))
                else:
                    pairs += TIMED[part](bench)
    code = show(pairs, "bare") if pairs else 0
    if options.accelerator == "cpu":
        print("On a CPU, with other networks: tried, not measured.")
        return 0
    print(torch.cuda.get_device_name())
    return int(bool(code) or not all(held))


if __name__ == "__main__":
    sys.exit(main())
