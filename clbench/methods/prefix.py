"""Prefix tuning of a frozen vision transformer: keys and values before those of its attention.

[0] Wang et al., *DualPrompt: complementary prompting for rehearsal-free continual learning*,
    section 3.2. Its equations put prefixes before what is projected to keys and values; its
    authors' program, and all others, before the keys and values themselves, as here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from timm.models.vision_transformer import Attention, VisionTransformer  # type: ignore[attr-defined]
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Needs
from clbench.methods.prompts import POOL, PromptMethod, Prompts, Queried
from clbench.streams import Task

if TYPE_CHECKING:
    from clbench.methods.plan import Training

#: The number of a block, from 0.
Block = Annotated[int, Field(ge=0)]
#: Keys and values, (B, L, F) or (L, F) each, by the block before whose own they are.
BlockPrefixes = dict[int, tuple[Tensor, Tensor]]


def prefix_attention(
    layer: Attention, tokens_BNF: Tensor, keys_BLF: Tensor, values_BLF: Tensor
) -> Tensor:
    """What timm's attention makes of tokens that look at prefixes too.

    Prefixes are neither projected nor normalised (``q_norm``, ``k_norm``): they are what queries
    are compared with. With L = 0 it is ``layer(tokens_BNF)``.

    Args:
        layer: its projections, and how it attends.
        tokens_BNF: after the block's first normalisation.
        keys_BLF, values_BLF: of L prefixes, heads side by side; (L, F) are those of all images.

    Returns:
        (B, N, F): prefixes ask nothing, and have no output.
    """
    (batch, count, _), heads = tokens_BNF.shape, (layer.num_heads, layer.head_dim)
    parts = layer.qkv(tokens_BNF).reshape(batch, count, 3, *heads)
    query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = layer.q_norm(query), layer.k_norm(key)
    before_key, before_value = (
        x.to(key.dtype).expand(batch, -1, -1).unflatten(2, heads).transpose(1, 2)
        for x in (keys_BLF, values_BLF)
    )
    key, value = torch.cat([before_key, key], 2), torch.cat([before_value, value], 2)
    if layer.fused_attn:
        dropout = layer.attn_drop.p if layer.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    else:
        scores = (query * layer.scale) @ key.transpose(-2, -1)
        found = layer.attn_drop(scores.softmax(-1)) @ value
    found = layer.norm(found.transpose(1, 2).reshape(batch, count, -1))
    gate = getattr(layer, "gate", None)  # not in older releases
    if gate is not None:
        found = found * gate(tokens_BNF).sigmoid()
    return layer.proj_drop(layer.proj(found))  # type: ignore[no-any-return]


class PrefixAttention(Attention):
    """timm's attention, with prefixes while it has some; final."""

    prefix: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Images have no masks, which are all that may come after the tokens."""
        if self.prefix is None:
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        return prefix_attention(self, x, *self.prefix)


class Prefixes(Prompts, ABC):
    """Prompts that are prefixes of some blocks; abstract.

    Args:
        settings: see :class:`Prompts`.

    Attributes:
        blocks: that get some, by their numbers from 0.
        known: (2,), which stages' prompts there are: from the first to before the second. None at
            θ_*, which is the pretrained network. It goes with the weights, as an earlier task's
            have fewer.
    """

    blocks: tuple[int, ...]
    known: Tensor

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.register_buffer("known", torch.zeros(2, dtype=torch.int64))
        self._read: tuple[Tensor, int, range] | None = None

    @property
    def stages(self) -> range:
        """What is :attr:`known`; the device is asked once for each change of it."""
        if torch.compiler.is_compiling():  # versions are not known there
            return range(*self.known.tolist())
        now, version = self.known, self.known._version
        if self._read is None or self._read[0] is not now or self._read[1] != version:
            self._read = now, version, range(*now.tolist())
        return self._read[2]

    @abstractmethod
    def prefixes(self, ask: Callable[[], Tensor], known: range) -> BlockPrefixes:
        """Every image's prefixes.

        Args:
            ask: gives the queries (B, F), at the price of a pass.
            known: stages whose prompts there are, at least one; in training the last is learned.
        """

    def begin(self, stage: int) -> None:
        """Prepare the prompts of a stage for training, in place."""


class Prefixed(Queried):
    """A timm ViT with prefixes in some of its blocks; final."""

    prompt_pool: Prefixes

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        prefixes: BlockPrefixes = {}
        if stages := self.prompt_pool.stages:
            prefixes = self.prompt_pool.prefixes(lambda: self.asked(x), stages)
        try:
            self._give(prefixes)
            return super().forward_features(x, *args, **kwargs)  # type: ignore[no-any-return]
        finally:
            self._give(dict.fromkeys(prefixes))

    def _give(self, prefixes: Mapping[int, tuple[Tensor, Tensor] | None]) -> None:
        for block, prefix in prefixes.items():
            layer = self.blocks[block].attn
            assert isinstance(layer, PrefixAttention)
            layer.prefix = prefix

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Refused, as timm's networks that cannot refuse it: prefixes are gone by then."""
        assert not enable, "prefixes are not there when blocks are computed again"


