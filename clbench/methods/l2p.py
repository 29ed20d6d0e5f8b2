"""Learning to prompt (L2P): images choose prompts from a pool, on a frozen vision transformer.

[0] Wang et al., *Learning to prompt for continual learning*, sections 4.1 to 4.3.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clbench.methods.base import Context, Forward
from clbench.methods.prompts import POOL, PromptMethod, Prompts, Queried, nearest_keys
from clbench.streams import Task


class PromptPool(Prompts):
    """M prompts of L tokens of width F, each with a key; uniform in −1…1 at first; final."""

    def __init__(self, settings: L2P, width: int) -> None:
        super().__init__(settings.model_dump(exclude={"pull"}))
        self.top, self.pooled = min(settings.top, settings.pool), settings.pooled
        self.prompts = nn.Parameter(torch.empty(settings.pool, settings.length, width))
        self.keys = nn.Parameter(torch.empty(settings.pool, width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1, 1)

    def forward(self, query_BF: Tensor) -> Tensor:
        """The prompts that each image chooses, one after the other: (B, N·L, F)."""
        return self.prompts[nearest_keys(query_BF, self.keys, self.top)[1]].flatten(1, 2)


class Prompted(Queried):
    """A timm ViT with prompts in front of its tokens, which have no position; final."""

    prompt_pool: PromptPool
    _chosen: Tensor | None = None

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self._chosen = self.prompt_pool(self.asked(x))
        tokens = super().forward_features(x, *args, **kwargs)
        self._chosen = None
        return tokens  # type: ignore[no-any-return]

    def _pos_embed(self, x: Tensor) -> Tensor:
        tokens = super()._pos_embed(x)
        return tokens if self._chosen is None else torch.cat([self._chosen, tokens], 1)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        count = self.prompt_pool.top * self.prompt_pool.prompts.shape[1]
        if self.prompt_pool.pooled == "prompts":
            return x[:, :count].mean(1)
        return super().pool(x[:, count:], pool_type)  # type: ignore[no-any-return]


class L2P(PromptMethod):
    """Trains M prompts, their keys and the head; each image has the N prompts of nearest keys [0].

    Its query is the frozen network's own feature: no task is ever told, and every image chooses
    for itself. Keys are pulled to the queries that chose them by λ·Σ(1 − cosine). [0] trains among
    the classes of the task alone: ``train_logits: task``. Frequent prompts are not penalised.
    """

    summary: ClassVar[str] = "prompts from a pool, chosen by each image, on a frozen ViT"
    called: ClassVar[str] = "l2p"
    free: ClassVar[str] = "pull"
    every_batch: ClassVar[bool] = True

    pool: int = Field(10, ge=1, description="M, prompts in the pool")
    length: int = Field(5, ge=1, description="L, tokens of a prompt")
    top: int = Field(5, ge=1, description="N, prompts that an image chooses; at most all")
    pull: float = Field(0.1, ge=0, description="λ, of the keys' distance from the queries")
    pooled: Literal["prompts", "network"] = Field(
        "prompts",
        description="what the head is given: the mean of what comes of the prompts (the paper), or "
        "what the network pools itself, as its class token",
    )

    _used: Tensor | None = None
    _told: dict[str, Tensor] = {}

    def prompts(self, model: VisionTransformer, task: Task) -> tuple[type[Queried], Prompts]:
        return Prompted, PromptPool(self, model.embed_dim)

    def start(self, context: Context) -> None:
        super().start(context)
        self._told = {}
        self._used = torch.zeros(self.pool, dtype=torch.bool, device=context.device)

    def trainable(self, name: str) -> bool:
        moves = self.pull > 0 or name != f"{POOL}keys"  # by the loss of the keys alone
        return moves and super().trainable(name)

    def penalty(self, forward: Forward) -> Tensor | None:
        model, inputs = forward.model, forward.inputs
        assert isinstance(model, Prompted)
        assert self._used is not None
        pool = model.prompt_pool
        query_BF = model.query_again(inputs)
        cosines_BN, places_BN = nearest_keys(query_BF, pool.keys, pool.top)
        self._used[places_BN] = True
        self._told = {"cosine": cosines_BN.detach().mean(), "prompts_used": self._used.sum()}
        return self.pull * forward.mean((1 - cosines_BN).sum(1)) if self.pull else None

    def activity(self) -> dict[str, float]:
        return {"active": float(bool(self._told)), **{k: float(v) for k, v in self._told.items()}}
