"""ZSCL: CLIP's similarities of images and texts are kept on images of another source.

[0] Zheng et al., *Preventing zero-shot transfer degradation in continual learning of
    vision-language models*, section 4: distillation in feature space (LwF with a reference data set
    and the pretrained model as the teacher), and weight ensemble along training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from clbench.methods.base import Context, Forward, Method, Needs
from clbench.methods.image_texts import ImageTexts, ReferenceImages, TextEmbeddings, unsuited
from clbench.methods.kinds import LOW_RANK
from clbench.methods.lwf import distillation
from clbench.models.average import RunningMean
from clbench.models.backbone import features
from clbench.models.reference import frozen_copy
from clbench.seeding import generator
from clbench.text.textfile import home

if TYPE_CHECKING:
    from clbench.methods.plan import Training


def similarity_distillation(
    images_BD: Tensor, old_BD: Tensor, texts_KD: Tensor, temperature: float, scale: float
) -> Tensor:
    """T²·(KL over the texts of each image + KL over the images of each text), () [0, eqs. 2 to 4].

    Similarities are cosines times ``scale``; each KL is a mean over its rows. It is 0, and has no
    gradient, where no similarity has changed.

    Args:
        images_BD: embedded images, of the network that is trained.
        old_BD: of the pretrained one.
        texts_KD: embedded texts, of any length but 0.
        temperature: T, above 0.
        scale: what cosines are multiplied by, 100 in CLIP.
    """
    texts_DK = F.normalize(texts_KD, dim=1).T
    new_BK, old_BK = (scale * F.normalize(x, dim=1) @ texts_DK for x in (images_BD, old_BD))
    total = images_BD.new_zeros(())
    for new, old in ((new_BK, old_BK), (new_BK.T, old_BK.T)):
        whole = [torch.arange(new.shape[1], device=new.device)]
        total = total + distillation(new, old, temperature, whole).mean()
    return temperature**2 * total


class ZSCL(Method):
    """Adds λ·T²·KL of the similarities of reference images with texts, θ_*'s and now's [0].

    ``data`` are images of another source, without labels; not those that retention is measured on.
    ``embeddings`` are of any texts, by ``clbench embed``. The image tower is trained; projection
    and texts rest, where [0] trains both towers, and tasks are learned by the recipe's head. A task
    ends with the mean of θ_o and of the weights at every ``interval``-th step and the last; [0]'s
    ZSCL* has ``l2: {anchor: previous}`` beside it. Every process passes the whole reference batch::

        methods: {zscl: {data: photos, embeddings: texts.npz}}
    """

    summary: ClassVar[str] = "keep CLIP's similarities on reference images; average along the way"
    neutral: ClassVar[Mapping[str, float]] = {"strength": 0.0, "interval": 0}
    needs: ClassVar[Needs] = Needs(reference_data=True, task_boundaries=True, copies=2, passes=2)
    averages: ClassVar[bool] = True
    counts_steps: ClassVar[bool] = True
    clashes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        LOW_RANK, "the former averages weights, and the latter trains factors of them"
    )

    data: ReferenceImages = Field(description="folder of reference images; no labels are read")
    embeddings: TextEmbeddings = Field(description=".npz file of text embeddings, by clbench embed")
    strength: float = Field(1.0, ge=0, description="λ of the similarities' divergence; 0 is off")
    temperature: float = Field(2.0, gt=0, description="T")
    scale: float = Field(100.0, gt=0, description="what cosines are multiplied by, as in CLIP")
    batch: int | None = Field(None, ge=2, description="reference images; default: batch_size")
    images: int = Field(5000, ge=2, description="reference images at most, which are in memory")
    interval: int = Field(100, ge=0, description="steps between weights that are averaged; 0: off")

    #: Images and texts, and the settings that they are of; what was first read by these.
    _reference: ImageTexts | None = None
    _asked: str = ""
    _known: dict[str, str] = {}
    #: Of the task: θ_*, and a reference batch a step.
    _old: nn.Module | None = None
    _ready: Iterator[Tensor] = iter(())
    _mean: RunningMean | None = None
    _divergence: Tensor | None = None

    _at_home = field_validator("data", "embeddings")(home)

    def refuses(self, recipe: Training, sketch: nn.Module | None) -> str:
        return unsuited(recipe, self.data)

    def start(self, context: Context) -> None:
        self._old = self._mean = self._divergence = None
        if self.interval:
            rows, steps = context.anchors.previous.learned, context.total_steps
            about = context.head, rows.to(context.device), self.interval, steps
            self._mean = RunningMean(context.model, *about)
        if self.strength:
            found, asked = self._reference, f"{self.data} {self.embeddings} {self.images}"
            if found is None or asked != self._asked:
                found = ImageTexts.of(context, self.data, self.embeddings, self.images)
            found.refuse_others(self._known.get(asked, ""))
            self._known = self._known | {asked: found.sha256}
            self._reference, self._asked = found, asked
            count, random = self.batch or context.batch_size, generator(context.seed, 9)
            self._ready = found.drawn(context, count, random)
            self._old = frozen_copy(context.model, context.anchors.pretrained.state, shared=True)

    def penalty(self, forward: Forward) -> Tensor | None:
        if self._old is None:
            return None
        assert self._reference is not None
        inputs, project = next(self._ready), self._reference.projection
        with torch.no_grad():
            old_BD = project(features(self._old, inputs))
        new_BD = project(features(forward.model, inputs))
        with torch.autocast(inputs.device.type, enabled=False):  # a hundred times a cosine is much
            pair, texts_KD = (new_BD.float(), old_BD.float()), self._reference.texts_KD
            kept = similarity_distillation(*pair, texts_KD, self.temperature, self.scale)
        self._divergence = kept.detach()
        return self.strength * kept

    def after_step(self, model: nn.Module, step: int) -> None:
        if self._mean:
            self._mean.after_step(model, step)

    def finish(self, context: Context) -> None:
        self._old, self._ready = None, iter(())

    def activity(self) -> dict[str, float]:
        last = 0.0 if self._divergence is None else float(self._divergence)
        averages = self._mean.count if self._mean else 0
        acted = self._divergence is not None or averages > 0
        return {"active": float(acted), "divergence": last, "averages": float(averages)}

    def state_dict(self) -> dict[str, object]:
        return {"known": self._known}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._known = dict(state["known"])
