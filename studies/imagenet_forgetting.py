"""Forgetting of ImageNet: EfficientNet-Lite0 learns CIFAR-10, with every kind of method.

    python studies/imagenet_forgetting.py [--run --stream YAML --data_dir DIR]

See :mod:`suite_page` for the words, ``suites/imagenet_forgetting.yaml`` for the runs.
"""

from __future__ import annotations

from suite_page import COLUMNS, Claim, Study, main

STUDY = Study(
    name="imagenet_forgetting",
    title="Forgetting of ImageNet",
    about="""
EfficientNet-Lite0 with real ImageNet weights (45.6 % top-1 on the retention images at this
size; 87.2 % at its own 224 pixels) learns real CIFAR-10 images as five tasks of two classes:
96 × 96 pixels, 80 training images a class and 20 for validation, 50 test images a class,
16 steps of 20 images a task, a linear-probed head for each task. Accuracies are
task-incremental. Retention is ImageNet top-1 with the original head and BatchNorm put back,
as in FLOW's paper, on 500 images of 500 classes.

Files that stood in for the data sets: CIFAR-10's 60,000 images as JPEG files in class folders
(so pixels differ slightly from the originals), read as an `image_folder` stream with tasks in
the order of the class names; one validation image for each of 500 ImageNet classes.
""",
    claims=(
        Claim(
            "FLOW: FLOW keeps more of pretraining than fine-tuning",
            "flow",
            "sequential",
            "retention",
        ),
        Claim("FLOW: FLOW learns the target less well than fine-tuning", "sequential", "flow"),
        Claim("FLOW: FLOW keeps more than ℓ2", "flow", "l2", "retention"),
        Claim("FLOW: FLOW keeps more than WiSE-FT", "flow", "wise_ft", "retention"),
        Claim("FLOW: FLOW has a better average than fine-tuning", "flow", "sequential", "average"),
        Claim(
            "FLOW: FLOW has a better average than the linear probe",
            "flow",
            "linear_probe",
            "average",
        ),
        Claim("FLOW: FLOW has a better average than ℓ2", "flow", "l2", "average"),
        Claim("FLOW: FLOW has a better average than WiSE-FT", "flow", "wise_ft", "average"),
        Claim(
            "FLOW: WiSE-FT on top keeps more than FLOW alone", "flow_wise_ft", "flow", "retention"
        ),
        Claim("SFA: multitask is above replay 10 %", "multitask", "replay_10"),
        Claim("SFA: replay 10 % is above replay 5 %", "replay_10", "replay_5"),
        Claim("SFA: SFA (p = 0.9) is above sequential", "sfa_p90", "sequential"),
        Claim(
            "SFA: SFA (p = 0.9) is above WiSE-FT with the previous weights (p = 1)",
            "sfa_p90",
            "sfa_p100",
        ),
        Claim(
            "SFA: WiSE-FT with the previous weights (p = 1) is above sequential",
            "sfa_p100",
            "sequential",
        ),
        Claim("SFA: SFA (p = 0.9) is above replay 5 %", "sfa_p90", "replay_5"),
        Claim("SFA: Task Arithmetic is at or below sequential", "sequential", "task_arithmetic"),
        Claim("SFA: SFA (p = 0.9) is above ℓ2", "sfa_p90", "l2"),
        Claim("SFA: SFA (p = 0.9) is above EWC (online)", "sfa_p90", "ewc_online"),
        Claim("MoFO: MoFO is above full fine-tuning (AdamW) in OP", "mofo", "sequential_adamw"),
        Claim(
            "MoFO: MoFO is above full fine-tuning (AdamW) in BWT",
            "mofo",
            "sequential_adamw",
            "backward_transfer",
        ),
        Claim(
            "MoFO: MoFO keeps more of pretraining than full fine-tuning (AdamW)",
            "mofo",
            "sequential_adamw",
            "retention",
        ),
        Claim(
            "MoFO: MoFO ends nearer to θ_* than AdamW", "mofo", "sequential_adamw", "distance", -1
        ),
        Claim("MoFO: MoFO is above HFT", "mofo", "hft"),
        Claim("MoFO: replay + MoFO is above replay", "replay_10_mofo", "replay_10"),
        Claim("MoFO: GEM + MoFO is above GEM", "gem_mofo", "gem"),
        Claim("MoFO: multitask is above replay + MoFO", "multitask", "replay_10_mofo"),
        Claim(
            "FLOW: at the same rate (0.01), FLOW keeps more than fine-tuning",
            "flow",
            "sequential, lr 0.01",
            "retention",
        ),
        Claim(
            "FLOW: at the same rate (0.01), FLOW has a better average than fine-tuning",
            "flow",
            "sequential, lr 0.01",
            "average",
        ),
        Claim(
            "FLOW: at the same rate (0.01), ℓ2 keeps more than fine-tuning",
            "l2",
            "sequential, lr 0.01",
            "retention",
        ),
        Claim(
            "MoFO: at the same rate (0.001), MoFO is above full fine-tuning in OP",
            "mofo",
            "sequential_adamw, lr 0.001",
        ),
        Claim(
            "MoFO: at the same rate (0.001), MoFO keeps more than full fine-tuning",
            "mofo",
            "sequential_adamw, lr 0.001",
            "retention",
        ),
        Claim(
            "MoFO: at the same rate (0.001), MoFO ends nearer to θ_* than AdamW",
            "mofo",
            "sequential_adamw, lr 0.001",
            "distance",
            -1,
        ),
    ),
    metrics=COLUMNS | {"distance": "distance to θ_*"},
    figures=("frontier", "over_tasks"),
    more=("imagenet_rates",),
)

if __name__ == "__main__":
    main(STUDY)
