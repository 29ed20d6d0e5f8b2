"""Small networks with prompts, for tests of prompt methods, and other programs' numbers."""

import copy
from pathlib import Path

import numpy as np
import timm
import torch

from clbench.methods.coda_prompt import CODAPrompt
from clbench.methods.dualprompt import DualPrompt
from clbench.streams.base import Task

PEERS = np.load(Path(__file__).parent / "reference" / "prompts.npz")
OPTIONS = {"depth": 3, "embed_dim": 32, "num_heads": 2}
VIT = {
    "backbone": "tiny_vit",
    "options": OPTIONS,
    "weights": "pretrain",
    "pretraining": {"epochs": 1},
}
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
#: Methods by name, with settings for the network above, and those without prompts.
DUAL = {"g_length": 2, "g_blocks": [0], "e_length": 3, "e_blocks": [1, 2]}
CODA = {"pool": 6, "length": 4, "blocks": [0, 2]}
KINDS = {
    "dualprompt": (DualPrompt, DUAL, {"g_length": 0, "e_length": 0}),
    "coda_prompt": (CODAPrompt, CODA, {"length": 0}),
}


def task(stage=0, stages=3):
    split = range(0)
    return Task(stage, "one", range(2), split, split, split, stage=stage, stages=stages)


def network(name, known=None, **settings):
    """A method, its network without prompts, and with those of some stages."""
    kind, usual, _ = KINDS[name]
    torch.manual_seed(0)
    method = kind(**(usual | settings))
    plain = timm.create_model("tiny_vit", num_classes=4, img_size=8, **OPTIONS).eval()
    model = method.adapt(copy.deepcopy(plain), task())
    if known is not None:
        model.prompt_pool.known.copy_(torch.tensor(known))
    return method, plain, model
