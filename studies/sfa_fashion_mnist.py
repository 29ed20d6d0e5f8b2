"""SFA's Fig. 1 and 2 in small, on Fashion-MNIST: the claims of ``sfa_stream``, of other runs.

    python studies/sfa_fashion_mnist.py [--run --data_dir DIR]

See ``studies/sfa_stream.py``; the runs are ``suites/sfa_fashion_mnist.yaml``. Ten seeds (a trial run of
two others had standard deviations of 5 to 15 points). Written down when digits had run, and before
these runs: the claims by class-incremental accuracy are asked here for the first time. When the ten
had been looked at, 30 more seeds were registered for what was too noisy, in the rows sequential,
sfa_p50, sfa_p96, sfa_p100, replay_5 and task_arithmetic; every p is doubled for the second look.
"""

from __future__ import annotations

from dataclasses import replace

import sfa_stream
from sfa_stream import CLOTHES, among_all, at_96, claims
from suite_page import main

STUDY = replace(
    sfa_stream.STUDY,
    name="sfa_fashion_mnist",
    title="SFA on a stream that forgets: Fashion-MNIST",
    looks=2,
    about="""
A small network that knows nothing learns Fashion-MNIST as five tasks of two classes, one after the
other: 600 training images a class, 100 steps a task.
"""
    + sfa_stream.ABOUT,
    claims=(*claims(CLOTHES), *among_all(CLOTHES), *at_96(CLOTHES)),
    reading="""
## Why

* **SFA is above sequential fine-tuning (by 11.0 points [8.3, 13.7] at p = 0.96, 10.0 at p = 0.5), above one
  average at the end with its own β (by 9.0 [6.8, 11.2] at p = 0.96), and not below replay of 5 %**, as in the
  paper. One average with β = 0.75 is where SFA is: on these ten seeds nothing is between them (-0.8
  [-6.1, 4.5]): what counts may be how far back the average goes, which was not tested.
* **Task Arithmetic is 11.3 points above sequential fine-tuning [9.0, 13.7] by task-incremental accuracy,
  against the paper**, as [on digits](../sfa_stream/README.md), and 2.0 below it by class-incremental accuracy, as in the paper.
* ℓ2 and EWC have ten seeds, which differ by 5 to 8 points: whether SFA is above them is not decided.
* Class-incremental accuracy is near that of the last task alone (20 % at most) for all but multitask: nothing
  that sees no past data keeps the five tasks apart, so that the orders on digits cannot be tested here.
""",
    only=("sfa_fashion_mnist",),
    streams={CLOTHES: "fashion"},
)

if __name__ == "__main__":
    main(STUDY)
