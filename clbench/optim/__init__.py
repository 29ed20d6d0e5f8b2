"""Optimisers that change only some entries in a step; usable in any training loop."""

from clbench.optim.masked import BIAS_AND_NORM
from clbench.optim.masked_adamw import MaskedAdamW, MoFO
from clbench.optim.masked_lion import MaskedLion
from clbench.optim.select import draw_blocks, entry_count, layers_of, top_mask

__all__ = [
    "BIAS_AND_NORM",
    "MaskedAdamW",
    "MaskedLion",
    "MoFO",
    "draw_blocks",
    "entry_count",
    "layers_of",
    "top_mask",
]
