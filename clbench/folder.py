"""The run folder: what lies in it, and how a run takes possession of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from glob import escape
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from clbench import lock
from clbench.errors import ClbenchError
from clbench.recipe import Recipe, parse
from clbench.record import write_atomic
from clbench.trainer import is_first
from clbench.yamlfile import read_mapping
from clbench.yamltext import dump

PACKAGES = (
    "clbench",
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "numpy",
    "scikit-learn",
)
#: Files that do not make a folder another run's.
OWN = {"config.yaml", lock.NAME}
#: Tells the processes that a DDP run starts which folder the first one chose.
VARIABLE = "CLBENCH_OUTPUT"


def choose(recipe: Recipe, output: Path | None, resume: bool) -> Path:
    """The folder of a run: ``output``, or a free one (the newest, to resume) under ``runs/``.

    Raises:
        ClbenchError: if ``output`` holds another run, or there is nothing to resume.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    if not is_first():  # started by srun: the first process looks after the folder
        if output is None:
            raise ClbenchError("processes that srun starts need to agree on a folder: say --output")
        return output
    if output is None:
        taken = sorted(
            (
                p.parent
                for p in Path("runs").glob(f"{escape(recipe.title)}*/config.yaml")
                if _mine(p, recipe)
            ),
            key=lambda folder: (folder / "config.yaml").stat().st_mtime,
        )
        if resume and not taken:
            raise ClbenchError(
                f"there is no run to resume under runs/{recipe.title}*: say --output"
            )
        if resume:
            return taken[-1]
        folder, number = Path("runs") / recipe.title, 1
        while (folder / "record.jsonl").exists():
            number += 1
            folder = Path("runs") / f"{recipe.title}-{number}"
        return folder
    if resume and not (output / "config.yaml").exists():
        raise ClbenchError(f"{output} holds no run to resume: there is no config.yaml in it")
    # A run that failed before its first record (data was missing, say) leaves config.yaml alone.
    if not resume and output.exists() and (not output.is_dir() or set(_names(output)) - OWN):
        raise ClbenchError(
            f"{output} already holds another run or other files: choose another --output, or go "
            "on with the run in it by --resume"
        )
    return output


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _mine(config: Path, recipe: Recipe) -> bool:
    end = config.parent.name.removeprefix(recipe.title)
    return end == "" or (end[0] == "-" and end[1:].isdigit())


def open_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make the folder and put ``config.yaml`` into it.

    Raises:
        ClbenchError: if it cannot be written, or, to resume, holds a run of another recipe.
    """
    config = folder / "config.yaml"
    if resume:
        before = plain(parse(read_mapping(config)))  # with fields added since
        now = plain(recipe)
        different = [key for key in sorted(before.keys() | now) if before.get(key) != now.get(key)]
        if different:
            raise ClbenchError(
                f"{folder} holds a run of another recipe (different: {', '.join(different)}): "
                f"resume it by `--resume --output {folder}` alone, or choose another --output"
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(config, dump(plain(recipe)))
    except OSError as error:
        raise ClbenchError(f"the output folder {folder} cannot be written: {error}") from error
    os.environ[VARIABLE] = str(folder.resolve())


def release() -> None:
    """Forget the folder of a run that is over; the next run in this process chooses anew."""
    if is_first():
        os.environ.pop(VARIABLE, None)


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, which :func:`clbench.recipe.parse` reads again."""
    return recipe.model_dump(mode="json")


def environment(weights: dict[str, str], manifest_hash: str, device: torch.device) -> str:
    """``environment.json``: what the run ran on, and the hashes of what went into it."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    cuda = torch.cuda.is_available()
    return json.dumps(
        {
            "python": platform.python_version(),
            "packages": versions,
            "platform": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(device),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            if cuda
            else [],
            "git": _git(),
            "command": sys.argv,
            "weights": weights,
            "split_manifest_sha256": manifest_hash,
        },
        indent=2,
    )


def _git() -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        where = Path(__file__).parent
        done = subprocess.run(
            ["git", *words],
            cwd=where,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
        )
        done.check_returncode()
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
