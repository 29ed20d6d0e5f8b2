"""STAND-IN until clbench.submission has verify."""

from collections import defaultdict

from clbench.report import compare as C
from clbench.submission.verdicts import RowVerdict


def verify(submission):
    sections = defaultdict(list)
    for run in submission.runs:
        a = run.record.run
        sections[(run.stream, tuple(a.tasks), a.backbone, a.shared_labels)].append(run)
    numbers = iter(range(10**6))
    out = []
    for key, runs in sections.items():
        s = C._section(key[:3], runs, {}, numbers, ())
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
