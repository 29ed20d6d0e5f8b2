"""The files of a finished run: numbers, tables, pictures and weights."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from clbench.record import SCENARIOS, Record, write_atomic
from clbench.report.figures import figures
from clbench.report.texts import cell


def write(record: Record, board: SummaryWriter | None = None) -> None:
    """Write ``summary.json``, the CSV tables and the PNGs into the run folder.

    Args:
        record: of a finished run.
        board: TensorBoard's writer, for the figures and the run's settings and scores.
    """
    folder, summary = record.folder, record.summary()
    write_atomic(folder / "summary.json", json.dumps(summary, indent=1))
    write_atomic(folder / "accuracy_matrix.csv", _matrices(record))
    write_atomic(folder / "curves.csv", _curves(record))
    for name, figure in figures(record).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        write_atomic(folder / f"{name}.png", buffer.getvalue())
        if board is not None:
            board.add_figure(name, figure, record.tasks[-1]["last_step"])
    if board is not None:
        settings: dict[str, Any] = {
            "stream": summary["stream"],
            "methods": "+".join(summary["methods"]) or "sequential",
            "seed": summary["seed"],
        }
        results = {
            f"final/{scenario}/{name}": summary[scenario][name]
            for scenario in SCENARIOS
            for name in ("overall_performance", "backward_transfer")
            if summary[scenario][name] is not None
        }
        if summary["retention"]["change"] is not None:
            results["final/retention_change"] = summary["retention"]["change"]
        board.add_hparams(settings, results, run_name=".")


def export(record: Record, model: nn.Module) -> None:
    """Write the final weights, ``model.safetensors``, and ``load_model.py``, which loads them."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    names = json.dumps(record.run["class_names"])
    write_atomic(record.folder / "model.safetensors", save(state, {"class_names": names}))
    backbone, options = record.run["backbone"], dict(record.run["options"])
    options["num_classes"] = len(record.run["class_names"])
    if any("pos_embed" in name for name in state):
        options["img_size"] = record.run["size"]
    arguments = ", ".join(f"{key}={value!r}" for key, value in options.items())
    own = backbone in ("tiny_cnn", "tiny_vit")
    register = "import clbench.models  # registers the tiny backbones\n" if own else ""
    write_atomic(
        record.folder / "load_model.py",
        f'"""Load the final weights of {record.run["title"]} into timm."""\n\n'
        "from pathlib import Path\n\n"
        f"import timm\nfrom safetensors.torch import load_file\n{register}\n"
        f"model = timm.create_model({backbone!r}, {arguments})\n"
        'model.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))\n'
        "model.eval()\n",
    )


def _matrices(record: Record) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = record.run["tasks"]
    writer.writerow(["scenario", "after_task", *map(cell, names)])
    for scenario in SCENARIOS:
        for row, name in zip(record.accuracy_matrix(scenario), names, strict=True):
            writer.writerow([scenario, cell(name), *("" if np.isnan(x) else x for x in row)])
    return buffer.getvalue()


def _curves(record: Record) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["step", "task", *SCENARIOS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.curves())
    return buffer.getvalue()
