"""What can be swept, and the values that it takes."""

from __future__ import annotations

import math
from decimal import Decimal

from clbench.errors import ClbenchError, shown
from clbench.methods import METHODS

#: Values of one sweep.
MOST = 1_000


def parameters() -> dict[str, list[str]]:
    """What can be swept, and the methods whose field it is."""
    found: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        for field in method.swept:
            found.setdefault(field, []).append(name)
    return found


def read_values(text: str) -> list[float]:
    """The values of ``start:stop:step`` (both ends included) or of a list with commas.

    Raises:
        ClbenchError: if it is neither.

    >>> read_values("0:1:0.25"), read_values("0.1,0.3")
    ([0.0, 0.25, 0.5, 0.75, 1.0], [0.1, 0.3])
    """
    try:
        if not text.isascii():  # Decimal takes digits of any script
            raise ValueError
        if ":" not in text:
            values = [Decimal(word) for word in text.split(",")]
        else:  # exact in decimals: 0:1:0.05 ends at 1
            start, stop, step = (Decimal(word) for word in text.split(":"))
            count = (stop - start) / step
            # Compared before it is made a whole number: that of 1e999999 takes for ever.
            values = [start + step * i for i in range(int(min(count, Decimal(MOST))) + 1)]
        if not values or not all(math.isfinite(value) for value in values):
            raise ValueError
    except (ArithmeticError, ValueError) as error:
        raise ClbenchError(
            f"{shown(text)} are no values: write start:stop:step, as in 0:1:0.05, or 0.1,0.3,0.5"
        ) from error
    if len(values) > MOST:
        raise ClbenchError(f"{shown(text)} are too many values: at most {MOST:,} are tried")
    return [float(value) for value in dict.fromkeys(values)]
