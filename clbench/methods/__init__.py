"""Methods, by name. A new one is a file here and a row in the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clbench import LateTable, imported

if TYPE_CHECKING:
    from clbench.methods.base import Method

METHODS: LateTable[type[Method]] = imported(
    "clbench.methods",
    {
        "sequential": "sequential:Sequential",
        "multitask": "multitask:Multitask",
        "linear_probe": "linear_probe:LinearProbe",
        "ema": "ema:EMA",
        "flow": "flow:FLOW",
        "head_refit": "head_refit:HeadRefit",
        "sfa": "sfa:SFA",
        "wise_ft": "wise_ft:WiSEFT",
        "task_arithmetic": "merge:TaskArithmetic",
        "ties": "merge:TIES",
        "l1": "penalty:L1",
        "l2": "penalty:L2",
        "ewc": "ewc:EWC",
        "ewc_merge": "fisher:EWCMerge",
        "fisher_merge": "fisher:FisherMerge",
        "lwf": "lwf:LwF",
        "replay": "replay:Replay",
        "der_pp": "der:DERpp",
        "gem": "gem:GEM",
        "agem": "gem:AGEM",
        "mofo": "mofo:MoFO",
        "hft": "hft:HFT",
        "lora": "lora:LoRA",
        "l2p": "l2p:L2P",
        "ncm": "ncm:NCM",
        "slda": "slda:SLDA",
        "ranpac": "ranpac:RanPAC",
        "fecam": "fecam:FeCAM",
        "aper": "aper:APER",
        "ease": "ease:EASE",
        "slow_trunk": "slow_trunk:SlowTrunk",
        "align_head": "align_head:AlignHead",
        "si": "si:SI",
        "mas": "mas:MAS",
        "rwalk": "rwalk:RWalk",
        "ldifs": "ldifs:LDIFS",
        "der": "der:DER",
        "er_ace": "er_ace:ERACE",
        "magmax": "magmax:MagMax",
        "dare": "dare:DARE",
        "knn": "knn:NearestNeighbours",
        "cofima": "cofima:CoFiMA",
        "opcm": "opcm:OPCM",
        "freeze": "freeze:Freeze",
        "bitfit": "bitfit:BitFit",
        "ln_only": "ln_only:LNOnly",
        "l2_sp": "l2_sp:L2SP",
        "icarl": "icarl:ICaRL",
        "lp_ft": "lp_ft:LPFT",
        "inflora": "inflora:InfLoRA",
        "spu": "spu:SPU",
        "sd_lora": "sd_lora:SDLoRA",
        "gpm": "gpm:GPM",
        "dualprompt": "dualprompt:DualPrompt",
        "coda_prompt": "coda_prompt:CODAPrompt",
        "zscl": "zscl:ZSCL",
    },
)


def name_of(method: Method) -> str:
    """What a method is called in a recipe."""
    kind = type(method)
    return METHODS.name_of(kind) or kind.__name__.lower()
