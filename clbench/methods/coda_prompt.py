"""CODA-Prompt: prefixes that are weighted sums of components, on a frozen vision transformer.

[0] Smith et al., *CODA-Prompt: continual decomposed attention-based prompting for rehearsal-free
    continual learning*, sections 4.1 to 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Forward
from clbench.methods.orthogonal import gram_schmidt, orthogonality
from clbench.methods.prefix import Block, BlockPrefixes, Prefixes, PrefixMethod


def assembled(
    query_BF: Tensor, attention_MF: Tensor, keys_MF: Tensor, prompts_MLF: Tensor
) -> Tensor:
    """Each image's prompt (B, L, F): components, each by the cosine of query ∘ A and its key [0].

    >>> ones = torch.ones(1, 2)
    >>> assembled(ones, ones, -ones, torch.tensor([[[3.0, 4.0]]])).round()
    tensor([[[-3., -4.]]])
    """
    asked_BMF = F.normalize(query_BF[:, None] * attention_MF, dim=2)
    weights_BM = (asked_BMF * F.normalize(keys_MF, dim=1)).sum(2)
    return torch.einsum("bm,mlf->blf", weights_BM, prompts_MLF)


class Components(Prefixes):
    """Prompts, keys and attention of M components in some blocks, orthonormal at first; final.

    Args:
        settings: of the method.
        width: F, of tokens and queries.
        stages: how many tasks there will be, each with an equal share of the pool.
    """

    def __init__(self, settings: CODAPrompt, width: int, stages: int) -> None:
        super().__init__(settings.model_dump(exclude={"orthogonality"}))
        self.blocks = settings.blocks if settings.length else ()
        self.length, share = settings.length, settings.pool // stages if self.blocks else 0

        def drawn(size: int) -> nn.ParameterList:
            """(blocks, share, size) for each stage."""
            rows = torch.randn(len(self.blocks), share * stages, size, dtype=torch.float64)
            of_stages = gram_schmidt(rows[:, :0], rows).float().split(share, 1)
            return nn.ParameterList(x.clone() for x in of_stages if self.blocks)

        self.keys, self.attention = drawn(width), drawn(width)
        self.prompts = drawn(self.length * width)

    def begin(self, stage: int) -> None:
        """Have the stage's components orthogonal to the earlier ones as these are by now."""
        for part in (self.keys, self.attention, self.prompts) if self.blocks else ():
            rows, share = torch.cat([*part[: stage + 1]], 1).cpu().double(), part[stage].shape[1]
            before, own = rows[:, :-share], rows[:, -share:]
            before = gram_schmidt(before[:, :0], before)  # trained rows are not so to each other
            part[stage].copy_(gram_schmidt(before, own))

    def prefixes(self, ask: Callable[[], Tensor], known: range) -> BlockPrefixes:
        """Every image's own sums: the first half of a prompt are keys, the second values."""
        if not self.blocks:
            return {}
        query_BF, half = ask(), self.length // 2
        found: BlockPrefixes = {}
        for block, *parts in zip(self.blocks, *self.of(known), strict=True):
            keys_MF, attention_MF, flat_MF = parts
            prompts_MLF = flat_MF.unflatten(1, (self.length, -1))
            prompt_BLF = assembled(query_BF, attention_MF, keys_MF, prompts_MLF)
            found[block] = prompt_BLF[:, :half], prompt_BLF[:, half:]
        return found

    def of(self, stages: range) -> list[Tensor]:
        """Keys, attention and flat prompts of stages, each (blocks, M, …)."""
        parts = (self.keys, self.attention, self.prompts) if self.blocks else ()
        return [torch.cat([part[stage] for stage in stages], 1) for part in parts]


class CODAPrompt(PrefixMethod):
    """Trains each task's components of prompts, earlier ones frozen, and the head [0].

    An image's prompt is a sum of all components so far, and a prefix of L/2 keys and L/2 values
    (:mod:`clbench.methods.prefix`). Every task has an equal share of the components, which begin
    orthogonal to those before. Added is μ·mean (M·Mᵀ − I)² of keys, attention and prompts, summed
    over blocks::

        methods: {coda_prompt: {pool: 100, length: 8, blocks: [0, 1, 2, 3, 4], orthogonality: 0.1}}

    Defaults are the paper's for CIFAR-100. Without prompts (``length: 0``) it trains the head
    alone. [0] trains among the classes of the task: ``train_logits: task``.
    """

    summary: ClassVar[str] = "prefixes as weighted sums of components, on a frozen ViT"
    called: ClassVar[str] = "coda_prompt"
    free: ClassVar[str] = "orthogonality"
    block_fields: ClassVar[Mapping[str, str]] = {"blocks": "length"}

    pool: int = Field(100, ge=1, description="components of all tasks, in equal shares")
    length: int = Field(8, ge=0, multiple_of=2, description="L, keys and values; 0 is no prompt")
    blocks: tuple[Block, ...] = Field(
        (0, 1, 2, 3, 4), description="blocks with components of their own, from 0"
    )
    orthogonality: float = Field(0.1, ge=0, description="μ, of the components' distance from it")

    _told: dict[str, Tensor] = {}

    def refuses(self, recipe: Any, sketch: nn.Module | None) -> str:
        width = sketch.embed_dim if isinstance(sketch, VisionTransformer) else self.pool
        return super().refuses(recipe, sketch) or self._crowded(width, 1)

    def _crowded(self, width: int, stages: int) -> str:
        """Why they are too many or too few; or empty."""
        if not self.length or stages <= self.pool <= width:
            return ""
        why = f"components are orthogonal in {width} channels: say {width} or fewer"
        if self.pool <= width:
            why = f"every one of {stages} tasks has some: say {stages} or more"
        return f"has pool = {self.pool}, and {why}"

    def made(self, width: int, stages: int) -> Prefixes:
        if why := self._crowded(width, stages):
            raise ClbenchError(f"methods: coda_prompt {why}")
        return Components(self, width, stages)

    def start(self, context: Context) -> None:
        super().start(context)
        self._told = {}

    def penalty(self, forward: Forward) -> Tensor | None:
        pool = forward.model.prompt_pool
        assert isinstance(pool, Components)
        parts = pool.of(pool.stages)
        if not parts:
            return None
        far = torch.stack([orthogonality(part).sum() for part in parts]).sum()
        self._told = {"components": torch.tensor(parts[0].shape[1]), "far": far.detach()}
        return self.orthogonality * far if self.orthogonality else None

    def activity(self) -> dict[str, float]:
        return super().activity() | {name: float(value) for name, value in self._told.items()}
