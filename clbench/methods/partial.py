"""What methods share that train the head and a part of the trunk, while the rest is frozen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from clbench.errors import ClbenchError
from clbench.methods.base import Context, Method
from clbench.methods.kinds import PROMPTS
from clbench.models.backbone import head_names

if TYPE_CHECKING:
    from clbench.methods.plan import Training


class Partial(Method):
    """Trains the head and the parameters of the trunk that a rule chooses; abstract.

    The rest gets no gradient, so that neither momentum nor weight decay moves it. BatchNorm layers
    of which nothing is trained keep their running statistics, the others move theirs
    (``model.batch_norm_training``). Nothing is remembered from task to task.
    """

    still: ClassVar[bool] = True
    scope_means: ClassVar[str] = "the share of the trunk's weights that is frozen"
    clashes: ClassVar[Mapping[str, str]] = {
        "linear_probe": "it freezes the whole trunk",
        **dict.fromkeys(PROMPTS, "it freezes the trunk, and trains prompts"),
    }

    _trained: frozenset[str] | None = None
    _frozen: float = 0.0

    @abstractmethod
    def chosen(self, model: nn.Module, head: Sequence[str]) -> frozenset[str]:
        """Names of the trunk's parameters that are trained.

        Args:
            model: the network; it may have no memory.
            head: names of the head's parameters.
        """

    @abstractmethod
    def lacking(self, model: nn.Module, head: Sequence[str]) -> str:
        """What a network lacks, said after the method's name, with the way out; or empty."""

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        return "" if sketch is None else self.lacking(sketch, _head(sketch))

    def start(self, context: Context) -> None:
        model, head = context.model, context.head
        if why := self.lacking(model, head):  # where the recipe alone did not tell
            raise ClbenchError(f"{type(self).__name__} {why}")
        chosen = self.chosen(model, head)
        trunk = {name: p.numel() for name, p in model.named_parameters() if name not in head}
        self._trained = chosen | frozenset(head)
        self._frozen = 1 - sum(trunk[name] for name in chosen) / sum(trunk.values())

    def trainable(self, name: str) -> bool:
        return self._trained is None or name in self._trained

    def activity(self) -> dict[str, float]:
        share = self._frozen
        return {"frozen_share": share, "active": float(share > 0), "scope": share}


def _head(sketch: nn.Module) -> tuple[str, ...]:
    """Names of the head's parameters; none where the backbone is one that clbench refuses."""
    try:
        return head_names(sketch)
    except Exception:  # told when it is built
        return ()
