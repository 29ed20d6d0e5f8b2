"""The run folder: what lies in it, and how a run takes possession of it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from clbench.errors import ClbenchError
from clbench.files import lock
from clbench.files.disk import SIDE, refuse_links, write_atomic
from clbench.plugins.recipes import Changed, check, told
from clbench.recipe.recipe import Recipe, parse
from clbench.recipe.yamlfile import read_mapping
from clbench.record import checkpoints
from clbench.record.same_run import Role, settings
from clbench.text.yamltext import dump

PACKAGES = (
    "clbench",
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "numpy",
    "scikit-learn",
)
#: What a run has written before it measures anything; a folder with nothing else is still free.
_FIRST = ("config.yaml", "environment.json", "split_manifest.json")
OWN = {lock.NAME, *_FIRST} | {SIDE.format(name) for name in (*_FIRST, "record.jsonl")}
#: Settings that may change while a run rests: the contents of its data are compared, and any number
#: of processes can take it over.
RESTING: tuple[Role, ...] = ("free", "place", "placement")
#: Seconds that a run which is resumed waits for the process before it to leave.
LEAVING = 60.0


def take(recipe: Recipe, output: Path | None, resume: bool, held: ExitStack) -> tuple[Path, bool]:
    """Choose the folder of a run, keep other processes out of it, then put ``config.yaml`` there.

    Args:
        recipe: of the run.
        output: the folder; default: a free one under ``runs/``, or, to resume, the newest one there
            with a run of this recipe.
        resume: whether to go on with the run in it; without one, the run begins.
        held: lets go of the folder.

    Returns:
        The folder, and whether it holds a run to go on with.

    Raises:
        ClbenchError: if ``output`` holds another run, or another process is at work in it.
    """
    with _writable(output or Path("runs")):
        found = output if output or not resume else _newest(recipe)
        if resume and found is not None and os.path.lexists(found / "config.yaml"):
            refuse_links(found)
            if checkpoints.numbers(found) and not (found / "record.jsonl").exists():
                raise ClbenchError(_without(found, "record.jsonl"))
            # A run that was requeued may start before the process it follows is quite gone.
            held.enter_context(lock.alone(found, wait=LEAVING))
            _go_on(found, recipe)
            return found, True
        if resume and found is not None and (found / "record.jsonl").exists():
            raise ClbenchError(_without(found, "config.yaml"))
        if resume:
            where = output or f"runs/{recipe.title}"
            print(f"Nothing to resume in {where}: the run begins.", flush=True)
        folder = _given(output, recipe, held) if output is not None else _free(recipe, held)
    return folder, False


def _without(folder: Path, name: str) -> str:
    way = "put that back from a copy, or choose another --output"
    return f"{folder} holds a run without its {name}: {way}"


def _given(folder: Path, recipe: Recipe, held: ExitStack) -> Path:
    """The folder that the user named, if it is free."""
    if not os.path.lexists(folder) or (folder.is_dir() and _holds(folder) <= OWN):
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
        held.enter_context(lock.alone(folder))
        if _holds(folder) <= OWN:  # still
            _put(folder, recipe)
            return folder
    raise ClbenchError(
        f"{folder} already holds another run or other files: choose another --output, or go "
        "on with the run in it by --resume"
    )


def _free(recipe: Recipe, held: ExitStack) -> Path:
    """The first folder under ``runs/`` that is no other run's; two recipes never share one."""
    for number in itertools.count(1):
        folder = Path("runs") / (recipe.title if number == 1 else f"{recipe.title}-{number}")
        with ExitStack() as taken:
            if folder.exists() and not _is_free(folder, recipe):
                continue
            folder.mkdir(parents=True, exist_ok=True)
            try:
                taken.enter_context(lock.alone(folder))
            except ClbenchError:  # another process has just taken it
                continue
            if _is_free(folder, recipe):
                _put(folder, recipe)
                held.push(taken.pop_all())
                return folder
    raise AssertionError


def _is_free(folder: Path, recipe: Recipe) -> bool:
    """Whether a folder holds nothing but what this recipe may have begun in it."""
    if not folder.is_dir() or not _holds(folder) <= OWN:
        return False
    refuse_links(folder)
    return not (folder / "config.yaml").exists() or _same(folder, recipe)


