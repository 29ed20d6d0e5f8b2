"""A run that is stopped before and after each checkpoint logs everything once, whatever the steps.

A task of a method like kNN makes no step, so that several tasks stand at one.
"""

import csv
from collections import Counter

import pytest
from crash.outcome import scalars
from helpers import RECIPE
from methods.test_all import SETTINGS

import clbench
from clbench.recipe.recipe import merge
from clbench.runner.saving import Saver

TASKS = 3


def rows(folder):
    """Column, step and value of all that Lightning's CSV logger has."""
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return Counter(
            (name, row["step"], float(value))
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value
        )


def stop(patch, task, saved):
    """Runs stop as by Ctrl-C once a task is logged, and its checkpoint is there or is not."""
    save = Saver.save

    def stops(self, recorder, progress, *rest):
        if progress.done < task:
            return save(self, recorder, progress, *rest)
        if saved:
            save(self, recorder, progress, *rest)
            self.join()
        raise KeyboardInterrupt

    patch.setattr(Saver, "save", stops)


@pytest.mark.parametrize(
    ("name", "steps"),
    [("knn", [0, 0, 0]), ("aper", [4, 0, 0]), ("ewc", [4, 4, 4])],
)
def test_everything_is_logged_once(data_dir, tmp_path, no_pictures, monkeypatch, name, steps):
    recipe = merge(
        RECIPE | {"methods": {name: SETTINGS.get(name, {})}, "data_dir": str(data_dir)},
        {
            "stream": {"classes": [[4, 5], [6, 7], [8, 9]], "train_per_class": 20},
            "trainer": {"log_every_n_steps": 1},
            "loggers": ["tensorboard", "csv"],
            "steps": 4,
            "eval_every": 3,
        },
    )
    whole = clbench.run(recipe, tmp_path / "whole")
    assert [event.steps for event in whole.tasks] == steps
    folder = tmp_path / "cut"
    for task in range(1, TASKS + 1):
        for saved in (False, False, True):
            with monkeypatch.context() as patch:
                stop(patch, task, saved)
                with pytest.raises(KeyboardInterrupt):
                    clbench.run(recipe, folder, resume=True)
    clbench.run(recipe, folder, resume=True)
    for read in (scalars, rows):
        here, there = read(folder), read(whole.folder)
        assert (here - there, there - here) == (Counter(), Counter())
