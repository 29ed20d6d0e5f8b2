"""Methods of a kind, by name: what does not go with one for what the kind does goes with none."""

from __future__ import annotations

#: Train low-rank updates of weights that are frozen.
LOW_RANK = ("lora", "inflora", "sd_lora")
#: Train prompts of a frozen vision transformer.
PROMPTS = ("l2p", "dualprompt", "coda_prompt")
