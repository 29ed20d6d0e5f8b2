"""The flagship config as it is shipped, on files in the real formats, made small."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import writers
from PIL import Image
from timm.data import ImageNetInfo
from torchvision import datasets as tv

from clbench.cli import main
from clbench.record.record import Record

COARSE, IMAGES = 167, 8
SMALLER = {
    "stream.tasks": 2,
    "epochs": 1,
    "batch_size": 4,
    "eval_every": 2,
    "trainer.precision": "32-true",  # bf16 is slow on a CPU
    "checkpoints": "none",
}


def write_data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-100's pickles with ten classes of two images, six ImageNet classes of eight images."""
    draw = np.random.default_rng(0)
    for part in ("train_list", "test_list"):
        files = [[file, None] for file, _ in getattr(tv.CIFAR100, part)]
        monkeypatch.setattr(tv.CIFAR100, part, files)
    monkeypatch.setattr(tv.CIFAR100, "meta", {**tv.CIFAR100.meta, "md5": None})
    labels = list(range(10)) * 2
    pixels = draw.integers(0, 256, (2, 20, 32, 32, 3)).astype(np.uint8)
    writers.write_cifar(
        root / "cifar-100-python",
        {"train": (pixels[0], labels), "test": (pixels[1], labels)},
        "fine_labels",
        ("meta", "fine_label_names", [f"class_{number}" for number in range(10)]),
    )
    for synset in ImageNetInfo("imagenet-1k").label_names()[::COARSE]:
        folder = root / "imagenet" / "val" / synset
        folder.mkdir(parents=True)
        for number in range(IMAGES):
            image = Image.fromarray(draw.integers(0, 256, (256, 256, 3)).astype(np.uint8))
            image.save(folder / f"{number}.JPEG")


@pytest.mark.slow
def test_the_flagship_measures_what_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ViT-B/16 of an in21k shape: by its 21,843 rows, kNN and a ridge probe, after each task."""
    write_data(tmp_path / "data", monkeypatch)
    torch.manual_seed(0)
    network = timm.create_model("vit_base_patch16_224.augreg_in21k")
    weights, run = tmp_path / "in21k.pth", tmp_path / "run"
    torch.save(network.state_dict(), weights)
    given: dict[str, Any] = {"model.weights": weights, "data_dir": tmp_path / "data", **SMALLER}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = ["--config", "split_cifar100_sfa.yaml", "--output", str(run), *words]
    assert main(command) == 0
    record = Record.load(run)
    found = json.loads((run / "summary.json").read_text())["retention"]["measures"]
    assert set(found) == {"head", "knn", "ridge"}
    for measured in found.values():
        assert len(measured["after_task"]) == len(record.tasks) == 2
        assert 0 <= measured["before"] <= 1
    report = tmp_path / "report"
    assert main(["report", str(run), "--output", str(report)]) == 0
    page = (report / "report.html").read_text()
    assert all(word in page for word in ("knn", "ridge", "kept"))
