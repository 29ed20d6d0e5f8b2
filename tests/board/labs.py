"""Made-up submissions for the tests of boards: no run of theirs has been."""

import random
import shutil

from report.made_up import run_folder

from clbench.board import taking
from clbench.board.building import build_board
from clbench.report.sorting import sections_of
from clbench.submission import pack
from clbench.submission.verdicts import RowVerdict

CONFIG = {
    "stream": {"name": "split_digits"},
    "model": {"backbone": "tiny_cnn"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "epochs": 1,
    "batch_size": 32,
}


def lab(place, name, methods, seeds=3, title=None, authors=("A. Author",), spread=0.01, **run):
    """A submission NAME.clbench.zip: methods by their OP, ``{"sfa": 0.8}``, over seeds.

    Args:
        place: folder of submissions.
        name: of the file.
        methods: OP by name; ``sequential`` is none.
        seeds: how many, or which.
        title: of the submission.
        authors: of it.
        spread: between seeds.
        keep: add to the runs that it has.
        run: more of the run, as of ``run_folder``.
    """
    runs = place.parent / f"{place.name}-runs" / name
    again = run.pop("keep", False)
    if not again:
        shutil.rmtree(runs, ignore_errors=True)
    more = run.pop("about", {})
    run = {"config": CONFIG, "retention": None} | run
    for number, (method, op) in enumerate(methods.items()):
        noise = random.Random(f"{name} {method}")
        for seed in range(seeds) if isinstance(seeds, int) else seeds:
            settings = {} if method == "sequential" else {method: {}}
            now = min(1.0, max(0.0, op + noise.gauss(0, spread)))
            run_folder(
                runs, settings, seed, now, folder=f"{number}-{seed}{'-again' * again}", **run
            )
    place.mkdir(exist_ok=True)
    return pack([runs], place / f"{name}.clbench.zip", title or name, list(authors), **more)


def say(monkeypatch, verdicts=None):
    """Have checks say what a test wants, by method; made-up runs would be found out.

    Returns:
        The names of the files that were checked, to look at afterwards.
    """
    checked = []

    def judge(submission, data_dir):
        checked.append(submission.path.name)
        made = []
        for section in sections_of(submission.runs):
            for group in section.groups:
                numbers = tuple(int(run.folder.name) for run in group.runs)
                verdict, *reasons = (verdicts or {}).get(group.label, ["self-reported"])
                seeds = tuple(run.seed for run in group.runs)
                told = section.title, group.label, seeds, numbers, verdict, tuple(reasons)
                made.append(RowVerdict(*told, ("scores",), {"split": "no data"}))
        return tuple(made)

    monkeypatch.setattr(taking, "_verdicts", judge)
    return checked


def build(place, site=None):
    return build_board(place, site or place.parent / "site", "made up")
