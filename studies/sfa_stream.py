"""SFA's Fig. 1 and 2 in small: a stream that forgets, on digits.

    python studies/sfa_stream.py [--run]

See :mod:`suite_page` for the words, ``suites/sfa_digits.yaml`` for the runs; the same on Fashion-MNIST
is ``studies/sfa_fashion_mnist.py``. Written down before they ran: the claims below, all by the mean
accuracy over all tasks after the last (OP) of the task-incremental kind, 24 seeds (as many as a trial
run of ten others said that the claims would take), decided by a paired t test, corrected over the
page. Where a method has a strength (ℓ2, EWC, the β of p = 1), the claim takes the strength that is
best on the very runs compared: a choice in that method's favour. SFA's p = 0.5 was the best in that
trial run; the paper has 0.96 and 0.98 for images. Claims that were added later say so. When the 24 had
been looked at, 56 more seeds were registered for what was too noisy, in the rows sequential,
task_arithmetic, sfa_p96 and sfa_p100, and these but sfa_p96 and with sfa_p50 by the loss within the
task; there was time for 36 or 37, and none for sequential and task_arithmetic by the loss within the
task. Every p is doubled for the second look.
"""

from __future__ import annotations

from suite_page import COLUMNS, Claim, Study, main

DIGITS, CLOTHES = "digits", "Fashion-MNIST"
#: Strengths in the suites, by stream.
L2 = {
    DIGITS: ("l2_0.1", "l2_1"),
    CLOTHES: ("l2_0.1", "l2_1"),
}
EWC = {
    DIGITS: ("ewc_1000", "ewc_10000", "ewc_100000", "ewc_1000000"),
    CLOTHES: ("ewc_100", "ewc_1000", "ewc_10000"),
}
ONCE = ("sfa_p100_b25", "sfa_p100", "sfa_p100_b75")
LATER = "asked after the first run: "
#: What the claims that one average at the end does not make up for p < 1, whichever its β, allow for.
WHICHEVER = ("methods.sfa.p", "methods.sfa.beta")


def claims(stream: str) -> list[Claim]:
    """What Fig. 1, Fig. 7 and sections 5.1, 5.4 and 6 of the paper claim, of one stream."""
    told = [
        ("without intervention, earlier tasks are forgotten: multitask is above sequential",
         "multitask", "sequential"),
        ("replay of 10 % is at or below multitask", "multitask", "replay_10"),
        ("replay of 5 % is above sequential", "replay_5", "sequential"),
        ("WiSE-FT with the previous weights (p = 1) is above sequential", "sfa_p100", "sequential"),
        ("SFA (p = 0.96) is above sequential", "sfa_p96", "sequential"),
        ("SFA (p = 0.5) is above sequential", "sfa_p50", "sequential"),
        ("averaging in training (p = 0.96) is above one average at the end (p = 1)",
         "sfa_p96", "sfa_p100"),
        ("... and above one average at the end with β = 0.75", "sfa_p96", "sfa_p100_b75",
         *WHICHEVER),
        ("averaging in training (p = 0.5) is above one average at the end with whichever β",
         "sfa_p50", ONCE, *WHICHEVER),
        ("SFA (p = 0.5) is above ℓ2 to θ_o of whichever strength", "sfa_p50", L2[stream]),
        ("SFA (p = 0.5) is above EWC of whichever strength", "sfa_p50", EWC[stream]),
        ("SFA (p = 0.5) is above Task Arithmetic", "sfa_p50", "task_arithmetic"),
        ("Task Arithmetic is at or below sequential", "sequential", "task_arithmetic"),
    ]  # fmt: skip
    made = [
        Claim(f"{stream}: {text}", better, worse, section=stream, part=tuple(part))
        for text, better, worse, *part in told
    ]
    made.append(
        Claim(
            f"{stream}: SFA (p = 0.5) is comparable to replay of 5 %: no more than 2 points below",
            "sfa_p50", "replay_5", section=stream, kind="no_less", margin=0.02,
        )
    )  # fmt: skip
    return made


#: Whether orders change under the milder loss, about which the paper says nothing.
MILDER = (
    Claim("digits, loss within the task: SFA (p = 0.5) is above sequential", "sfa_p50_task",
          "sequential_task", section=DIGITS),
    Claim("digits, loss within the task: SFA (p = 0.5) is above p = 1", "sfa_p50_task",
          "sfa_p100_task", section=DIGITS),
    Claim("digits, loss within the task: Task Arithmetic is at or below sequential",
          "sequential_task", "task_arithmetic_task", section=DIGITS),
)  # fmt: skip


