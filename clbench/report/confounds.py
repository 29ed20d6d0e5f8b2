"""What differs between two methods' runs besides the methods, so that a difference misleads.

A difference of scores tells of two methods only if their runs differ in nothing else. What else
does is read from the recipes and, for what a recipe leaves to the data (steps, samples, weights,
normalisation layers), from the records. The methods and what they set are no confound, but:

* settings of a method that both runs use, beside which others differ;
* where both use the same methods, all settings of theirs that differ, if it is more than one.

A method's own definition may force a difference: multitask learns one stage, so only the whole of
its steps and samples counts; linear probing leaves the trunk alone, and HFT some of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.report import defaults
from clbench.report.gather import Run
from clbench.report.group import Group
from clbench.text.texts import cut_line

#: Settings of what is looked at, not of what is learned.
ASIDE = ("eval_every", "metrics", "evaluate", "retention.data", "retention.train")
#: Sections of such settings; of measures of what is kept, settings are part of their names.
ASIDE_SECTIONS = ("retention.measures.", "retention.sets.", "representation.")
#: What of them decides the retention that all tables have.
NOT_ASIDE = "retention.measures.head."
#: Settings that are judged by what came of them: the record has steps and samples.
LENGTH = ("epochs", "steps")
#: Settings that every optimiser has; the others are part of which one it is.
OPTIMISER = (
    *("optimizer.name", "optimizer.lr", "optimizer.weight_decay"),
    *("optimizer.head_rate", "optimizer.layer_decay", "optimizer.decay_norms"),
)
#: What is said already by another part.
CAUSES = {
    "samples": {"steps", "batch_size"},
    "splits": {"stream"},
    "weights": {"model.weights"},
    "batch_norm": {"model.batch_norm_training"},
}
#: Shares of the samples by which partial batches and replayed ones may differ.
SLACK = 0.05
#: Names for people; other parts go by their keys.
NAMES = {
    "optimizer.name": "optimiser",
    "optimizer.lr": "learning rate",
    "optimizer.weight_decay": "weight decay",
    "schedule.name": "schedule",
    "schedule.over": "schedule over",
    "schedule.warmup": "warm-up",
    "samples": "samples seen",
    "batch_size": "batch size",
    "model.head": "head",
    "model.weights": "weights",
    "batch_norm": "BatchNorm layers in training mode",
    "train_logits": "logits in the loss",
    "retention": "images of retention, or texts that they are compared with,",
    "retention_labels": "labels of the images of retention",
    "tuning": "tries of tuning",
}
MARK = "†"


@dataclass(frozen=True)
class Confound:
    """A difference between two methods' runs.

    Attributes:
        part: the dotted key of the setting, or ``steps``, ``samples``, ``weights``, ``splits``,
            ``retention`` (its images and texts), ``batch_norm``, ``tuning``, ``recipe`` (unknown).
        ours: the first's value, for people.
        theirs: the other's.
        times: for how many tasks it was set apart; 0 for all at once.
    """

    part: str
    ours: str
    theirs: str
    times: int = 0

    @property
    def words(self) -> str:
        """For people.

        >>> Confound("optimizer.lr", "0.01", "0.001").words
        'learning rate 0.01, not 0.001'
        """
        name = NAMES.get(self.part, self.part)
        if self.part == "recipe":
            return "unknown, as config.yaml is not there"
        tasks = f" (in {self.times} task{'s' * (self.times > 1)})" if self.times else ""
        return cut_line(f"{name} {self.ours}, not {self.theirs}{tasks}", 200)

    def within(self, parts: Sequence[str]) -> bool:
        """Whether it is, or is part of, one of some parts.

        >>> Confound("optimizer.lr", "0.01", "0.001").within(["optimizer"])
        True
        """
        return any(self.part == part or self.part.startswith(f"{part}.") for part in parts)


def confounds(ours: Group, theirs: Group) -> tuple[Confound, ...]:
    """What differs between two groups of runs besides the methods; nothing between equal groups."""
    found = list[Confound]()
    for a, b in _pairs(ours, theirs):
        known = {c.part for c in found}  # one seed that differs is enough, and the first is told
        here = [*_settings(a, b), *_length(a, b), *_start(a, b), *_layers(a, b)]
        found += [c for c in here if c.part not in known]
    if ours.tries != theirs.tries:
        found.append(Confound("tuning", str(ours.tries), str(theirs.tries)))
    parts = {c.part for c in found} | {c.part.split(".")[0] for c in found}
    return tuple(c for c in found if not parts & CAUSES.get(c.part, set()))


def _pairs(ours: Group, theirs: Group) -> list[tuple[Run, Run]]:
    """Runs to compare: finished ones of the same seed; the first two if no seed is common."""
    a, b = ({run.seed: run for run in g.finished or g.runs} for g in (ours, theirs))
    common = [(run, b[seed]) for seed, run in a.items() if seed in b]
    return common or [(next(iter(a.values())), next(iter(b.values())))]


def _settings(a: Run, b: Run) -> Iterator[Confound]:
    keys = a.settings.keys() | b.settings.keys()
    if not (a.recipe and b.recipe):
        yield Confound("recipe", "unknown", "unknown")
        keys = a.settings.keys() & b.settings.keys()  # the rest is what is unknown
    found: dict[str, list[tuple[str, str]]] = {}
    apart = set[str]()
    for key in sorted(keys):
        part = _part(key, a, b)
        ours, theirs = (_value(run, key, part) for run in (a, b))
        if ours != theirs and not _idle(part, a, b):
            found.setdefault(part, []).append((_shown(ours), _shown(theirs)))
            if part != key:
                apart.add(part)
    settled = _of_methods(a, b, [part for part in found if part.startswith("methods.")])
    for part, values in found.items():
        if part not in settled:
            yield Confound(part, *values[0], times=len(values) if part in apart else 0)


def _idle(part: str, a: Run, b: Run) -> bool:
    """Whether a setting is the method itself, or says nothing that the records do not say."""
    if part == "methods" or part in ASIDE:
        return True
    if part.startswith(ASIDE_SECTIONS) and not part.startswith(NOT_ASIDE):
        return True
    if part in LENGTH:
        return a.finished and b.finished
    if part.startswith("plugins_sha256."):  # what one alone uses is its method
        return not all(part in run.settings for run in (a, b))
    if part == "train_logits":  # where tasks share labels, the classes of one are all there are
        return all(run.record.run.shared_labels for run in (a, b))
    if part == "model.batch_norm":  # the method's own, unless both average
        return not all(_averages(run) for run in (a, b))
    if (
        part == "model.batch_norm_training"
    ):  # update_all is to a frozen trunk what update is to others
        return _same(a, b, _moving)
    section = part.split(".")[0]
    if section == "stream":
        return _same(a, b, _splits)
    if part.startswith(("model.weights", "model.pretraining.")):
        return _same(a, b, _digest)
    if part.startswith("model.probe."):  # with other heads, the heads are what differs
        both = all(run.settings.get("model.head") == "linear_probe" for run in (a, b))
        return not (both or a.having("probes") & b.having("probes"))
    if section == "optimizer" and part not in OPTIMISER:
        return a.settings.get("optimizer.name") != b.settings.get("optimizer.name")
    return False


def _of_methods(a: Run, b: Run, parts: Sequence[str]) -> set[str]:
    """The methods' settings that are what is compared: not those of methods that both use, unless
    both use the same methods and one setting is all that differs."""
    if set(a.methods) == set(b.methods):
        return set(parts) if len(parts) == 1 else set()
    shared = set(a.methods) & set(b.methods)
    return {part for part in parts if part.split(".")[1] not in shared}


def _length(a: Run, b: Run) -> Iterator[Confound]:
    """Steps and samples as they were; of a single stage for all tasks, in total."""
    if not (a.finished and b.finished):
        return
    for part, slack in (("steps", 0.0), ("samples", SLACK)):
        ours, theirs = ([getattr(t, part) for t in run.record.tasks] for run in (a, b))
        # Partial batches at the ends of epochs differ from task to task, and even out.
        if len(ours) != len(theirs) or part == "samples":
            ours, theirs = [sum(ours)], [sum(theirs)]
        if any(abs(x - y) > slack * max(x, y) for x, y in zip(ours, theirs, strict=True)):
            yield Confound(part, f"{sum(ours):,}", f"{sum(theirs):,}")


def _start(a: Run, b: Run) -> Iterator[Confound]:
    """Other weights, splits, or images or texts of retention under the same settings."""
    kinds = {"splits": _splits, "retention": _retained, "retention_labels": _labelled}
    if a.seed == b.seed:
        kinds["weights"] = _digest  # those that a run makes are others for each seed
    for part, kind in kinds.items():
        ours, theirs = kind(a), kind(b)
        if ours and theirs and ours != theirs:
            yield Confound(part, str(ours)[:12], str(theirs)[:12])


def _layers(a: Run, b: Run) -> Iterator[Confound]:
    """BatchNorm layers that move their statistics, where no definition of a method keeps them."""
    if a.having("still") or b.having("still"):
        return
    ours, theirs = _moving(a), _moving(b)
    if None not in (ours, theirs) and ours != theirs:
        yield Confound("batch_norm", str(ours), str(theirs))


def _averages(run: Run) -> bool:
    """Whether a method averages weights, as one of a stranger's may."""
    return bool(run.having("averages", unknown=True))


