"""MoFO's Tables 3 to 6 on small image streams.

    python studies/mofo_digits.py [--run]

See :mod:`suite_page` for the words, ``suites/mofo_digits.yaml`` (a stream that forgets: Table 5) and
``suites/mofo_one_task.yaml`` (one task, and what pretraining gave: Tables 3, 4 and 6) for the runs.
Written down before they ran: the claims below, ten seeds, each by the score that the paper's
sentence is about, decided by a paired t test, corrected over the page. Table 5: OP and BWT. Table 6
and the figure of fractions: how well the task is learned, and what is kept.
"""

from __future__ import annotations

from suite_page import COLUMNS, Claim, Study, main

STREAM, ONE = "three tasks", "one task"
BWT, LEARNED = "backward_transfer", "learning_accuracy"


def table_5(percent: int) -> list[Claim]:
    """The orders of Table 5 between the pairs that the paper speaks of."""
    mofo, gem, replay = f"mofo_{percent}", f"gem_mofo_{percent}", f"replay_mofo_{percent}"
    told = [
        (f"MoFO ({percent} %) is above full fine-tuning", mofo, "full"),
        (f"MoFO ({percent} %) is above HFT", mofo, "hft"),
        (f"MoFO ({percent} %) is above GEM", mofo, "gem"),
        (f"GEM + MoFO ({percent} %) is above GEM", gem, "gem"),
        (f"GEM + MoFO ({percent} %) is above MoFO", gem, mofo),
        (f"replay + MoFO ({percent} %) is above replay", replay, "replay"),
    ]
    made = [Claim(f"{text} in OP", ours, theirs, section=STREAM) for text, ours, theirs in told]
    bwt = [Claim(f"{text} in BWT", *pair, BWT, section=STREAM) for text, *pair in told[:3]]
    return made + bwt


def one(text: str, better: str, worse: str | tuple[str, ...], metric: str, **more: object) -> Claim:
    """A claim about the one task."""
    return Claim(text, better, worse, metric, section=ONE, **more)  # type: ignore[arg-type]


def table_6(percent: int) -> list[Claim]:
    """The orders of Table 6, at one update fraction."""
    mofo, gradient, chance = f"mofo_{percent}", f"gradient_{percent}", f"random_{percent}"
    return [
        one(f"momentum ({percent} %) learns better than gradients", mofo, gradient, LEARNED),
        one(f"momentum ({percent} %) learns better than chance", mofo, chance, LEARNED),
        one(f"gradients ({percent} %) learn better than chance", gradient, chance, LEARNED),
        one(f"MoFO ({percent} %) keeps more of pretraining than full fine-tuning", mofo, "full",
            "retention"),
        one(f"MoFO ({percent} %) learns as well as full fine-tuning, but for three points", mofo,
            "full", LEARNED, kind="no_less", margin=0.03),
        one(f"MoFO ({percent} %) has a better average than full fine-tuning", mofo, "full",
            "average"),
    ]  # fmt: skip


STUDY = Study(
    name="mofo_digits",
    title="MoFO on digits",
    about="""
A small network, pretrained on the digits 0 to 3, learns 4 to 9: as three tasks of two (100 steps a
task), and as one task (300 steps). The loss is taken within the task; three rows that end in _all take
it over all outputs, where a trial run of other seeds had shown MoFO forget more than full fine-tuning. Every
row has AdamW at one constant rate (0.001) and batches of 32. Retention: the four digits, with the
original head. The paper's tasks are language; its orders are what is tested here, not its levels.
""",
    claims=(
        *table_5(5),
        *table_5(10),
        Claim("HFT is above full fine-tuning in OP", "hft", "full", section=STREAM),
        Claim("GEM is above HFT in OP", "gem", "hft", section=STREAM),
        Claim("GEM is above full fine-tuning in BWT", "gem", "full", BWT, section=STREAM),
        Claim("replay is above MoFO (5 %) in OP", "replay", "mofo_5", section=STREAM),
        Claim("multitask is above replay + MoFO (5 %) in OP", "multitask", "replay_mofo_5",
              section=STREAM),
        Claim("with the loss over all outputs, MoFO (10 %) is above full fine-tuning in OP",
              "mofo_10_all", "full_all", section=STREAM),
        Claim("with the loss over all outputs, momentum (10 %) is above gradients in OP",
              "mofo_10_all", "gradient_10_all", section=STREAM),
        *table_6(5),
        *table_6(10),
        one("MoFO (10 %) keeps more of pretraining than HFT", "mofo_10", "hft", "retention"),
        one("MoFO (10 %) has a better average than ℓ2 of whichever strength", "mofo_10",
            ("l2", "l2_0.1", "l2_1"), "average"),
        one("MoFO (10 %) has a better average than ℓ1 of whichever strength", "mofo_10",
            ("l1", "l1_0.001", "l1_0.01"), "average"),
        one("MoFO (10 %) ends nearer to the pretrained weights than AdamW at equal steps",
            "mofo_10", "full", "distance", sign=-1),
        one("5 % keeps more of pretraining than 80 %", "mofo_5", "mofo_80", "retention"),
        one("from 40 % on MoFO learns as well as full fine-tuning, but for one point", "mofo_40",
            "full", LEARNED, kind="no_less", margin=0.01),
    ),
    reference="full",
    metrics=COLUMNS | {"distance": "distance to θ_*"},
    figures=("frontier",),
    only=("mofo_digits", "mofo_one_task"),
    streams={STREAM: "mofo_digits", ONE: "mofo_one_task"},
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