def among_all(stream: str, asked: str = "") -> list[Claim]:
    """The order of Fig. 1 once more, by accuracy among all classes seen: the paper does not say
    among which classes it counts."""
    told = [
        ("SFA (p = 0.5) is above EWC of whichever strength", "sfa_p50", EWC[stream]),
        ("SFA (p = 0.5) is above ℓ2 to θ_o of whichever strength", "sfa_p50", L2[stream]),
        ("SFA (p = 0.5) is above replay of 5 %", "sfa_p50", "replay_5"),
        ("Task Arithmetic is at or below sequential", "sequential", "task_arithmetic"),
    ]
    return [
        Claim(f"{asked}{stream}, class-incremental: {text}", better, worse, section=stream,
              scenario="class_incremental")
        for text, better, worse in told
    ]  # fmt: skip


def at_96(stream: str, asked: str = "") -> list[Claim]:
    """The orders at the paper's own interval, which is 0.96 to 0.98 for images."""
    return [
        Claim(f"{asked}{stream}: SFA (p = 0.96) is above {text}", "sfa_p96", worse, section=stream,
              part=tuple(part))
        for text, worse, *part in (
            ("ℓ2 to θ_o of whichever strength", L2[stream]),
            ("EWC of whichever strength", EWC[stream]),
            ("p = 0.5", "sfa_p50", "methods.sfa.p"),
        )
    ]  # fmt: skip


#: Whether the order at the paper's interval depends on the classes among which accuracy is counted.
WHY = (
    *(
        Claim(f"{LATER}digits, class-incremental: SFA (p = 0.96) is above {text}", "sfa_p96", worse,
              section=DIGITS, scenario="class_incremental")
        for text, worse in (
            ("ℓ2 to θ_o of whichever strength", L2[DIGITS]),
            ("EWC of whichever strength", EWC[DIGITS]),
        )
    ),
)  # fmt: skip


ABOUT = """
Every row has AdamW at one constant rate and equally many steps; the loss is taken over all outputs, so
that a new task pushes the outputs of earlier ones down, and tasks are forgotten. The paper gives
neither optimiser nor schedule, nor over which outputs the loss is taken; ViT-B and twenty tasks are
beyond two cores.
"""
STUDY = Study(
    name="sfa_stream",
    title="SFA on a stream that forgets",
    looks=2,
    about="""
A small network with weights pretrained on scikit-learn's digits 0 to 3 learns 4 to 9 as three tasks of
two classes, one after the other, 100 steps each.
"""
    + ABOUT,
    claims=(*claims(DIGITS), *MILDER, *among_all(DIGITS, LATER), *at_96(DIGITS, LATER), *WHY),
    reading="""
## Why

* **Which accuracy is counted decides the order**, with the loss over all outputs. Among the classes of a task
  (task-incremental), the best ℓ2 and EWC are 2 points above SFA with p = 0.5, and Task Arithmetic is above
  sequential fine-tuning, against the paper. Among all classes seen, in the same runs, SFA with p from 0.5 to
  0.96 is far above all that see no past data and above replay, and Task Arithmetic is where sequential fine-tuning is: the
  paper's order. It does not say which of the two it counts.
* **With the loss within the task** less is forgotten. SFA with p = 0.5 is ahead among all classes (65.5), too, but
  Task Arithmetic (59.7) is 12.4 points above sequential fine-tuning there, against the paper; within the
  task the two cannot be told apart, and p = 0.5 is no point above p = 1.
* **β** is not why SFA is not above ℓ2 and EWC: with 0.25 and 0.75 in place of 0.5 it is lower by both
  accuracies, at p = 0.5 and at 0.96. It was so on six other seeds before.
* **p.** By task-incremental accuracy the smaller p, the better, down to 0.5; among all classes 0.5, 0.9 and 0.75
  are close (49.6, 48.1, 46.4). The paper has 0.98 above smaller ones, of tasks that are trained far
  longer; whether that is why was not tested.
""",
    metrics={k: v for k, v in COLUMNS.items() if k not in ("retention", "average")},
    figures=("bars", "over_tasks"),
    only=("sfa_digits",),
    streams={DIGITS: "digits"},
    scenarios=("task_incremental", "class_incremental"),
)

if __name__ == "__main__":
    main(STUDY)
