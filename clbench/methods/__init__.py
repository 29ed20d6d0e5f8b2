"""Methods, by name. A new one is a file here and a row in the table."""

from __future__ import annotations

from clbench.methods.align_head import AlignHead
from clbench.methods.aper import APER
from clbench.methods.base import Method
from clbench.methods.bitfit import BitFit
from clbench.methods.coda_prompt import CODAPrompt
from clbench.methods.cofima import CoFiMA
from clbench.methods.dare import DARE
from clbench.methods.der import DER, DERpp
from clbench.methods.dualprompt import DualPrompt
from clbench.methods.ease import EASE
from clbench.methods.ema import EMA
from clbench.methods.er_ace import ERACE
from clbench.methods.ewc import EWC
from clbench.methods.fecam import FeCAM
from clbench.methods.fisher import EWCMerge, FisherMerge
from clbench.methods.flow import FLOW
from clbench.methods.freeze import Freeze
from clbench.methods.gem import AGEM, GEM
from clbench.methods.gpm import GPM
from clbench.methods.head_refit import HeadRefit
from clbench.methods.hft import HFT
from clbench.methods.icarl import ICaRL
from clbench.methods.inflora import InfLoRA
from clbench.methods.knn import NearestNeighbours
from clbench.methods.l2_sp import L2SP
from clbench.methods.l2p import L2P
from clbench.methods.ldifs import LDIFS
from clbench.methods.linear_probe import LinearProbe
from clbench.methods.ln_only import LNOnly
from clbench.methods.lora import LoRA
from clbench.methods.lp_ft import LPFT
from clbench.methods.lwf import LwF
from clbench.methods.magmax import MagMax
from clbench.methods.mas import MAS
from clbench.methods.merge import TIES, TaskArithmetic
from clbench.methods.mofo import MoFO
from clbench.methods.multitask import Multitask
from clbench.methods.ncm import NCM
from clbench.methods.opcm import OPCM
from clbench.methods.penalty import L1, L2
from clbench.methods.ranpac import RanPAC
from clbench.methods.replay import Replay
from clbench.methods.rwalk import RWalk
from clbench.methods.sd_lora import SDLoRA
from clbench.methods.sequential import Sequential
from clbench.methods.sfa import SFA
from clbench.methods.si import SI
from clbench.methods.slda import SLDA
from clbench.methods.slow_trunk import SlowTrunk
from clbench.methods.spu import SPU
from clbench.methods.wise_ft import WiSEFT
from clbench.methods.zscl import ZSCL

METHODS: dict[str, type[Method]] = {
    "sequential": Sequential,
    "multitask": Multitask,
    "linear_probe": LinearProbe,
    "ema": EMA,
    "flow": FLOW,
    "head_refit": HeadRefit,
    "sfa": SFA,
    "wise_ft": WiSEFT,
    "task_arithmetic": TaskArithmetic,
    "ties": TIES,
    "l1": L1,
    "l2": L2,
    "ewc": EWC,
    "ewc_merge": EWCMerge,
    "fisher_merge": FisherMerge,
    "lwf": LwF,
    "replay": Replay,
    "der_pp": DERpp,
    "gem": GEM,
    "agem": AGEM,
    "mofo": MoFO,
    "hft": HFT,
    "lora": LoRA,
    "l2p": L2P,
    "ncm": NCM,
    "slda": SLDA,
    "ranpac": RanPAC,
    "fecam": FeCAM,
    "aper": APER,
    "ease": EASE,
    "slow_trunk": SlowTrunk,
    "align_head": AlignHead,
    "si": SI,
    "mas": MAS,
    "rwalk": RWalk,
    "ldifs": LDIFS,
    "der": DER,
    "er_ace": ERACE,
    "magmax": MagMax,
    "dare": DARE,
    "knn": NearestNeighbours,
    "cofima": CoFiMA,
    "opcm": OPCM,
    "freeze": Freeze,
    "bitfit": BitFit,
    "ln_only": LNOnly,
    "l2_sp": L2SP,
    "icarl": ICaRL,
    "lp_ft": LPFT,
    "inflora": InfLoRA,
    "spu": SPU,
    "sd_lora": SDLoRA,
    "gpm": GPM,
    "dualprompt": DualPrompt,
    "coda_prompt": CODAPrompt,
    "zscl": ZSCL,
}


def name_of(method: Method) -> str:
    """What a method is called in a recipe."""
    kind = type(method)
    return next((name for name, known in METHODS.items() if known is kind), kind.__name__.lower())
