"""Zero-shot classification: images and texts of classes in one space.

[0] Radford et al., *Learning transferable visual models from natural language supervision*, 3.1.
"""

from __future__ import annotations

from typing import ClassVar, final

import torch.nn.functional as F
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from clbench.metrics.retained.base import FeatureMeasure, Look
from clbench.text.textfile import home


def nearest_text(embedded_ND: Tensor, texts_KD: Tensor) -> Tensor:
    """The text of largest cosine with each image, int64 (N,) [0].

    An image's own length changes no order, and is left as it is.

    Args:
        embedded_ND: the images, in the space of the texts.
        texts_KD: the texts, of any length but 0.
    """
    return (embedded_ND @ F.normalize(texts_KD, dim=1).T).argmax(1)


@final
class ZeroShot(FeatureMeasure):
    """The class whose text is most similar to the image, of a CLIP model [0]."""

    summary: ClassVar[str] = "zero-shot accuracy of a CLIP model, by stored text embeddings"
    reads: ClassVar[bool] = True

    embeddings: str = Field(
        description=".npz file of the classes' text embeddings, by clbench embed; its classes "
        "compete"
    )

    @field_validator("embeddings")
    @classmethod
    def _at_home(cls, path: str) -> str:
        if not path:
            raise PydanticCustomError("embeddings", "should be a file, and is empty")
        return home(path)

    def score(self, look: Look) -> float:
        """See :meth:`FeatureMeasure.score`."""
        assert look.embedded_ND is not None
        assert look.texts_KD is not None
        assert look.labels_N is not None
        right = nearest_text(look.embedded_ND, look.texts_KD) == look.labels_N
        return int(right.sum()) / len(right)
