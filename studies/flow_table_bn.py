"""FLOW's table in small, with BatchNorm as FLOW's authors have it.

    python studies/flow_table_bn.py [--run --stream YAML --data_dir DIR]

See ``studies/flow_table.py``, whose claims stand here once more, of other runs:
``suites/flow_table_bn.yaml``. Beside them is what BatchNorm's statistics cost when they move. Written
down before these runs and those of flow_table. When three seeds had been looked at, four more were
registered for what was too noisy, in the rows flow_bn and probed_lr0.001_bn; when these had been
looked at, the first three of them in the other rows that claims are about (fine_tuning_bn, wise_ft_bn,
flow_wise_ft_bn and linear_probe_bn), as five claims were at p = 0.052; there was time for two. Every p
is tripled for the third look.
"""

from __future__ import annotations

from dataclasses import replace

import flow_table
from suite_page import ALL, Claim, main

STUDY = replace(
    flow_table.STUDY,
    name="flow_table_bn",
    title="FLOW's table in small, BatchNorm as the authors have it",
    looks=3,
    about=flow_table.STUDY.about.replace(
        "BatchNorm's statistics stay those of ImageNet.",
        "Rows that end in _bn have BatchNorm as the authors do: in training mode in the probe, in both\n"
        "rounds and in fine-tuning; in the others its statistics stay those of ImageNet.",
    ),
    claims=(
        *flow_table.claims("_bn", ("probed_lr0.001",), (), ("wise_ft",)),
        Claim("frozen statistics learn the target better than moving ones: the probe",
              "linear_probe", "linear_probe_bn", section=ALL, part=("model",)),
        Claim("frozen statistics learn the target better than moving ones: fine-tuning",
              "fine_tuning", "fine_tuning_bn", section=ALL, part=("model",)),
    ),
    reading="""
## Why

* **With BatchNorm as the authors have it, most of their table's orders come out**: FLOW learns the target less
  well than fine-tuning and better than the probe, keeps far more of ImageNet than fine-tuning and WiSE-FT,
  and has a better average than each of the three. [With frozen statistics](../flow_table/README.md) it is
  not above the probe. Against fine-tuning from the same head at the same rate it keeps 10.7 points more [4.4, 16.9]; its
  average is too noisy to say (by the means 10 points above on digits, 0.2 on CIFAR-10).
* **The probe is why.** In training mode its features are normalised by the statistics of 32 images, and it is
  evaluated with running ones: it loses 12.4 points of the target [9.6, 15.1]. FLOW and fine-tuning start
  from that head and make up for some of it, so that they learn more than the probe; with frozen
  statistics there is nothing to make up for.
* Rows with BatchNorm in training lose target by it, as the probe does; in fine-tuning from a random head at
  0.005 they also are more stable than frozen ones, some of which collapse, so that what BatchNorm costs
  fine-tuning cannot be said.
""",
    reference="fine_tuning_bn",
    more=("flow_table",),
)  # fmt: skip

if __name__ == "__main__":
    main(STUDY)
