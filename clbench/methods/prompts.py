"""What prompt methods share: a frozen vision transformer that is asked about an image first.

[0] Wang et al., *Learning to prompt for continual learning*, section 4.2: the query is the frozen
    network's own feature of an image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Method, Needs
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.models.modes import evaluating
from clbench.streams import Task

#: What prompts are called among the network's parts.
POOL = "prompt_pool."


def nearest_keys(query_BF: Tensor, keys_MF: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The N keys nearest to each query by cosine, best first: cosines and places, (B, N) each.

    >>> nearest_keys(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0], [2.0, 0.0]]), 1)
    (tensor([[1.]]), tensor([[1]]))
    """
    found = (F.normalize(query_BF, dim=1) @ F.normalize(keys_MF, dim=1).T).topk(top, dim=1)
    return found.values, found.indices


class Prompts(nn.Module):
    """What a method adds to a network; abstract.

    Args:
        settings: of the method, those that cannot change any more.

    Attributes:
        seen: the last images in training, and their queries.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        self.seen: tuple[Tensor, Tensor] | None = None


class Queried(VisionTransformer):
    """A timm ViT whose prompts go by its own feature of an image without them; abstract."""

    prompt_pool: Prompts

    def query(self, images: Tensor) -> Tensor:
        """The features (B, F) of images without prompts, and without gradient [0]."""
        plain = VisionTransformer  # subclasses have prompts in these
        with torch.no_grad(), evaluating(self):
            return self.fc_norm(plain.pool(self, plain.forward_features(self, images)))  # type: ignore[no-any-return]

    def asked(self, images: Tensor) -> Tensor:
        """The same, kept in training for the loss of the keys."""
        query_BF = self.query(images)
        if self.training:
            self.prompt_pool.seen = (images, query_BF)
        return query_BF

    def query_again(self, images: Tensor) -> Tensor:
        """The same of a batch in training, though another method may have passed other images."""
        seen = self.prompt_pool.seen
        return seen[1] if seen and seen[0] is images else self.query(images)


class PromptMethod(Method, ABC):
    """Trains prompts and the head on a frozen vision transformer of timm; abstract."""

    #: Its name in recipes, and the setting that can be another in every task.
    called: ClassVar[str]
    free: ClassVar[str]
    needs: ClassVar[Needs] = Needs(passes=1)
    still: ClassVar[bool] = True
    networks: ClassVar[tuple[type[nn.Module], ...]] = (VisionTransformer,)
    clashes: ClassVar[Mapping[str, str]] = {
        "linear_probe": "it freezes the prompts",
        "hft": "the trunk rests already, and prompts would with the other half of the blocks",
        **dict.fromkeys(LOW_RANK, "each freezes what the other trains"),
        **dict.fromkeys(PROMPTS, "each puts prompts of its own into the network"),
    }

    _head: tuple[str, ...] = ()

    @abstractmethod
    def prompts(self, model: VisionTransformer, task: Task) -> tuple[type[Queried], Prompts]:
        """What the network becomes, and the prompts that it gets.

        Raises:
            ClbenchError: if they do not go with the network or the stream.
        """

    def adapt(self, model: nn.Module, task: Task) -> nn.Module:
        if type(model) is VisionTransformer and isinstance(model.patch_drop, nn.Identity):
            model.__class__, model.prompt_pool = self.prompts(model, task)
        fixed = self.model_dump(exclude={self.free})
        if not isinstance(model, Queried) or model.prompt_pool.settings != fixed:
            raise ClbenchError(
                f"task {task.name}: {self.called} needs a plain ViT that drops no patches, and the "
                f"first's pool: of its settings, only {self.free} can differ between tasks"
            )
        return model

    def start(self, context: Context) -> None:
        self._head = context.head

    def trainable(self, name: str) -> bool:
        return name in self._head or name.startswith(POOL)

    def finish(self, context: Context) -> None:
        context.model.prompt_pool.seen = None  # type: ignore[union-attr, assignment]
