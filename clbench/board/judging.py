"""STAND-IN until clbench.submission has verify."""

from clbench.report.sorting import sections_of
from clbench.submission.verdicts import RowVerdict


def verify(submission):
    out = []
    for s in sections_of(submission.runs):
        for g in s.groups:
            out.append(
                RowVerdict(
                    s.title,
                    g.label,
                    tuple(r.seed for r in g.runs),
                    tuple(int(r.folder.name) for r in g.runs),
                    "self-reported",
                    (),
                    ("scores",),
                    {"splits": "not checked: stand-in"},
                )
            )
    return tuple(out)
