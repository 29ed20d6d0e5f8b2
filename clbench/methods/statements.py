"""What methods say of themselves, for those who do not know them: reports, records and sweeps."""

from __future__ import annotations

from typing import NamedTuple

#: What records say of methods, and reports read there: attributes of `Method` that are set or not.
TRAITS = ("averages", "joint", "still", "probes", "class_incremental", "anchored")


def traits(method: object) -> list[str]:
    """The :data:`TRAITS` that a method, or its class, has."""
    return [name for name in TRAITS if getattr(method, name)]


class Swept(NamedTuple):
    """That a finished run can be evaluated again with other values of a method's field.

    Attributes:
        neutral: the value at which the method changes nothing, so that it can be put at the end of
            a run without it; None if a run must have been trained with it.
        pure: values at which nothing is averaged, so that running statistics fit as they are.
        every: why the weights of every task are needed; empty if those of the last are enough.
    """

    neutral: float | None = None
    pure: tuple[float, ...] = ()
    every: str = ""
