"""Why some methods do not do what their papers say on the stream of every method, tested.

    python studies/every_method_reasons.py [--run --data_dir DIR]

See :mod:`suite_page` for the words, ``suites/every_method_reasons.yaml`` for the runs. Written down before
they ran: the reasons that ``studies/every_method.py`` names, each as a claim that it would make true; five
seeds that no run had before, each with a pretraining of its own; a paired t test, corrected over the
page. No setting was tried before.
"""

from __future__ import annotations

from collections.abc import Iterator

from suite_page import COLUMNS, Claim, Study, main

PROMPTS = ("l2p", "dualprompt", "coda_prompt")
#: What is changed, and in which words.
REASONS = {
    "_task": "trained among its task's classes",
    "_long": "trained for eight times the steps",
}


def claims() -> Iterator[Claim]:
    """The likely reasons, as what would be seen if they were the reasons."""
    for method in PROMPTS:
        for end, words in REASONS.items():
            yield Claim(f"{method}, {words}, is above a probed head so trained (class-incremental OP)",
                        f"{method}{end}", f"linear_probe{end}")  # fmt: skip
    for strength in (100, 10000):
        yield Claim(f"ewc_merge of strength {strength} forgets less than sequential (task-incremental BWT)",
                    f"ewc_merge_{strength}", "sequential", "backward_transfer",
                    scenario="task_incremental")  # fmt: skip
    for name, decay in (("ema_long", 0.95), ("ema_0.99_long", 0.99)):
        yield Claim(f"EMA of decay {decay} keeps more of pretraining than sequential over four times the steps",
                    name, "sequential_long", "retention")  # fmt: skip


STUDY = Study(
    name="every_method_reasons",
    title="Why a method does not do here what its paper says",
    about="""
The stream and the network of [every method on one stream](../every_method/README.md), where prompts were no
better than a probed head at their rate, EWC-merge could do next to nothing and EMA kept no more than fine-tuning.
Each row changes what was named there as the likely reason, and so does the row that it is compared with.
""",
    claims=tuple(claims()),
    scenario="class_incremental",
    scenarios=("class_incremental", "task_incremental"),
    metrics=COLUMNS | {"average_incremental_accuracy": "Ā", "after:knn": "retention by kNN"},
    figures=("frontier",),
)

if __name__ == "__main__":
    main(STUDY)