class PrefixMethod(PromptMethod):
    """A prompt method by prefix tuning, with prompts for each task; abstract."""

    needs: ClassVar[Needs] = Needs(task_boundaries=True, passes=1)
    #: The settings that name blocks, each with that of its prompts' length.
    block_fields: ClassVar[Mapping[str, str]]

    _stage: int | None = None

    @model_validator(mode="after")
    def _one_prefix_a_block(self) -> PrefixMethod:
        blocks = [block for field in self.block_fields for block in getattr(self, field)]
        for block in blocks:
            if blocks.count(block) > 1:
                fields = " and ".join(self.block_fields)
                raise ValueError(f"{fields} name block {block} twice, which can have one prefix")
        return self

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        depth = len(sketch.blocks) if isinstance(sketch, VisionTransformer) else math.inf
        for field, length in self.block_fields.items():
            for block in getattr(self, field) if getattr(self, length) else ():
                if block >= depth:
                    return f"has {block} in {field}, and {_no_block(block, int(depth))}"
        return ""

    @abstractmethod
    def made(self, width: int, stages: int) -> Prefixes:
        """The prompts of a network of that width, for so many tasks.

        Raises:
            ClbenchError: if there cannot be so many.
        """

    def prompts(self, model: VisionTransformer, task: Task) -> tuple[type[Queried], Prompts]:
        pool = self.made(model.embed_dim, task.stages)
        for block in pool.blocks:
            _take_prefixes(model, block, self.called)
        return Prefixed, pool

    def start(self, context: Context) -> None:
        super().start(context)
        pool, self._stage = context.model.prompt_pool, context.task.stage
        assert isinstance(pool, Prefixes)
        with torch.no_grad():
            pool.begin(self._stage)
            # Where every task starts from θ_*, others' prompts are not there.
            first = self._stage if context.first else 0
            pool.known.copy_(torch.tensor([first, self._stage + 1]))

    def trainable(self, name: str) -> bool:
        """Of what is listed by stage, only the own one's."""
        last = name.rpartition(".")[2] if name.startswith(POOL) else ""
        other = last.isdigit() and self._stage not in (None, int(last))
        return super().trainable(name) and not other

    def activity(self) -> dict[str, float]:
        return {"active": 1.0}


def _no_block(block: int, depth: int) -> str:
    return (
        f"there is no block {block}, as the network has {depth}, from 0 to {depth - 1}: name "
        "others, or choose a deeper backbone"
    )


def _take_prefixes(model: VisionTransformer, block: int, method: str) -> None:
    """Have a block take prefixes.

    Raises:
        ClbenchError: if it is not there, or its attention is another.
    """
    depth = len(model.blocks)
    if block >= depth:
        raise ClbenchError(f"methods.{method}: {_no_block(block, depth)}")
    layer = getattr(model.blocks[block], "attn", None)
    if type(layer) is not Attention:
        raise ClbenchError(
            f"methods.{method}: prefixes go with timm's Attention alone, and block {block} has a "
            f"{type(layer).__name__}: choose another backbone"
        )
    layer.__class__ = PrefixAttention
