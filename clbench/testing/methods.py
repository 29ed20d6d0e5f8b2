"""Whether a method keeps to what is asked of methods: :func:`check_method`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from clbench.errors import ClbenchError, first_line
from clbench.methods import METHODS
from clbench.methods.base import Method
from clbench.recipe.recipe import parse
from clbench.record.packing import unkept
from clbench.testing.bench import Bench, Made, row
from clbench.testing.watch import equal, not_copied, watching
from clbench.text.yamltext import dump, read_text


def check_method(
    kind: type[Method],
    *,
    neutral: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    beside: Iterable[str] | None = None,
    acts: bool = True,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Check a method in tiny runs of two tasks, most of a second each.

    * **trains**: the weights are finite, and its ``activity`` is in the record;
    * **acts**: weights, or what is made of images, are not those of plain fine-tuning;
    * **neutral**: with the neutral setting they are, bit for bit, and it says that it was inactive;
    * **resumes**: a run that stopped after the first task ends the same, bit for bit;
    * **state**: ``state_dict`` has tensors and primitives alone, and ``load_state_dict`` takes it;
    * **settings**: they are read back from ``config.yaml`` as they were;
    * **past data**: it is not touched, and no sample is kept, unless ``needs.past_data`` says so;
      test data is never there;
    * **beside** every other method it trains, or the recipe is refused with the reason;
    * **adapt**, **rows**, **admit**, **rate**, **weights**, **sample_losses**, **penalty**,
      **observe**, **classifier**, **deploy**: these hooks return what they should, and change
      nothing else; `deploy` gives the same twice.

    Args:
        kind: the method.
        neutral: the setting at which it changes nothing; None: it has none.
        settings: for the other checks, in place of its defaults.
        beside: names of the methods to try it with; default: all.
        acts: whether ``settings`` change anything.
        recipe: values of a recipe on top of that of the runs, see
            :data:`clbench.testing.bench.TINY`.

    Raises:
        AssertionError: with a line for each fault, which begins with one of the words above.
    """
    name = next((n for n, known in METHODS.items() if known is kind), kind.__name__.lower())
    others = [n for n in METHODS if n != name] if beside is None else list(beside)
    with tempfile.TemporaryDirectory() as folder, row(METHODS, name, kind):
        checks = _Checks(Bench(Path(folder), recipe or {}), name, settings or {})
        with watching(kind) as seen:
            faults = _told("trains", checks.trains)
        faults = [*seen, *faults]
        if not faults:  # else what follows would tell of these again
            faults += _told("adapt", checks.adapts)
            for given in (settings or {}, *([] if neutral is None else [neutral])):
                faults += _told("settings", partial(checks.reads_back, given))
            faults += _told("state", checks.state)
            faults += _told("past data", checks.past_data)
            faults += _told("acts", checks.acts) if acts else []
            faults += _told("resumes", checks.resumes)
            if neutral is not None:
                faults += _told("neutral", partial(checks.neutral, neutral))
            for other in others:
                faults += _told(f"beside {other}", partial(checks.beside, other))
    if faults:
        raise AssertionError("\n".join([f"{kind.__name__} has faults:", *faults]))


def _told(what: str, check: Callable[[], str]) -> list[str]:
    """The fault that a check finds, as a line; what it raises is one."""
    try:
        found = check()
    except ClbenchError as error:
        found = str(error)
    except Exception as error:
        found = f"{type(error).__name__}: {first_line(error)}"
    return [f"{what}: {found}"] if found else []


@dataclass
class _Checks:
    """The checks: each returns what is wrong, or nothing.

    Args:
        bench: makes the runs.
        name: of the method.
        settings: of it.
    """

    bench: Bench
    name: str
    settings: Mapping[str, Any]

    @cached_property
    def whole(self) -> Made:
        """A run with the method."""
        return self.bench.run(self.bench.recipe({self.name: self.settings}))

    @cached_property
    def plain(self) -> Made:
        """The same without it."""
        return self.bench.run(self.bench.recipe({}))

    def trains(self) -> str:
        """Whether it does."""
        if wrong := _not_finite(self.whole):
            return wrong
        did = self.whole.record.tasks[-1].methods[self.name]
        return "" if "active" in did else "activity() has no entry `active`, 1 or 0"

    def reads_back(self, settings: Mapping[str, Any]) -> str:
        """Whether settings are the same from ``config.yaml``."""
        before = self.bench.recipe({self.name: settings})
        after = parse(read_text(dump(before.model_dump(mode="json")), "config.yaml"))
        one, other = (recipe.methods[self.name] for recipe in (before, after))
        for field in type(one).model_fields:
            if getattr(one, field) != getattr(other, field):
                return f"{field} is another when read back from config.yaml"
        return ""

    def state(self) -> str:
        """Whether what it remembers can be kept."""
        method = self.whole.methods[self.name]
        state = method.state_dict()
        if strange := unkept(state):
            return f"state_dict has {strange}"
        copy = METHODS[self.name](**self.settings)
        copy.load_state_dict(state)
        return "" if equal(copy.state_dict(), state) else "load_state_dict loses some of it"

    def past_data(self) -> str:
        """Whether it does without samples of the past, if it says so."""
        method = self.whole.methods[self.name]
        if method.needs.past_data or not method.stored_samples():
            return ""
        return f"{method.stored_samples()} samples are kept, and needs.past_data does not say so"

    def acts(self) -> str:
        """Whether it changes anything."""
        same = not self.whole.unlike_weights(self.plain) and torch.equal(
            self.whole.logits, self.plain.logits
        )
        return "the weights are those of plain fine-tuning (acts=False, if so meant)" * same

    def adapts(self) -> str:
        """Whether what it adds to the network belongs to it."""
        added = sorted(self.whole.weights.keys() - self.plain.weights.keys())
        if not added or not not_copied(self.whole.model, added, self.whole.images):
            return ""
        return (
            f"a copy of the network does not have {added[0]} of its own: hold on to no network "
            "from outside, as a function within `adapt` does"
        )

    def resumes(self) -> str:
        """Whether a run can be cut off."""
        if METHODS[self.name].joint:
            return ""  # all tasks are one
        recipe = self.bench.recipe({self.name: self.settings})
        return self.whole.unlike(self.bench.run(recipe, stops=True))

    def neutral(self, settings: Mapping[str, Any]) -> str:
        """Whether a setting changes nothing."""
        made = self.bench.run(self.bench.recipe({self.name: settings}))
        if unlike := made.unlike_weights(self.plain):
            return f"with {dict(settings)} {unlike} from plain fine-tuning"
        active = made.record.tasks[-1].methods[self.name].get("active")
        says = f"with {dict(settings)} nothing changed, but activity() says that it was active"
        return says * bool(active and settings)

    def beside(self, other: str) -> str:
        """Whether it goes with another method, or is refused before anything is run."""
        try:
            recipe = self.bench.recipe({self.name: self.settings, other: {}})
        except ClbenchError as error:
            return "the reason has several lines" if "\n" in str(error) else ""
        return _not_finite(self.bench.run(recipe))


def _not_finite(made: Made) -> str:
    wrong = [n for n, x in made.weights.items() if not torch.isfinite(x.float()).all()]
    return f"{wrong[0]} is not finite" if wrong else ""
