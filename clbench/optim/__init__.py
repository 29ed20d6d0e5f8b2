"""Optimisers that change only some entries in a step; usable in any training loop."""

from clbench.optim.masked_adamw import BIAS_AND_NORM, MaskedAdamW, MoFO
from clbench.optim.select import draw_blocks, entry_count, layers_of, top_mask

__all__ = [
    "BIAS_AND_NORM",
    "MaskedAdamW",
    "MoFO",
    "draw_blocks",
    "entry_count",
    "layers_of",
    "top_mask",
]
