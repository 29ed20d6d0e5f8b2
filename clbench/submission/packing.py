"""``clbench pack``: run folders → one file to hand over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from clbench import __version__
from clbench.errors import ClbenchError
from clbench.files.abandoned import write_apart
from clbench.files.disk import to_json, writing_to
from clbench.recipe.redacting import Redactor, own_names
from clbench.record import reading
from clbench.report.gather import UNREADABLE, Run, read_run, reason_of
from clbench.report.places import run_folders, sweep_files
from clbench.submission import about, archive
from clbench.submission.about import About
from clbench.submission.attached import plugins_of
from clbench.submission.submission import (
    CONFIG,
    MACHINE,
    RECORD,
    SUFFIX,
    SUMMARY,
    Submission,
    draw_of,
    opened,
)
from clbench.text.numbers import counted
from clbench.text.texts import cut_line

#: An environment that lies beside a whole study is at most so many folders above its runs.
_HIGHEST = 4
#: In such an environment, what is said of one of its runs alone.
_OF_ONE = ("command", "weights", "split_manifest_sha256", "git", "plugins")


@final
@dataclass(frozen=True)
class _Found:
    """A run to be packed."""

    run: Run
    content: bytes


def pack(
    places: Iterable[Path | str],
    output: Path | str,
    title: str,
    authors: Sequence[str],
    *,
    contact: str | None = None,
    license: str = about.LICENSE,
    link: str | None = None,
    with_plugins: bool = False,
    skip_unfinished: bool = False,
) -> Submission:
    """Put runs into one file: records, recipes, environments, splits, scores; no weights.

    The same runs give the same bytes, by whatever names and in whatever order.

    Args:
        places: run folders, or folders that hold some.
        output: the file; its name ends in ``.clbench.zip``.
        title: of the submission.
        authors: who answer for it.
        contact: how to reach them.
        license: of the records.
        link: to code or a paper.
        with_plugins: put the code of plugins in too.
        skip_unfinished: leave out runs that are not finished; else they are refused.

    Returns:
        The submission, as it is read; ``about.taken_out`` says what was taken out.

    Raises:
        ClbenchError: for runs that cannot be submitted, or what may not be said of them.
    """
    output = Path(output)
    if not output.name.endswith(SUFFIX) or output.name == SUFFIX:
        raise ClbenchError(f"--output {output}: a submission is called NAME{SUFFIX}")
    told = {"contact": contact, "license": license, "link": link}
    given = {"title": title, "authors": list(authors), **told}
    _about({**given, "records_sha256": ["0" * 64], "sha256": {}})  # refused before the work
    found = _gathered([Path(place) for place in places], skip_unfinished)
    redactor = Redactor(own_names())
    members: dict[str, bytes] = {}
    for number, one in enumerate(found):
        for name, content in _files(one, redactor).items():
            members[f"runs/{number}/{name}" if "/" not in name else name] = content
    if with_plugins:
        members |= plugins_of([one.run.recipe for one in found])
    made = _about(
        {
            **given,
            "taken_out": list(redactor.lines()),
            "records_sha256": [hashlib.sha256(one.content).hexdigest() for one in found],
            "sha256": {name: hashlib.sha256(members[name]).hexdigest() for name in sorted(members)},
        }
    )
    text = to_json(made.model_dump(), indent=1) + "\n"
    whole = archive.zipped({about.NAME: text.encode(), **dict(sorted(members.items()))})
    packed = opened(output, whole)  # before it takes the place of another
    with writing_to(output.parent, "pack again"):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_apart(output, whole)
    return packed


def _about(values: Mapping[str, Any]) -> About:
    try:
        return About.model_validate({"clbench": __version__, **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = f"--{first['loc'][0]}"
        raise ClbenchError(
            cut_line(
                f"{option} {first['input']!r:.80}: {first['msg'].removeprefix('Value error, ')}"
            )
        ) from error


def _gathered(places: Sequence[Path], skip_unfinished: bool) -> list[_Found]:
    """The runs to pack, in an order that follows from what they are.

    Raises:
        ClbenchError: for the first run that cannot be submitted.
    """
    found, skipped, known = list[_Found](), 0, set[Path]()
    for place in places:
        for folder in [one for one in run_folders([place]) if one not in known]:
            known.add(folder)
            run = _read(folder)
            if run is None or not run.finished:
                if not skip_unfinished:
                    raise ClbenchError(
                        f"{folder} is not finished: go on with --resume --output {folder}, or "
                        "leave such runs out by --skip_unfinished"
                    )
                skipped += 1
                continue
            if run.is_try:
                raise ClbenchError(
                    f"{folder} is a try of tuning, scored on validation data: name the folder of "
                    "the runs that were tested"
                )
            content = reading.content_of(folder / RECORD)
            found.append(_Found(run, content))
    if not found:
        told = f"; {skipped} are not finished" if skipped else ""
        raise ClbenchError(f"there are no runs in {', '.join(map(str, places))}{told}")
    if skipped:
        print(f"Left out, as not finished: {counted(skipped, 'run')}.", flush=True)
    found.sort(key=lambda one: (one.run.record.run.title, one.run.seed, one.content))
    _refuse_twice(found)
    return found


def _read(folder: Path) -> Run | None:
    try:
        run, passed_over = read_run(folder)
    except (ClbenchError, *UNREADABLE) as error:
        raise ClbenchError(cut_line(f"{folder} cannot be read: {reason_of(error)}")) from error
    if passed_over:
        raise ClbenchError(cut_line(f"{folder} cannot be packed: {passed_over[0]}"))
    return run


def _refuse_twice(found: Sequence[_Found]) -> None:
    known: dict[str, Run] = {}
    for one in found:
        run = one.run
        if (other := known.setdefault(draw_of(run), run)) is not run:
            raise ClbenchError(
                f"{run.folder} repeats the recipe and the seed of {other.folder}: leave one out"
            )


def _files(one: _Found, redactor: Redactor) -> dict[str, bytes]:
    """What of a run is packed, by the name in its folder, or, of a manifest, in the file."""
    folder = one.run.folder
    files = {RECORD: redactor.record(one.content)}
    if (folder / CONFIG).is_file():
        text = reading.read(folder / CONFIG, reading.RECIPE_BYTES)
        files[CONFIG] = redactor.recipe(text).encode()
    environment = one.run.environment or _above(folder)
    if environment:
        files[MACHINE] = _json(redactor.environment(environment))
    for path in [folder / SUMMARY, *sweep_files(folder)]:
        if path.is_file():
            files[path.name] = _json(redactor.values(reading.json_of(path)))
    path, sha256 = folder / "split_manifest.json", one.run.record.run.split_manifest_sha256
    if path.is_file():
        manifest = reading.json_of(path)
        text = json.dumps(manifest, sort_keys=True)
        same = hashlib.sha256(text.encode()).hexdigest() == sha256
        if same and redactor.values(manifest) == manifest:
            files[f"manifests/{sha256}.json"] = text.encode()
        else:  # its hash is what the record knows it by
            redactor.gone["split manifests that are not the run's own, or name paths"] += 1
    return files


def _above(folder: Path) -> dict[str, Any]:
    """The environment that lies beside a whole study, without what it says of one run."""
    for place in list(folder.parents)[:_HIGHEST]:
        if (place / RECORD).exists():  # what lies there is of that run
            break
        if (place / MACHINE).is_file():
            values = reading.json_of(place / MACHINE)
            if isinstance(values, dict):
                return {k: v for k, v in values.items() if k not in _OF_ONE} | {"of": "the study"}
    return {}


def _json(values: Any) -> bytes:
    return (to_json(values, indent=1) + "\n").encode()
