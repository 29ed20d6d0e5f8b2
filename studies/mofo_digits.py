"""MoFO's Tables 5 and 6 on a small image stream.

    python studies/mofo_digits.py [--run]

See :mod:`suite_page` for the words, ``suites/mofo_digits.yaml`` for the runs. Written down before
they ran: the claims below, ten seeds, each by the score that the paper's sentence is about, decided by
a paired t test, corrected over the page. Table 5: OP and BWT, α = 5 % (and 10 %, as a second size).
Table 6: how well a task is learned (learning accuracy) and what is kept, α = 10 % (and 5 %). "Nearer"
is at equal steps here; at equal training loss (section 2.3) it is the study ``mofo_loss``.
"""

from __future__ import annotations

from suite_page import COLUMNS, Claim, Study, main

BWT, LEARNED = "backward_transfer", "learning_accuracy"


def table_5(percent: int) -> list[Claim]:
    """The orders of Table 5 between neighbours and pairs that the paper speaks of."""
    mofo, gem, replay = f"mofo_{percent}", f"gem_mofo_{percent}", f"replay_mofo_{percent}"
    told = [
        (f"MoFO ({percent} %) is above full fine-tuning", mofo, "full"),
        (f"MoFO ({percent} %) is above HFT", mofo, "hft"),
        (f"MoFO ({percent} %) is above GEM", mofo, "gem"),
        (f"GEM + MoFO ({percent} %) is above GEM", gem, "gem"),
        (f"GEM + MoFO ({percent} %) is above MoFO", gem, mofo),
        (f"replay + MoFO ({percent} %) is above replay", replay, "replay"),
    ]
    made = [Claim(f"{text} in OP", better, worse) for text, better, worse in told]
    bwt = [Claim(f"{text} in BWT", better, worse, BWT) for text, better, worse in told[:3]]
    return made + bwt


def table_6(percent: int) -> list[Claim]:
    """The orders of Table 6 and of the figure of fractions."""
    mofo = f"mofo_{percent}"
    return [
        Claim(f"momentum ({percent} %) learns better than gradients", mofo,
              f"gradient_{percent}", LEARNED),
        Claim(f"momentum ({percent} %) learns better than chance", mofo,
              f"random_{percent}", LEARNED),
        Claim(f"gradients ({percent} %) learn better than chance", f"gradient_{percent}",
              f"random_{percent}", LEARNED),
        Claim(f"full fine-tuning learns better than momentum ({percent} %)", "full", mofo, LEARNED),
        Claim(f"momentum ({percent} %) keeps more of pretraining than full fine-tuning", mofo,
              "full", "retention"),
    ]  # fmt: skip


STUDY = Study(
    name="mofo_digits",
    title="MoFO on digits",
    about="""
A small network, pretrained on four digits, learns the six others as three tasks of two. Every row
has AdamW at one constant rate (0.002) and 100 steps of 32 images a task; the loss is taken over all
outputs, so that tasks are forgotten. Retention: the four digits, with the original head. The paper's
tasks are language; its orders are what is tested here, not its levels.
""",
    claims=(
        *table_5(5),
        *table_5(10),
        Claim("HFT is above full fine-tuning in OP", "hft", "full"),
        Claim("GEM is above HFT in OP", "gem", "hft"),
        Claim("GEM is above full fine-tuning in BWT", "gem", "full", BWT),
        Claim("replay is above GEM + MoFO (5 %) in OP", "replay", "gem_mofo_5"),
        Claim("multitask is above replay + MoFO (5 %) in OP", "multitask", "replay_mofo_5"),
        *table_6(5),
        *table_6(10),
        Claim("MoFO (10 %) has a better average of target and retention than ℓ2 of whichever "
              "strength", "mofo_10", ("l2", "l2_0.1", "l2_1"), "average"),
        Claim("MoFO (10 %) has a better average of target and retention than ℓ1 of whichever "
              "strength", "mofo_10", ("l1", "l1_0.001", "l1_0.01"), "average"),
        Claim("MoFO (10 %) ends nearer to the pretrained weights than AdamW at equal steps",
              "mofo_10", "full", "distance", -1),
        Claim("5 % keeps more of pretraining than 80 %", "mofo_5", "mofo_80", "retention"),
        Claim("80 % learns better than 5 %", "mofo_80", "mofo_5", LEARNED),
        Claim("from 40 % on MoFO learns as well as full fine-tuning, but for one point", "mofo_40",
              "full", LEARNED, kind="no_less", margin=0.01),
    ),
    reference="full",
    metrics=COLUMNS | {"distance": "distance to θ_*"},
    figures=("frontier", "bars"),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
