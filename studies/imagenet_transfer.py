"""FLOW's vision protocol, made small: EfficientNet-Lite0 tuned on CIFAR-10.

    python studies/imagenet_transfer.py [--run --stream YAML --data_dir DIR]

See :mod:`suite_page` for the words, ``suites/imagenet_transfer.yaml`` for the runs.
"""

from __future__ import annotations

from suite_page import Claim, Study, main

STUDY = Study(
    name="imagenet_transfer",
    title="FLOW's transfer, made small",
    reference="standard_ft",
    about="""
Sanyal et al., *Upweighting easy samples in fine-tuning mitigates forgetting*, the vision table,
with one data set and a small network: EfficientNet-Lite0 with real ImageNet weights is tuned on
CIFAR-10's ten classes: 96 × 96 pixels, 80 training images a class and 20 for validation, 50 test
images a class, 80 steps of 20 images, SGD with a cosine schedule. Linear probe → τ (median of the
probed losses) → round 1 → round 2 (`head_refit`). OP is the target accuracy; retention is
ImageNet top-1 with the original head and BatchNorm put back, on 500 images of 500 classes;
average is the mean of both, as in the paper.

Files that stood in for the data sets: CIFAR-10's 60,000 images as JPEG files in class folders (so
pixels differ slightly from the originals), read as an `image_folder` stream; one validation image
for each of 500 ImageNet classes.
""",
    claims=(
        Claim("average: FLOW is above standard fine-tuning", "flow", "standard_ft", "average"),
        Claim("average: FLOW is above the linear probe", "flow", "linear_probe", "average"),
        Claim("average: FLOW is above WiSE-FT", "flow", "wise_ft", "average"),
        Claim("average: FLOW is above ℓ2", "flow", "l2", "average"),
        Claim("average: FLOW is above WiSE-FT + FLOW", "flow", "flow_wise_ft", "average"),
        Claim("average: the linear probe is above WiSE-FT", "linear_probe", "wise_ft", "average"),
        Claim("average: WiSE-FT is above ℓ2", "wise_ft", "l2", "average"),
        Claim("average: ℓ2 is above standard fine-tuning", "l2", "standard_ft", "average"),
        Claim("retention: WiSE-FT + FLOW is above FLOW", "flow_wise_ft", "flow", "retention"),
        Claim("retention: FLOW is above WiSE-FT", "flow", "wise_ft", "retention"),
        Claim("retention: WiSE-FT is above ℓ2", "wise_ft", "l2", "retention"),
        Claim("retention: ℓ2 is above standard fine-tuning", "l2", "standard_ft", "retention"),
        Claim("target: standard fine-tuning is above ℓ2", "standard_ft", "l2"),
        Claim("target: ℓ2 is above FLOW", "l2", "flow"),
        Claim("target: FLOW is above WiSE-FT", "flow", "wise_ft"),
        Claim("target: WiSE-FT is above the linear probe", "wise_ft", "linear_probe"),
    ),
    metrics={
        "retention": "IN-1k",
        "overall_performance": "target",
        "average": "average",
        "distance": "distance to θ_*",
    },
)

if __name__ == "__main__":
    main(STUDY)
