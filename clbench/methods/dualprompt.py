"""DualPrompt: prefixes for all tasks, and one for each task, on a frozen vision transformer.

[0] Wang et al., *DualPrompt: complementary prompting for rehearsal-free continual learning*,
    sections 4.1 to 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from clbench.methods.base import Context, Forward
from clbench.methods.forward import LastStep
from clbench.methods.prefix import Block, BlockPrefixes, Prefixed, Prefixes, PrefixMethod
from clbench.methods.prompts import POOL, nearest_keys


def expert_prompts(
    query_BF: Tensor, keys_TF: Tensor, prompts: Tensor, task: int | None = None
) -> tuple[Tensor, Tensor]:
    """Each image's E-prompt: a task's in training, that of the nearest key in testing [0].

    Args:
        query_BF: features of the frozen network.
        keys_TF: a key for each task.
        prompts: (T, …), theirs.
        task: whose it is; None: that of the nearest key.

    Returns:
        Cosines of queries and their keys (B,), and prompts (B, …).

    >>> keys = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    >>> expert_prompts(torch.tensor([[3.0, 0.0]]), keys, torch.tensor([7.0, 8.0]))
    (tensor([1.]), tensor([8.]))
    """
    if task is None:
        cosines_BN, places_BN = nearest_keys(query_BF, keys_TF, 1)
        return cosines_BN[:, 0], prompts[places_BN[:, 0]]
    cosines_B = F.cosine_similarity(query_BF, keys_TF[task][None], dim=1)
    return cosines_B, prompts[task].expand(len(query_BF), *prompts.shape[1:])


class DualPrompts(Prefixes):
    """A G-prompt, and for each task an E-prompt with its key; uniform in −1…1 at first; final.

    Args:
        settings: of the method.
        width: F, of tokens and queries.
        stages: how many tasks there will be.
    """

    def __init__(self, settings: DualPrompt, width: int, stages: int) -> None:
        super().__init__(settings.model_dump(exclude={"pull"}))
        self.g_blocks = settings.g_blocks if settings.g_length else ()
        self.e_blocks = settings.e_blocks if settings.e_length else ()
        self.blocks = self.g_blocks + self.e_blocks
        general = torch.empty(len(self.g_blocks), 2, settings.g_length, width)
        self.general = nn.Parameter(general) if self.g_blocks else None
        each, of = (len(self.e_blocks), 2, settings.e_length, width), range(stages)
        self.experts = nn.ParameterList(torch.empty(each) for _ in of if self.e_blocks)
        self.keys = nn.ParameterList(torch.empty(width) for _ in of if self.e_blocks)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1, 1)

    def prefixes(self, ask: Callable[[], Tensor], known: range) -> BlockPrefixes:
        """The G-prompt, and each image's E-prompt."""
        found: BlockPrefixes = {}
        if self.general is not None:
            found |= zip(self.g_blocks, ((x[0], x[1]) for x in self.general), strict=True)
        if self.e_blocks:
            prompts = torch.stack([self.experts[stage] for stage in known])
            task = len(known) - 1 if self.training else None
            chosen = expert_prompts(ask(), self.keys_of(known), prompts, task)[1].unbind(1)
            found |= zip(self.e_blocks, ((x[:, 0], x[:, 1]) for x in chosen), strict=True)
        return found

    def keys_of(self, stages: range) -> Tensor:
        """Keys (T, F)."""
        return torch.stack([self.keys[stage] for stage in stages])


class DualPrompt(PrefixMethod):
    """Trains a G-prompt, an E-prompt for each task with its key, and the head [0].

    Prompts are prefixes (:mod:`clbench.methods.prefix`) of so many keys and as many values. In
    training images have their task's E-prompt, and its key is pulled to their queries by
    λ·(1 − cosine); in testing no task is told, and each image has that of the nearest key::

        methods: {dualprompt: {g_length: 5, g_blocks: [0, 1], e_length: 5, e_blocks: [2, 3, 4]}}

    Defaults are those of the authors' program on CIFAR-100. Without prompts (both lengths 0) it
    trains the head alone. [0] trains among the classes of the task: ``train_logits: task``.
    """

    summary: ClassVar[str] = "prefixes for all tasks and for each task, on a frozen ViT"
    called: ClassVar[str] = "dualprompt"
    free: ClassVar[str] = "pull"
    block_fields: ClassVar[Mapping[str, str]] = {"g_blocks": "g_length", "e_blocks": "e_length"}
    every_batch: ClassVar[bool] = True

    g_length: int = Field(5, ge=0, description="keys, and values, of the G-prompt; 0 is none")
    g_blocks: tuple[Block, ...] = Field((0, 1), description="blocks of the G-prompt, from 0")
    e_length: int = Field(5, ge=0, description="keys, and values, of an E-prompt; 0 is none")
    e_blocks: tuple[Block, ...] = Field((2, 3, 4), description="blocks of the E-prompts, from 0")
    pull: float = Field(1.0, ge=0, description="λ, of the keys' distance from the queries")

    _last: LastStep = LastStep()
    _told: dict[str, float] = {}

    def made(self, width: int, stages: int) -> Prefixes:
        return DualPrompts(self, width, stages)

    def start(self, context: Context) -> None:
        super().start(context)
        self._last, self._told = LastStep(), {}

    def trainable(self, name: str) -> bool:
        # By the loss of the keys alone.
        moves = self.pull > 0 or not name.startswith(f"{POOL}keys.")
        return moves and super().trainable(name)

    def penalty(self, forward: Forward) -> Tensor | None:
        model = forward.model
        assert isinstance(model, Prefixed)
        pool = model.prompt_pool
        assert isinstance(pool, DualPrompts)
        if not pool.e_blocks:
            return None
        query_BF = model.query_again(forward.inputs)
        keys_TF = pool.keys_of(pool.stages)
        own = len(keys_TF) - 1
        distance = forward.mean(1 - F.cosine_similarity(query_BF, keys_TF[own][None], dim=1))
        right_B = nearest_keys(query_BF, keys_TF.detach(), 1)[1][:, 0] == own
        self._last.add(forward.step, "key_distance", distance)
        self._last.add(forward.step, "own_key_nearest", forward.mean(right_B.float()))
        return self.pull * distance if self.pull else None

    def finish(self, context: Context) -> None:
        super().finish(context)
        self._told = self._last.means()

    def activity(self) -> dict[str, float]:
        return super().activity() | self._told
