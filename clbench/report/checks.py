"""Reasons not to trust a comparison, found in the records and said up front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from clbench.report.gather import Run
from clbench.text.texts import cut_line

#: Sources of weights that the seed draws.
OWN = ("none", "pretrain")
#: Settings of how long a method trains.
BUDGET = ("epochs", "steps")


def warnings_of(runs: Sequence[Run], everywhere: bool = False) -> list[str]:
    """One sentence for each reason.

    Args:
        runs: of one section, or all.
        everywhere: look for what concerns all runs (versions) rather than one section.
    """
    if everywhere:
        return [*_stream_versions(runs), *_versions(runs), *_hardware(runs)]
    every = (_splits, _weights, _budgets, _inactive, _ineffective, _remarks, _unfinished)
    return [line for check in every for line in check(runs)]


def known(runs: Sequence[Run]) -> str:
    """What is the same throughout when there are no warnings, and what nobody told."""
    told = {
        "splits": all(run.record.run.split_manifest_sha256 for run in runs),
        "weights": all(run.record.run.weights.sha256 for run in runs),
        "versions": all(run.environment for run in runs),
    }
    same = " and ".join(name for name, there in told.items() if there)
    not_told = " and ".join(name for name, there in told.items() if not there)
    parts = [f"same {same} throughout"] if same else []
    parts += [f"{not_told} are unknown"] if not_told else []
    return ", but ".join(parts)


def _stream_versions(runs: Sequence[Run]) -> Iterable[str]:
    for stream, mates in _by(runs, lambda run: run.record.run.stream).items():
        found = _folders(mates, lambda run: run.stream_version)
        if len(found) > 1:
            yield (
                f"{cut_line(stream, 80)} is there in several versions, each with tables of its "
                f"own: version {_sides(found)}."
            )


def _splits(runs: Sequence[Run]) -> Iterable[str]:
    found = _folders(runs, lambda run: run.record.run.split_manifest_sha256)
    if len(found) > 1:
        yield f"Different splits are mixed, so the numbers do not compare: {_sides(found)}."


def _weights(runs: Sequence[Run]) -> Iterable[str]:
    def source_of(run: Run) -> str | None:
        source = run.record.run.weights.source
        # The same file may lie in other places on other machines.
        return PurePath(source).name or source if source else source

    # Made within the run: other weights for each seed, the same for every method.
    for source, mates in _by(runs, source_of).items():
        own = source in OWN
        for seed, same in (_by(mates, lambda run: run.seed) if own else {None: mates}).items():
            found = _folders(same, lambda run: run.record.run.weights.sha256)
            if len(found) > 1:
                name = f"{source} (seed {seed})" if own else source
                yield f"Different starting weights under one name, {name}: {_sides(found)}."
    sources = _folders(runs, source_of)
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


def _hardware(runs: Sequence[Run]) -> Iterable[str]:
    def machine(run: Run) -> str | None:
        about = run.environment
        kind = str(about.get("device") or "").split(":")[0]  # which of several alike is no matter
        gpus = sorted({str(gpu) for gpu in _listed(about.get("gpus"))}) if kind == "cuda" else []
        return (
            ", ".join(str(part) for part in (about.get("processor"), kind, *gpus) if part) or None
        )

    found = _folders([run for run in runs if machine(run)], machine)
    if len(found) > 1:
        yield f"Hardware is mixed, so times do not compare: {_sides(found)}."


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _budgets(runs: Sequence[Run]) -> Iterable[str]:
    def budget(run: Run) -> str:
        told = ((key, run.settings.get(key)) for key in BUDGET)
        return ", ".join(f"{key} = {value}" for key, value in told if value is not None)

    # The multitask bound trains once, on everything.
    rivals = [run for run in runs if run.recipe and not run.having("joint")]
    found = _folders(rivals, budget)
    if len(found) > 1:
        yield f"Methods were trained for different lengths: {_sides(found)}."


def _inactive(runs: Sequence[Run]) -> Iterable[str]:
    found = defaultdict(list)
    for run in runs:
        # Many a method has nothing to do before the second task.
        for name in run.summary["inactive"] if run.finished else ():
            found[name].append(run.folder.name)
    for name, folders in found.items():
        yield f"Method {name} had no effect (inactive) in {_few(folders)}."


def _ineffective(runs: Sequence[Run]) -> Iterable[str]:
    found = defaultdict(list)
    for run in runs:
        for name in run.summary["ineffective"] if run.finished else ():
            found[name].append((run.summary["scope"][name], run))
    for name, told in found.items():
        most = max(scope for scope, _ in told)
        folders = _few([run.folder.name for _, run in told])
        alone = all(name in run.having("class_incremental") for _, run in told)
        part = " in class-incremental accuracy" if alone else ""
        yield (
            f"Method {name} could do next to nothing (scope {most:.2%} at most) in {folders}: "
            f"a difference{part} from runs without it says nothing about it."
        )


def _remarks(runs: Sequence[Run]) -> Iterable[str]:
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for run in runs:
        for event in run.record.tasks:
            for told in event.remarks:
                found[told.method, told.what][run.folder.name] += 1
    for (name, what), counts in found.items():
        times = f"in {sum(counts.values())} tasks of {_few(list(counts))}"
        yield cut_line(f"Method {name}: {what}, {times}; their records have the numbers.")


def _unfinished(runs: Sequence[Run]) -> Iterable[str]:
    found = [
        f"{run.folder.name} ({len(run.record.tasks)} of {len(run.record.run.tasks)} tasks)"
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
        text = cut_line(str(value), 80)
        return text[:12] if len(text) == 64 else text  # a hash

    return {short(k): [r.folder.name for r in v] for k, v in _by(runs, key).items()}


def _sides(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{value} in {_few(folders)}" for value, folders in found.items())


def _few(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
