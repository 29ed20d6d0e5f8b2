"""What is forgotten, by six measures: the original head's accuracy beside what features still tell.

    python studies/retention_measures.py [--run --stream YAML --data_dir DIR]

See :mod:`suite_page` for the words, ``suites/retention_measures.yaml`` for the runs. Nothing is claimed and
nothing is decided: the page shows what the measures are, on real images, with one seed.
"""

from __future__ import annotations

from suite_page import COLUMNS, Study, main

STUDY = Study(
    name="retention_measures",
    title="What is forgotten, by six measures",
    about="""
EfficientNet-Lite0 with real ImageNet weights learns real CIFAR-10 images as five tasks of two classes, as in
[Forgetting of ImageNet](../imagenet_forgetting/README.md): 96 × 96 pixels, 16 steps of 20 images a task at a
constant rate, a linear-probed head, BatchNorm's statistics frozen.
""",
    claims=(),
    figures=("frontier_by_measure", "kept_over_tasks"),
    metrics=COLUMNS | {"distance": "distance to θ_*"},
)

if __name__ == "__main__":
    main(STUDY)