def _moving(run: Run) -> Any:
    """BatchNorm layers that move their statistics in training; None if the record has no number."""
    modes = run.record.tasks[-1].modes if run.record.tasks else None
    return modes and modes.batch_norms_in_training_mode


def _digest(run: Run) -> Any:
    return run.record.run.weights.sha256


def _splits(run: Run) -> Any:
    return run.record.run.split_manifest_sha256


def _retained(run: Run) -> Any:
    return run.record.run.retention_images_sha256


def _labelled(run: Run) -> Any:
    return run.record.run.retention_labels_sha256


def _same(a: Run, b: Run, kind: Callable[[Run], Any]) -> bool:
    return kind(a) is not None and kind(a) == kind(b)


def _part(key: str, a: Run, b: Run) -> str:
    """A key without the name of a task: ``per_task.NAME.optimizer.lr`` is ``optimizer.lr``."""
    for run in (a, b):
        own = run.recipe.get("per_task")
        for task in own if isinstance(own, Mapping) else ():
            if key.startswith(f"per_task.{task}."):
                return key.removeprefix(f"per_task.{task}.")
    return key


def _value(run: Run, key: str, part: str) -> Any:
    """A setting; a task without its own has that of all, an older recipe the default."""
    for name in (key, part):
        if name in run.settings:
            value = run.settings[name]
            return None if value == "{}" else value  # what may be in it has keys of its own
    return defaults.of_recipe().get(part) if run.recipe else None


def complete(run: Run) -> dict[str, Any]:
    """A run's settings, with the defaults of what its recipe lacks, as it is an older one."""
    if not run.recipe:
        return run.settings
    section = str(run.settings.get("stream.name"))
    ours = tuple(f"methods.{name}." for name in run.methods)
    usual = defaults.of_recipe() | defaults.of_stream(section)
    return {
        key: value
        for key, value in usual.items()
        if not key.startswith("methods.") or key.startswith(ours)
    } | run.settings


def _shown(value: object) -> str:
    return "–" if value is None else cut_line(str(value), 60)
