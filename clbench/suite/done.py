"""What of a suite was run already, by the folders that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clbench.errors import ClbenchError
from clbench.plugins.recipes import Changed
from clbench.record import trust
from clbench.record.events import Event
from clbench.record.record import Record
from clbench.runner.folder import recipe_hash, recipe_of
from clbench.runner.identity import compare_recipe
from clbench.runner.products import missing_products
from clbench.suite.suite import Planned


def hashes_below(folder: Path) -> dict[str, Path]:
    """The runs in the folders below, by the hash of their recipes; finished ones win.

    Those on another version of their stream are other runs.
    """
    found, changed, older = dict[str, Path](), list[Changed](), list[str]()
    for config in sorted(folder.glob("*/config.yaml")):
        try:
            recipe = recipe_of(config.parent)
            if events := _events(config.parent):
                record = Record(config.parent, events)
                compare_recipe(record, recipe)
                if record.run.stream_version != recipe.stream.version:
                    older.append(f"{config.parent} (version {record.run.stream_version})")
                    continue
        except Changed as error:
            changed.append(error)
            continue
        except ClbenchError:
            continue  # of another version, half written, or edited since: it is run anew
        key = recipe_hash(recipe)
        if key not in found or finished(config.parent):
            found[key] = config.parent
    if older:
        print(
            f"{len(older)} runs on other versions of their streams are not reused, as {older[0]}.",
            flush=True,
        )
    if changed:
        print(f"{len(changed)} runs are not reused, as in {changed[0]}.", flush=True)
    return found


def finished(folder: Path) -> bool:
    """Whether the stream of a run is through, and what it leaves behind is there."""
    events = _events(folder)
    return bool(events) and events[-1].event == "end" and not missing_products(folder, events)


def tasks_done(folder: Path) -> tuple[int, int]:
    """Tasks finished, and tasks of the stream (0 if not yet known)."""
    record = Record(folder, _events(folder))
    return len(record.tasks), len(record.run.tasks) if record.events else 0


def _events(folder: Path) -> tuple[Event, ...]:
    try:
        return trust.record_of(folder).events  # it may be anybody's
    except (ClbenchError, OSError):
        return ()


@dataclass(frozen=True)
class Place:
    """A run of the suite and where it lies.

    Attributes:
        run: what is planned.
        folder: where its results are or will be.
        state: ``finished``, ``interrupted`` or ``new``.
    """

    run: Planned
    folder: Path
    state: str


def _name_of(run: Planned) -> str:
    """The run's, with the version of its stream if there were others before."""
    version = run.recipe.stream.version
    return run.name if version == 1 else f"version{version}-{run.name}"


def survey(runs: Sequence[Planned], folder: Path) -> list[Place]:
    """Where each run lies below the folder, and how far it is."""
    there = hashes_below(folder)
    places = []
    for run in runs:
        found = there.get(run.hash)
        own = folder / _name_of(run)
        if found is None:
            state = "new"
        else:
            state = "finished" if finished(found) else "interrupted"
        places.append(Place(run, found or own, state))
    return places
