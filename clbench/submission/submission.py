"""A submission: one file of runs, checked to be one before anything is made of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from clbench.errors import ClbenchError
from clbench.record import reading, trust
from clbench.record.record import Record
from clbench.report.gather import UNREADABLE, Run
from clbench.submission import about, archive
from clbench.submission.about import About
from clbench.text.numbers import counted
from clbench.text.texts import cut_line

#: What a submission is called.
SUFFIX = ".clbench.zip"
#: Runs, values and objects (of JSON) that one may hold, in all its files together.
RUNS, VALUES, OBJECTS = 2_000, 5_000_000, 300_000
RECORD, CONFIG, MACHINE, SUMMARY = _FILES = (
    "record.jsonl",
    "config.yaml",
    "environment.json",
    "summary.json",
)
_NAMES = "|".join([*map(re.escape, _FILES), r"sweep-[a-z0-9_.-]{1,100}\.json"])
_OF_A_RUN = re.compile(rf"runs/(0|[1-9]\d{{0,3}})/({_NAMES})")
_MANIFEST = re.compile(r"manifests/([0-9a-f]{64})\.json")
_PLUGIN = re.compile(r"plugins/((?:[A-Za-z_][A-Za-z0-9_]*/)*[A-Za-z_][A-Za-z0-9_.-]*\.py)")


def draw_of(run: Run) -> str:
    """What two runs have in common of which one repeats the other: recipe, seed and tasks."""
    told = [run.seed, run.stream, run.record.run.tasks, run.settings]
    return json.dumps(told, sort_keys=True)


@final
@dataclass
class Budget:
    """What may still be read of a submission before it is more than one may hold."""

    values: int = VALUES
    objects: int = OBJECTS

    def take(self, content: bytes) -> None:
        """Count the values of some JSON.

        Raises:
            ClbenchError: if they are too many.
        """
        self.values -= reading.values_in(content)
        self.objects -= content.count(b"{")
        if min(self.values, self.objects) < 0:
            what = f"{VALUES:,} values" if self.values < 0 else f"{OBJECTS:,} objects"
            raise ClbenchError(f"it holds over {what}: pack its runs into several")


@final
@dataclass(frozen=True)
class PackedRun:
    """A run as it lies in a submission.

    Attributes:
        run: as reports read it.
        summary: of its ``summary.json``; None if there is none.
        manifest: its split manifest; None if it is not there.
        config: the values of its ``config.yaml``; None if there is none.
        original_sha256: of its ``record.jsonl`` before anything was taken out.
        plugins: the code that came along with the submission, by path.
    """

    run: Run
    summary: Mapping[str, Any] | None
    manifest: Mapping[str, Any] | None
    config: Mapping[str, Any] | None
    original_sha256: str
    plugins: Mapping[str, bytes]


@final
@dataclass(frozen=True)
class Submission:
    """A file that is a submission; whether its numbers hold is for ``verify`` to say.

    Attributes:
        path: of the file.
        sha256: of the file.
        about: who submits what.
        packed: its runs, with what lies beside each record.
        plugins: the code that came along, by path; nothing of it is run.
    """

    path: Path
    sha256: str
    about: About
    packed: tuple[PackedRun, ...]
    plugins: Mapping[str, bytes]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Its runs, as reports read them."""
        return tuple(one.run for one in self.packed)

    @property
    def stem(self) -> str:
        """The file's name without what all of them end in."""
        return self.path.name.removesuffix(SUFFIX)

    @property
    def title(self) -> str:
        """What it is called."""
        return self.about.title

    @property
    def authors(self) -> tuple[str, ...]:
        """Who answer for it."""
        return tuple(self.about.authors)

    @property
    def license(self) -> str:
        """Of the records."""
        return self.about.license

    @property
    def link(self) -> str | None:
        """To code or a paper."""
        return self.about.link

    def text_of(self, number: int, name: str = RECORD) -> bytes:
        """A file of a run, as it lies in the submission: to be shown beside the numbers.

        Args:
            number: of the run, from 0.
            name: of the file.

        Raises:
            ClbenchError: if the submission is another file by now, or has no such member.
        """
        found = archive.unzipped(reading.bytes_of(self.path, archive.FILE))
        if hashlib.sha256(found.content).hexdigest() != self.sha256:
            raise ClbenchError(f"{self.path} was changed while it was read")
        if (member := f"runs/{number}/{name}") not in found.members:
            raise ClbenchError(f"{self.path} has no {member}")
        return found.read(member)


def opened(path: Path | str, content: bytes | None = None) -> Submission:
    """Read a submission; nothing is unpacked to the disk, and nothing of it is run.

    Args:
        path: of the file.
        content: what will be in it, before it is there; None: it is read.

    Raises:
        ClbenchError: if it is none, in one line with the reason.
    """
    path = Path(path)
    try:
        return _opened(path, reading.bytes_of(path, archive.FILE) if content is None else content)
    except ClbenchError as error:
        raise ClbenchError(cut_line(f"{path.name} is no submission: {error}", 600)) from error
    except OSError as error:
        raise ClbenchError(f"{path} cannot be read: {error.strerror or error}") from error
    except UNREADABLE as error:
        told = f"{type(error).__name__}: {error}"
        raise ClbenchError(cut_line(f"{path.name} is no submission: {told}", 600)) from error


