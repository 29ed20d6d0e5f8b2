"""Reasons not to trust a comparison, found in the records and said up front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clbench.report.gather import Run
from clbench.report.texts import one_line


def warnings_of(runs: Sequence[Run], everywhere: bool = False) -> list[str]:
    """One sentence for each reason.

    Args:
        runs: of one section, or all.
        everywhere: look for what concerns all runs (versions) rather than one section.
    """
    if everywhere:
        return [*_versions(runs)]
    return [*_splits(runs), *_weights(runs), *_inactive(runs), *_unfinished(runs)]


def _splits(runs: Sequence[Run]) -> Iterable[str]:
    found = _folders(runs, lambda run: run.record.run.get("split_manifest_sha256"))
    if len(found) > 1:
        yield f"Different splits are mixed, so the numbers do not compare: {_sides(found)}."


def _weights(runs: Sequence[Run]) -> Iterable[str]:
    def weights(run: Run) -> Mapping[str, Any]:
        return run.record.run.get("weights") or {}

    # Pretrained within the run: other weights for each seed, the same for every method.
    for source, mates in _by(runs, lambda run: weights(run).get("source")).items():
        own = source == "pretrain"
        for seed, same in (_by(mates, lambda run: run.seed) if own else {None: mates}).items():
            found = _folders(same, lambda run: weights(run).get("sha256"))
            if len(found) > 1:
                name = f"{source} (seed {seed})" if own else source
                yield f"Different starting weights under one name, {name}: {_sides(found)}."
    sources = _folders(runs, lambda run: weights(run).get("source"))
    if len(sources) > 1:
        yield f"Starting weights are mixed: {_sides(sources)}."


def _versions(runs: Sequence[Run]) -> Iterable[str]:
    known = [run for run in runs if run.environment]
    packages = {name for run in known for name in run.environment.get("packages", {})}
    for name in ["python", *sorted(packages)]:

        def version(run: Run, name: str = name) -> Any:
            environment = run.environment
            if name == "python":
                return environment.get("python", "unknown")
            return environment.get("packages", {}).get(name, "unknown")

        found = _folders(known, version)
        if len(found) > 1:
            yield f"Versions of {name} are mixed: {_sides(found)}."
    if 0 < len(known) < len(runs):
        yield (
            f"{len(runs) - len(known)} of {len(runs)} runs lack environment.json: their versions "
            "are unknown."
        )


def _inactive(runs: Sequence[Run]) -> Iterable[str]:
    found = defaultdict(list)
    for run in runs:
        for name in run.summary["inactive"]:
            found[name].append(run.folder.name)
    for name, folders in found.items():
        yield f"Method {name} had no effect (inactive) in {_few(folders)}."


def _unfinished(runs: Sequence[Run]) -> Iterable[str]:
    found = [
        f"{run.folder.name} ({len(run.record.tasks)} of {len(run.record.run['tasks'])} tasks)"
        for run in runs
        if not run.finished
    ]
    if found:
        yield f"Unfinished, and not in any number: {_few(found)}."


def _by(runs: Iterable[Run], key: Any) -> dict[Any, list[Run]]:
    found: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        found[key(run)].append(run)
    return found


def _folders(runs: Iterable[Run], key: Any) -> dict[str, list[str]]:
    def short(value: object) -> str:
        text = one_line(str(value), 80)
        return text[:12] if len(text) == 64 else text  # a hash

    return {short(k): [r.folder.name for r in v] for k, v in _by(runs, key).items()}


def _sides(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{value} in {_few(folders)}" for value, folders in found.items())


def _few(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