def give_back(folder: Path) -> None:
    """Take away what a run that was refused before its first record has left behind."""
    with suppress(OSError):
        if _holds(folder) <= OWN:
            for name in _holds(folder):
                (folder / name).unlink()
            folder.rmdir()


def _newest(recipe: Recipe) -> Path | None:
    """The newest folder under ``runs/`` with a run of this recipe."""
    end = re.compile(r"(-\d+)?")
    found = [
        path.parent
        for path in Path("runs").glob("*/config.yaml")
        if path.parent.name.startswith(recipe.title)
        and end.fullmatch(path.parent.name.removeprefix(recipe.title))
        and _same(path.parent, recipe)
    ]
    return max(found, key=lambda folder: (folder / "config.yaml").stat().st_mtime, default=None)


def _same(folder: Path, recipe: Recipe) -> bool:
    try:
        return not different(recipe_of(folder), recipe, ("free", "placement"))
    except ClbenchError:  # of another version, or damaged
        return False


def _holds(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClbenchError(
            f"the output folder {folder} cannot be written: {error}: make room, make it writable, "
            "or choose another --output"
        ) from error


def _put(folder: Path, recipe: Recipe) -> None:
    write_atomic(folder / "config.yaml", dump(plain(recipe)))


def _go_on(folder: Path, recipe: Recipe) -> None:
    """Refuse to go on with a run of another recipe; what may change is written down."""
    before = recipe_of(folder)  # with fields added since
    if fields := different(before, recipe):
        raise ClbenchError(
            f"{folder} holds a run of another recipe (different: {', '.join(fields)}): "
            f"resume it by `--resume --output {folder}` alone, or choose another --output"
        )
    if plain(recipe) != plain(before):
        _put(folder, recipe)


def different(one: Recipe, other: Recipe, but: Iterable[Role] = RESTING) -> list[str]:
    """The sections in which two recipes differ; settings of some roles do not count."""
    before, now = (settings(plain(recipe), but) for recipe in (one, other))
    keys = {key for key in before.keys() | now if before.get(key) != now.get(key)}
    return sorted({key.partition(".")[0] for key in keys})


def recipe_of(folder: Path) -> Recipe:
    """The recipe in a run folder.

    No plugin is loaded for it.

    Raises:
        Changed: if a plugin is not the one any more that it was run with.
        ClbenchError: if it cannot be read, or names a plugin that is not loaded.
    """
    path = folder / "config.yaml"
    try:
        recipe = parse(read_mapping(path))
        check(recipe.plugins_sha256)
        return recipe
    except ClbenchError as error:
        text, kind = str(error), Changed if isinstance(error, Changed) else ClbenchError
        raise kind(text if str(path) in text else f"{path}: {text}") from error


def plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, which :func:`clbench.recipe.recipe.parse` reads again."""
    return recipe.model_dump(mode="json")


def recipe_hash(recipe: Recipe, but: Iterable[Role] = ("free",)) -> str:
    """SHA-256 of the settings of the resolved recipe that decide the numbers.

    Args:
        recipe: the recipe.
        but: the roles of settings that are left out.
    """
    text = json.dumps(settings(plain(recipe), but), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def environment(
    recipe: Recipe, weights: dict[str, str], manifest_hash: str, device: torch.device
) -> str:
    """``environment.json``: what the run ran on, and the hashes of what went into it."""
    cuda = torch.cuda.is_available()
    return json.dumps(
        {
            "python": platform.python_version(),
            "packages": _versions(),
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
            "plugins": told(recipe.plugins_sha256),
            "split_manifest_sha256": manifest_hash,
        },
        indent=2,
    )


@cache
def _versions() -> dict[str, str]:
    """Of the packages that decide numbers, which this process has loaded."""

    def of(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "not installed"

    return {name: of(name) for name in PACKAGES}


@cache
def _git() -> dict[str, Any] | None:
    """The commit of the code that runs, asked once: it was loaded at one time.

    None where the code is no part of a repository: an installed package may lie in the folder of
    somebody else's.
    """

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parent,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
        )
        done.check_returncode()
        return done.stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