def _opened(path: Path, content: bytes) -> Submission:
    found = archive.unzipped(content)
    for name in found.members:
        if name != about.NAME and not any(
            p.fullmatch(name) for p in (_OF_A_RUN, _MANIFEST, _PLUGIN)
        ):
            raise ClbenchError(f"{name!r:.100} has no place in a submission")
    if about.NAME not in found.members:
        raise ClbenchError(f"it has no {about.NAME}")
    told = about.read_about(found.read(about.NAME))
    _compare_names(told, found)
    plugins = {
        match[1]: _checked(found, told, name)
        for name in found.members
        if (match := _PLUGIN.fullmatch(name))
    }
    budget, runs, manifests = Budget(), [], dict[str, Mapping[str, Any]]()
    for name in found.members:
        if match := _MANIFEST.fullmatch(name):
            content = _checked(found, told, name)
            budget.take(content)
            manifests[match[1]] = _object(reading.json_in(content, name, strict=True), name)
    for number, original in enumerate(told.records_sha256):
        contents = _files_of(found, told, f"runs/{number}/")
        for content in contents.values():
            budget.take(content)
        runs.append(_run(number, contents, original, manifests, plugins))
    used = {one.run.record.run.split_manifest_sha256 for one in runs}
    if idle := sorted(manifests.keys() - used):
        raise ClbenchError(f"manifests/{idle[0]}.json is of no run in it")
    return Submission(path, hashlib.sha256(found.content).hexdigest(), told, tuple(runs), plugins)


def _compare_names(told: About, found: archive.Archive) -> None:
    """The list of hashes and the members must be the same names, and the runs be counted up."""
    listed, there = set(told.sha256), set(found.members) - {about.NAME}
    if odd := sorted(listed ^ there):
        where = "is in the file, but not" if odd[0] in there else "is not in the file, but"
        raise ClbenchError(f"{odd[0]!r:.100} {where} in the list of {about.NAME}")
    numbers = {int(match[1]) for name in there if (match := _OF_A_RUN.fullmatch(name))}
    if numbers != set(range(len(told.records_sha256))):
        raise ClbenchError(f"it has {counted(len(numbers), 'run')} of {len(told.records_sha256)}")
    if len(numbers) > RUNS:
        raise ClbenchError(f"{len(numbers):,} runs are more than {RUNS:,}: pack them into several")


def _checked(found: archive.Archive, told: About, name: str) -> bytes:
    """A member, which must be the one that is listed."""
    content = found.read(name)
    if hashlib.sha256(content).hexdigest() != told.sha256[name]:
        raise ClbenchError(f"{name} has another SHA-256 than {about.NAME} says")
    return content


def _files_of(found: archive.Archive, told: About, folder: str) -> dict[str, bytes]:
    members = [name for name in found.members if name.startswith(folder)]
    return {name.removeprefix(folder): _checked(found, told, name) for name in members}


def _run(
    number: int,
    contents: Mapping[str, bytes],
    original: str,
    manifests: Mapping[str, Mapping[str, Any]],
    plugins: Mapping[str, bytes],
) -> PackedRun:
    if RECORD not in contents:
        raise ClbenchError(f"run {number} has no {RECORD}")
    try:
        return _read(Path(f"runs/{number}"), contents, original, manifests, plugins)
    except ClbenchError as error:
        raise ClbenchError(f"run {number}: {error}") from error


def _read(
    folder: Path,
    contents: Mapping[str, bytes],
    original: str,
    manifests: Mapping[str, Mapping[str, Any]],
    plugins: Mapping[str, bytes],
) -> PackedRun:
    record = trust.record_in(contents[RECORD], folder)
    _refuse_unfinished(record, contents[RECORD])
    recorded, beside = record.run.recipe, contents.get(CONFIG)
    recipe = trust.recipe_in(recorded, "the recipe in record.jsonl") if recorded else {}
    config = None
    if beside is not None:
        same = recorded is not None and beside == recorded.encode()
        config = recipe if same else _config(beside)
    recipe = recipe or config or {}
    found = {
        name: _object(reading.json_in(content, name, strict=True), name)
        for name, content in contents.items()
        if name.endswith(".json")
    }
    sweeps = {
        name.removesuffix(".json"): trust.sweep_in(values, name)
        for name, values in found.items()
        if name.startswith("sweep-")
    }
    environment = trust.environment_in(found.get(MACHINE, {}))
    run = Run(folder, record, record.summary(), recipe, environment, sweeps)
    _ = run.settings  # worked out here, where what fails concerns this file only
    manifest = manifests.get(record.run.split_manifest_sha256 or "")
    return PackedRun(run, found.get(SUMMARY), manifest, config, original, plugins)


def _config(content: bytes) -> dict[str, Any]:
    if len(content) > reading.RECIPE_BYTES:
        raise ClbenchError(f"{CONFIG} has {len(content):,} bytes: it is no recipe")
    return trust.recipe_in(content.decode(), CONFIG)


def _object(values: Any, name: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ClbenchError(f"{name} is no object")
    return values


def _refuse_unfinished(record: Record, content: bytes) -> None:
    if not record.finished or not content.endswith(b"\n"):
        raise ClbenchError("it is not finished, and so has no scores")
    if record.run.test_on == "validation":
        raise ClbenchError("it is a try of tuning, scored on validation data")
