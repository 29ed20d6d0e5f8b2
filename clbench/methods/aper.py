"""APER (ADAM): adapt in the first task, then class means of plain and adapted features together.

[0] Zhou et al., *Revisiting class-incremental learning with pre-trained models: generalizability
    and adaptivity are all you need*, and its program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from clbench.errors import ClbenchError
from clbench.methods.adapters import acting, add_adapters
from clbench.methods.base import Context
from clbench.methods.collected import Collecting, collected
from clbench.methods.kinds import LOW_RANK, PROMPTS
from clbench.models.backbone import features
from clbench.models.reference import plain_network
from clbench.streams import Task
from clbench.weights import State

if TYPE_CHECKING:
    from clbench.methods.plan import Training


def cosines(features_BF: Tensor, sums_CF: Tensor) -> Tensor:
    """The cosine of each feature with each class's mean, (B, C); 0 for classes without samples.

    Args:
        features_BF: of whatever networks, side by side.
        sums_CF: of the classes' features; a mean has its sum's direction.
    """
    return F.normalize(features_BF, dim=1) @ F.normalize(sums_CF, dim=1).T


class APER(Collecting):
    """Classifies by cosines with class means of [f_*(x), f_θ(x)], θ trained in the first task [0].

    Images pass both networks, in evaluation and when means are taken. What θ is::

        methods:
          aper: {variant: adapter}     # on a ViT: adapters and the head; θ_*'s trunk rests
          # aper: {}                   # the whole network; θ_* is kept in the checkpoint

    ``tuned: never`` leaves f_* twice, which is SimpleCIL: the control.
    """

    summary: ClassVar[str] = "adapts in the first task; class means of plain and adapted features"
    clashes: ClassVar[Mapping[str, str]] = {
        "linear_probe": "it leaves the latter nothing to adapt",
        **dict.fromkeys(LOW_RANK, "say variant: adapter for few weights"),
        **dict.fromkeys(PROMPTS, "the latter adapts by weights that its plain network has not"),
    }
    elsewhere: ClassVar[str] = "variant: full"

    tuned: Literal["never", "first", "always"] = Field(
        "first", description="in which tasks the network is trained; the paper: in the first"
    )
    variant: Literal["full", "adapter"] = Field(
        "full", description="trained is the whole network, or adapters in a ViT and the head"
    )
    bottleneck: int = Field(64, ge=1, description="of adapters; AdaptFormer's")
    scale: float = Field(0.1, gt=0, description="what adapters' outputs are multiplied by")

    #: ``sums`` (C, 2F), float64, ``counts`` (C,), and for ``variant: full`` θ_* as ``plain``.
    _memory: dict[str, Any] = {}
    _plain: nn.Module | None = None

    @property
    def networks(self) -> tuple[type[nn.Module], ...]:  # type: ignore[override]
        """Adapters need a ViT."""
        return (VisionTransformer,) if self.variant == "adapter" else ()

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        others = [n for n in ("bitfit", "ln_only", "spu") if n in recipe.methods]
        if self.variant == "full" or not others:
            return ""
        return (
            f"has variant = 'adapter', which freezes what {others[0]} trains, and it the adapters: "
            f"say variant: full, or leave {others[0]} out"
        )

    def forget(self) -> None:
        super().forget()
        self._plain = None

    def adapt(self, model: nn.Module, task: Task) -> nn.Module:
        if self.variant == "adapter":
            add_adapters(model, "first", self.bottleneck, self.scale)
        return model

    def trainable(self, name: str) -> bool:
        small = name in self._head or ".adapters." in name
        return self._trains and (small or self.variant == "full")

    def to_classify(self, model: nn.Module, images: Tensor) -> Tensor:
        """Features of θ_* and of θ, side by side (B, 2F)."""
        if self.variant == "adapter":
            with acting(model, None):
                plain_BF = features(model, images)
        else:
            plain_BF = features(self._original(model), images)
        return torch.cat([plain_BF, features(model, images)], 1)

    def _original(self, model: nn.Module) -> nn.Module:
        """The network with θ_*."""
        if self._plain is None:
            self._plain = plain_network(model, self._memory["plain"]).eval()
        return self._plain

    def absorb(self, theta: State, context: Context) -> None:
        classes, width = theta[context.head[0]].shape
        if not self._memory:
            sums = torch.zeros(classes, 2 * width, dtype=torch.float64)
            self._memory = {"sums": sums, "counts": torch.zeros(classes, dtype=torch.int64)}
            if self.variant == "full":
                plain = context.anchors.pretrained.state
                self._memory["plain"] = {name: x.cpu() for name, x in plain.items()}
        if ("plain" in self._memory) != (self.variant == "full"):
            raise ClbenchError(
                f"methods.aper.variant = {self.variant!r} in task {context.task.name}, and means "
                "of earlier tasks are of the other one: say the same for all tasks"
            )
        for features_BF, labels_B in collected(theta, context, look=self.to_classify, times=2):
            self._memory["sums"].index_add_(0, labels_B.cpu(), features_BF.cpu())
            self._memory["counts"] += torch.bincount(labels_B.cpu(), minlength=classes)
        self._activity = {"active": 1.0, "classes": float((self._memory["counts"] > 0).sum())}

    def classifier(self) -> Callable[[Tensor], Tensor] | None:
        return self._classify if self._memory else None

    def _classify(self, features_BF: Tensor) -> Tensor:
        with torch.autocast(features_BF.device.type, enabled=False):
            return cosines(features_BF, self._memory["sums"].to(features_BF))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._plain = None
