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

Measured after every task, on images that are never trained on: `head`, ImageNet top-1 of 500 images of 500
classes with the original head; `cka`, on the same images; `animals/knn`, `animals/ridge` and
`animals/ncm`, on the 189 of them that show animals, in seven groups (fish, birds, reptiles, arthropods,
dogs, cats and bears, other mammals), half of which the classifiers are made of; `digits/knn`, on 200
handwritten digits. Beside them is the trunk's distance from θ_*.

Files that stood in for the data sets: CIFAR-10's images as JPEG files in class folders, with tasks in the
order of the class names; one validation image for each of 500 ImageNet classes.
""",
    claims=(),
    reading="""
## What it shows

* At a rate of 0.003 plain fine-tuning leaves 9 % of what the original head knew of ImageNet, and 58 to 67 %
  of what classifiers made anew of its features know of animals: most of what the head lost is still in the features. Digits,
  which pretraining never saw, are told apart as before.
* At 0.001 the head and CKA see more of a loss (81 and 78 % are kept) than the classifiers of animals (92, 94 and
  101 %).
* One seed: numbers that are close are not told apart. The run of sequential was paused for some minutes, which its
  seconds include.
""",
    figures=("frontier_by_measure", "kept_over_tasks"),
    metrics=COLUMNS | {"distance": "distance to θ_*"},
)

if __name__ == "__main__":
    main(STUDY)
