"""What public programs compute under the names of scores, beside what clbench does."""

import json
from pathlib import Path

import numpy as np

from clbench.record import scores

PLACE = Path(__file__).parent / "reference/peer_scores.json"
#: Matrices, and what the programs made of them.
PEERS = json.loads(PLACE.read_text())
STREAMS = PEERS["streams"]
#: Score, program, what it calls that; whether its number is in per cent.
NAMES = [
    ("overall_performance", "mammoth", "mean_accuracy_after_each"),
    ("overall_performance", "clarena", "average_accuracy_after_each"),
    ("overall_performance", "avalanche", "mean_of_experience_accuracies_after_each"),
    ("overall_performance", "libcontinual", "task_last_after_each"),
    ("overall_performance_micro", "avalanche", "stream_accuracy_after_each"),
    ("overall_performance_micro", "continuum", "accuracy_after_each"),
    ("overall_performance_micro", "libcontinual", "batch_last_after_each"),
    ("overall_performance_micro", "pilot", "total_after_each"),
    ("overall_performance_micro", "pycil", "total_after_each"),
    ("average_incremental_accuracy", "libcontinual", "task_overall_average"),
    ("average_incremental_accuracy", "continuum", "accuracy_A_after_each"),
    ("average_incremental_accuracy_micro", "pilot", "average_accuracy"),
    ("average_incremental_accuracy_micro", "pycil", "average_accuracy"),
    ("average_incremental_accuracy_micro", "libcontinual", "batch_overall_average"),
    ("average_incremental_accuracy_micro", "continuum", "average_incremental_accuracy_after_each"),
    ("average_incremental_accuracy_micro", "avalanche", "average_mean_class_accuracy_after_each"),
    ("backward_transfer", "mammoth", "backward_transfer"),
    ("backward_transfer", "avalanche", "bwt_after_each"),
    ("backward_transfer", "clarena", "bwt_after_task"),
    ("backward_transfer", "continuum", "backward_transfer_after_each"),
    ("backward_transfer", "libcontinual", "backward_transfer_after_each"),
    ("forgetting", "continuum", "forgetting_after_each"),
    ("forgetting", "mammoth", "forgetting_lower_triangle"),
    ("forgetting", "pilot", "forgetting"),
    ("forgetting", "avalanche", "forgetting_after_each"),
    ("forgetting", "libcontinual", "forgetting_after_each"),
    ("forgetting", "coda_prompt", "forgetting"),
    ("forward_transfer", "mammoth", "forward_transfer"),
    ("forward_transfer", "avalanche", "forward_transfer_after_each"),
    ("forward_transfer", "continuum", "forward_transfer_after_each"),
    ("forward_transfer", "clarena", "fwt_after_task"),
]
IN_PERCENT = ("pilot", "pycil", "libcontinual")
TITLES = {
    "clarena": "CLArena",
    "coda_prompt": "CODA-Prompt",
    "libcontinual": "LibContinual",
    "pilot": "PILOT",
    "pycil": "PyCIL",
}


def matrix(stream):
    """The (T, T) matrix of a stream."""
    return np.array(STREAMS[stream]["R"], dtype=float)


def ours(stream):
    """clbench's scores, fractions."""
    about = STREAMS[stream]
    return scores.all_scores(matrix(stream), about["images"], about["before"], about["independent"])


def theirs(stream, program, name):
    """A program's number after the last task, as a fraction; None where it has none."""
    value = STREAMS[stream]["programs"][program].get(name)
    if isinstance(value, dict):
        value = value[max(value, key=int)]
    if isinstance(value, list):
        value = value[-1]
    return value if value is None or program not in IN_PERCENT else value / 100


def cell(here, there):
    """Their number in per cent beside ours, or that it is the same."""
    if there is None:
        return "–"
    if here is not None and abs(here - there) < 1e-4:  # PILOT and PyCIL round before they average
        return "="
    return f"{100 * there:.2f}" + (f" ≠ {100 * here:.2f}" if here is not None else "")


def rows():
    """The table of docs/scores.md."""
    found = {stream: ours(stream) for stream in STREAMS}
    for score, program, name in NAMES:
        cells = [cell(found[s][score], theirs(s, program, name)) for s in STREAMS]
        title = TITLES.get(program, program.capitalize())
        told = name.removesuffix("_after_each").removesuffix("_after_task")
        yield f"| {scores.LABELS[score]} | {title} `{told}` | {' | '.join(cells)} |"
