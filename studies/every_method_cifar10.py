"""Every method on a CNN with ImageNet weights: three tasks of Split CIFAR-10, EfficientNet-Lite0.

    python studies/every_method_cifar10.py [--run --stream YAML --data_dir DIR]

See :mod:`suite_page` for the words, ``suites/every_method_cifar10.yaml`` for the runs. Written down before
they ran: five seeds, and for each method the claim that ``studies/every_method.py`` has of it, by the same
score and against the same kind of row: one that differs from it in nothing but the method; decided by a
paired t test, corrected over the page. The rate of AdamW, one of two, and the number of steps were chosen
on seed 90 of plain fine-tuning, by how much it learns and forgets. Nothing was tuned.

Where the loss compares a sample with all classes so far, replay has the scope that it has by default.
"""

from __future__ import annotations

from every_method import claims, rows
from suite_page import COLUMNS, Study, main

#: What is shown with its head aligned, beside SLCA.
ALIGNED = ("sequential", "sfa", "lwf", "replay")
NAME = "every_method_cifar10"
STUDY = Study(
    name=NAME,
    title="Every method on a CNN with ImageNet weights",
    about="""
EfficientNet-Lite0 with its ImageNet weights learns the first three of CIFAR-10's five tasks of two classes: 80 training images a class
at 64 × 64 pixels, 20 steps of 16 images a task, AdamW at one constant rate of 0.0001, a linear-probed head for each
task, BatchNorm's statistics as pretrained. The loss compares a sample with all classes seen so far; in
`sequential_task`, with those of its own task alone. Retention is the accuracy on 500 images of ImageNet by the
original head; *kNN* votes on the features of 189 pictures of seven kinds of animals.

Nothing is tuned: methods have their default settings, or those that the suite names. **A control** is the row that
differs in the method alone, as in [every method on one stream](../every_method/README.md).
""",
    claims=tuple(claims(rows(NAME), ALIGNED)),
    scenario="class_incremental",
    scenarios=("class_incremental", "task_incremental"),
    metrics=COLUMNS | {"average_incremental_accuracy": "Ā", "after:animals/knn": "animals by kNN"},
    figures=("frontier",),
)

if __name__ == "__main__":
    main(STUDY)
