"""What `--dry_run` says against what runs take: time, and the most resident memory.

    python benchmarks/dry_run.py                      # default, EfficientNet-Lite0, ResNet-18
    python benchmarks/dry_run.py vit_2 vit_16 vit_32  # ViT-B/16 at batches of 2, 16 and 32: minutes
    python benchmarks/dry_run.py cifar10 --images FOLDER   # holds train/<class>/ and test/<class>/

Each estimate and each run is a process of its own, one after the other; the imports (measured as
well) are taken off the runs' time, as estimates do not count them. Run it on an idle machine; on a
busy one `--cpu` compares seconds of the processor with one thread in place of those on the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EFFICIENTNET = ["--config", "split_digits_efficientnet.yaml"]
BACKBONE = ["--model.weights", "none", "--retention.data", "none", "--model.backbone"]
FEW = ["--stream.first_tasks", "2"]
FEW += ["--stream.train_per_class", "40", "--stream.test_per_class", "8"]
VIT = [*EFFICIENTNET, *BACKBONE, "vit_base_patch16_224", *FEW, "--images.size", "224"]
VIT += ["--optimizer.lr", "0.001", "--steps", "3", "--eval_batch_size", "32"]
CASES = {
    "default": ["--config", "default.yaml"],
    "efficientnet": EFFICIENTNET,
    "resnet18": [*EFFICIENTNET, *BACKBONE, "resnet18", "--optimizer.lr", "0.001"],
    "cifar10": [
        *("--config", "image_folder.yaml", "--images.size", "96", "--stream.tasks", "5"),
        *("--model.backbone", "tf_efficientnet_lite0", "--model.weights", "packaged"),
        *("--stream.train_per_class", "200", "--stream.test_per_class", "100", "--epochs", "1"),
    ],
    **{f"vit_{batch}": [*VIT, "--batch_size", str(batch)] for batch in (2, 16, 32, 128)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--images", type=Path, help="of cifar10: a folder with train and test")
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor")
    parser.add_argument("--estimate", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.estimate is not None:
        _estimate(given.estimate, given.cpu)
        return
    if given.cpu:
        os.environ["OMP_NUM_THREADS"] = "1"
    imports = _child(["-c", "import clbench.runner.runner, clbench.cli.cli"])[given.cpu]
    print(f"imports {imports:.1f} s")
    print(f"{'recipe':<13}{'dry run':>9}{'time':>10}{'truth':>10}{'memory':>11}{'truth':>10}")
    for name in given.cases or ("default", "efficientnet", "resnet18"):
        words = list(CASES[name])
        with tempfile.TemporaryDirectory() as folder:
            if name == "cifar10":
                words += ["--stream.train", f"{given.images}/train"]
                words += ["--stream.test", f"{given.images}/test", "--data_dir", folder]
            own = [__file__, *["--cpu"] * given.cpu, "--estimate", *words]
            *took, _, out = _child(own)
            said = json.loads(out.splitlines()[-1])
            quiet = ["--trainer.enable_progress_bar", "false", "--output", f"{folder}/run"]
            *truth, peak, _ = _child(["-m", "clbench", "train", *words, *quiet])
        print(
            f"{name:<13}{took[given.cpu] - imports:7.1f} s{said['seconds']:8.1f} s"
            f"{truth[given.cpu] - imports:8.1f} s{said['peak'] / 1e9:8.2f} GB{peak / 1e9:7.2f} GB",
            flush=True,
        )


def _estimate(words: list[str], cpu: bool) -> None:
    if cpu:
        time.perf_counter = time.process_time
    from clbench.cli.arguments import read_arguments
    from clbench.cli.cli import values
    from clbench.estimate.estimating import estimate

    made = estimate(values(read_arguments(words)))
    print(json.dumps({"seconds": made.seconds, "peak": made.memory["peak"]}))


def _child(words: list[str]) -> tuple[float, float, int, str]:
    """Run Python: seconds on the clock and of the processor, most resident bytes, what it said."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen([sys.executable, *words], stdout=log, stderr=subprocess.STDOUT)
        _, code, used = os.wait4(child.pid, 0)
        log.seek(0)
        out = log.read()
    if code:
        sys.exit(f"{' '.join(words)} failed:\n{out[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = time.monotonic() - began
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * unit, out


if __name__ == "__main__":
    main()
