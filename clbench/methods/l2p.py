"""Learning to prompt (L2P): images choose prompts from a pool, on a frozen vision transformer.

[0] Wang et al., *Learning to prompt for continual learning*, sections 4.1 to 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Forward, Method, Needs
from clbench.models.modes import evaluating
from clbench.streams import Task


def nearest_keys(query_BF: Tensor, keys_MF: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The N keys nearest to each query by cosine, best first: cosines and places, (B, N) each.

    >>> nearest_keys(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]]), 1)
    (tensor([[1.]]), tensor([[1]]))
    """
    found = (F.normalize(query_BF, dim=1) @ F.normalize(keys_MF, dim=1).T).topk(top, dim=1)
    return found.values, found.indices


class PromptPool(nn.Module):
    """M prompts of L tokens of width F, each with a key; uniform in −1…1 at first; final."""

    def __init__(self, settings: L2P, width: int) -> None:
        super().__init__()
        self.top, self.pooled = min(settings.top, settings.pool), settings.pooled
        self.settings = settings.model_dump(exclude={"pull"})  # which cannot change any more
        self.prompts = nn.Parameter(torch.empty(settings.pool, settings.length, width))
        self.keys = nn.Parameter(torch.empty(settings.pool, width))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1, 1)
        #: The last images in training, and their queries.
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, query_BF: Tensor) -> Tensor:
        """The prompts that each image chooses, one after the other: (B, N·L, F)."""
        return self.prompts[nearest_keys(query_BF, self.keys, self.top)[1]].flatten(1, 2)


class Prompted(VisionTransformer):
    """A timm ViT with prompts in front of its tokens, which have no position; final."""

    prompt_pool: PromptPool
    _chosen: Tensor | None = None

    def query(self, images: Tensor) -> Tensor:
        """The features (B, F) of images without prompts, and without gradient."""
        with torch.no_grad(), evaluating(self):
            return self.fc_norm(super().pool(super().forward_features(images)))  # type: ignore[no-any-return]

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        query_BF = self.query(x)
        if self.training:
            self.prompt_pool.seen = (x, query_BF)
        self._chosen = self.prompt_pool(query_BF)
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


class L2P(Method):
    """Trains M prompts, their keys and the head; each image has the N prompts of nearest keys [0].

    Its query is the frozen network's own feature: no task is ever told, and every image chooses
    for itself. Keys are pulled to the queries that chose them by λ·Σ(1 − cosine). [0] trains among
    the classes of the task alone: ``train_logits: task``. Frequent prompts are not penalised.
    """

    summary: ClassVar[str] = "prompts from a pool, chosen by each image, on a frozen ViT"
    needs: ClassVar[Needs] = Needs(passes=1)
    every_batch: ClassVar[bool] = True
    still: ClassVar[bool] = True
    networks: ClassVar[tuple[type[nn.Module], ...]] = (VisionTransformer,)
    clashes: ClassVar[Mapping[str, str]] = {
        "linear_probe": "it freezes the prompts", "lora": "each freezes what the other trains"
    }  # fmt: skip

    pool: int = Field(10, ge=1, description="M, prompts in the pool")
    length: int = Field(5, ge=1, description="L, tokens of a prompt")
    top: int = Field(5, ge=1, description="N, prompts that an image chooses; at most all")
    pull: float = Field(0.1, ge=0, description="λ, of the keys' distance from the queries")
    pooled: Literal["prompts", "network"] = Field(
        "prompts",
        description="what the head is given: the mean of what comes of the prompts (the paper), or "
        "what the network pools itself, as its class token",
    )

    _head: tuple[str, ...] = ()
    _used: Tensor | None = None
    _told: dict[str, Tensor] = {}

    def adapt(self, model: nn.Module, task: Task) -> nn.Module:
        if type(model) is VisionTransformer and isinstance(model.patch_drop, nn.Identity):
            pool = PromptPool(self, model.embed_dim)  # type: ignore[arg-type]
            model.__class__, model.prompt_pool = Prompted, pool
        fixed = self.model_dump(exclude={"pull"})
        if not isinstance(model, Prompted) or model.prompt_pool.settings != fixed:
            raise ClbenchError(
                f"task {task.name}: l2p needs a plain ViT that drops no patches, and the first's "
                "pool: of its settings, only pull can differ between tasks"
            )
        return model

    def start(self, context: Context) -> None:
        self._head, self._told = context.head, {}
        self._used = torch.zeros(self.pool, dtype=torch.bool, device=context.device)

    def trainable(self, name: str) -> bool:
        return name in self._head or name.startswith("prompt_pool.")

    def penalty(self, forward: Forward) -> Tensor | None:
        model, inputs = forward.model, forward.inputs
        assert isinstance(model, Prompted)
        assert self._used is not None
        pool, seen = model.prompt_pool, model.prompt_pool.seen
        # Another method may have passed other images meanwhile.
        query_BF = seen[1] if seen and seen[0] is inputs else model.query(inputs)
        cosines_BN, places_BN = nearest_keys(query_BF, pool.keys, pool.top)
        self._used[places_BN] = True
        self._told = {"cosine": cosines_BN.detach().mean(), "prompts_used": self._used.sum()}
        return self.pull * forward.mean((1 - cosines_BN).sum(1)) if self.pull else None

    def finish(self, context: Context) -> None:
        context.model.prompt_pool.seen = None  # type: ignore[union-attr, assignment]

    def activity(self) -> dict[str, float]:
        return {"active": float(bool(self._told)), **{k: float(v) for k, v in self._told.items()}}
