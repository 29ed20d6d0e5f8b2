"""What is a fault in what a command did."""

import math
from typing import Any

from fuzz.attempt import SECONDS, Outcome
from fuzz.case import Case

#: Exit codes that mean something: done, a run of a suite failed, a mistake that users can mend.
CODES = (0, 1, 2)


def fault(outcome: Outcome, case: Case | None = None) -> str | None:
    """Why a command is at fault, or None.

    Args:
        outcome: what it did.
        case: what it was, if that says what must become of it.
    """
    text = outcome.out + outcome.err
    if outcome.seconds > SECONDS:
        return f"hangs ({outcome.seconds:.0f} s)"
    if "Traceback (most recent call last)" in text:
        return f"traceback: {text.strip().splitlines()[-1][:200]}"
    if outcome.code not in CODES:
        return f"exit code {outcome.code}: {text.strip()[-200:]}"
    errors = outcome.err.strip("\n").splitlines()
    if outcome.code == 2 and not (len(errors) == 1 and errors[0].startswith("error: ")):
        return f"an error of {len(errors)} lines: {outcome.err[:300]!r}"
    if outcome.code == 2 and not errors[0].isprintable():
        return f"control characters: {errors[0][:200]!r}"
    if outcome.code == 2 and len(errors[0]) > 2100:
        return f"an error of {len(errors[0])} characters"
    if case and outcome.code == 0 and case.must == "refuse":
        return "nonsense is taken"
    if case and outcome.code == 2 and case.must == "take":
        return f"sense is refused: {errors[0][:200]}"
    return None


def nonsense(values: Any) -> bool:
    """Whether plain values hold what no field can be: NaN, infinity, or a bomb of lists."""
    if isinstance(values, float):
        return not math.isfinite(values)
    if isinstance(values, dict):
        return any(map(nonsense, values.values()))
    if isinstance(values, list):
        return any(map(nonsense, values))
    return isinstance(values, str) and values in ("DEEP100", "DEEP3000")
