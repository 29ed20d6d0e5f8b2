"""Images of another source and texts, which a CLIP model sees in one space."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.datasets.unlabelled import unlabelled
from clbench.data.words import expanded
from clbench.errors import ClbenchError
from clbench.methods.base import Context
from clbench.methods.files import OwnFiles
from clbench.methods.plan import Training
from clbench.metrics.retained.texts import MAKE, read_texts
from clbench.models.heads import projects
from clbench.weights import sha256

ReferenceImages = Annotated[str, OwnFiles("give one of images of any kind", folder=True)]
TextEmbeddings = Annotated[str, OwnFiles(MAKE)]


@dataclass(frozen=True)
class ImageTexts:
    """Reference images and texts, and what takes features to them.

    Attributes:
        split: the images; labels mean nothing.
        texts_KD: float32, of any length but 0.
        projection: from features (B, F) to the texts' space, without gradients.
    """

    split: Split
    texts_KD: Tensor
    projection: nn.Module

    @classmethod
    def of(cls, context: Context, data: str, embeddings: str, most: int) -> ImageTexts:
        """Read them.

        Args:
            context: of a task.
            data: folder of the images.
            embeddings: file of the texts.
            most: images, at most.

        Raises:
            ClbenchError: if they are not there, or are none of the pretrained weights' space.
        """
        head, texts_KD = context.original_head, read_texts(Path(embeddings)).rows_CD
        if head is None or head.out_features != texts_KD.shape[1]:
            theirs = f"one of {head.out_features:,}" if head else "none"
            raise ClbenchError(
                f"{embeddings} has embeddings of {texts_KD.shape[1]:,} numbers, and the projection "
                f"of model.weights is {theirs}: make them with the same CLIP model's text tower "
                "(clbench embed --model)"
            )
        images = unlabelled(Path(data), context.reader.transform.size, most)
        every = torch.arange(len(images))
        projection = copy.deepcopy(head).requires_grad_(False)
        return cls(
            Split(images, every, torch.zeros_like(every)),
            texts_KD.to(context.device),
            projection.to(context.device),
        )

    @cached_property
    def sha256(self) -> str:
        """Of the images and the texts."""
        return f"{self.split.images.fingerprint()} {sha256({'': self.texts_KD})}"

    def refuse_others(self, known: str) -> None:
        """Refuse to go on with others than a run began with.

        Args:
            known: their :attr:`sha256`; empty: it begins.

        Raises:
            ClbenchError: if these are others.
        """
        if known and known != self.sha256:
            raise ClbenchError(
                "the reference images or texts of a method are not those that the run began with: "
                "put them back, or begin anew"
            )

    def drawn(self, context: Context, count: int, random: torch.Generator) -> Iterator[Tensor]:
        """Input (B, 3, S, S) for each step of a task.

        Args:
            context: of the task.
            count: images of a batch; all, if there are no more.
            random: on the CPU.
        """
        size, steps = len(self.split), range(context.total_steps)
        parts = [torch.randperm(size, generator=random)[:count].clone() for _ in steps]
        for batch in context.reader.batches(self.split, context.device, parts):
            yield batch.inputs


def unsuited(recipe: Training, data: str) -> str:
    """What is in the way of a recipe's images, and the way out; empty if nothing is.

    Args:
        recipe: with the network, and what retention is measured on.
        data: folder of the images.
    """
    model, folder = recipe.model, expanded(Path(data))
    if not projects(model):
        return (
            "needs an image tower of CLIP with its projection, such as "
            f"vit_base_patch16_clip_224.openai, which model.weights = {model.weights!r} of "
            f"{model.backbone} is not: choose such weights, or leave it out"
        )
    sets = {f"sets.{name}": own.data for name, own in recipe.retention.sets.items()}
    for name, measured in {"data": recipe.retention.data, **sets}.items():
        if measured and expanded(Path(measured)).resolve() == folder.resolve():
            return f"has data = {data!r}, on which retention.{name} measures: give other images"
    return ""
