"""Which weights see images where CLIP's texts are, and the texts of a retention set's classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from clbench.data.words import few
from clbench.errors import ClbenchError
from clbench.metrics.retained.texts import read_texts
from clbench.metrics.retained.zero_shot import ZeroShot
from clbench.models import ModelConfig
from clbench.models.heads import projects
from clbench.recipe.retention import Retention


def refuse_other_towers(rules: Retention, model: ModelConfig, outputs: int) -> None:
    """Refuse zero-shot classification by a network that does not see images where texts are.

    Raises:
        ClbenchError: with the reason.
    """
    asks = {f"retention.sets.{name}": own.measures for name, own in rules.sets.items()}
    if rules.data != "none" or not all(asks.values()):  # else nothing takes them over
        asks = {"retention": rules.measures, **asks}
    place = next((name for name, measures in asks.items() if "zero_shot" in measures), None)
    if place is None or projects(model, outputs):
        return
    has = f"a head of {outputs:,} classes" if outputs else "no head"
    raise ClbenchError(
        f"{place}.measures: zero_shot needs an image tower of CLIP with its projection, such as "
        f"vit_base_patch16_clip_224.openai, but model.weights = {model.weights!r} of "
        f"{model.backbone} have {has}: choose such weights, or leave zero_shot out"
    )


def lacking_texts(zero: ZeroShot, classes: Sequence[str]) -> str:
    """What is to be said of classes that a file has no text for; empty if it has all.

    Raises:
        ClbenchError: if there is no such file.
    """
    known = {*read_texts(Path(zero.embeddings)).classes}
    gone = [name for name in classes if name not in known]
    return f"{zero.embeddings} has no text for {few(gone)}" if gone else ""


def texts_of(zero: ZeroShot, classes: Sequence[str], outputs: int) -> Tensor:
    """The texts that compete, float32 (K, D): those of the images' classes, then the file's others.

    Args:
        zero: names the file.
        classes: of the images, in the order of their labels; all are in the file.
        outputs: of the projection: D.

    Raises:
        ClbenchError: if there is no such file, or its embeddings are not of the tower's space.
    """
    found = read_texts(Path(zero.embeddings))
    if found.rows_CD.shape[1] != outputs:
        raise ClbenchError(
            f"{zero.embeddings} has embeddings of {found.rows_CD.shape[1]:,} numbers, but the "
            f"weights' projection gives {outputs:,}: make them with the same CLIP model's text "
            "tower (clbench embed --model)"
        )
    mine = [found.classes.index(name) for name in classes]
    others = sorted({*range(len(found.classes))} - {*mine})
    return found.rows_CD[torch.tensor(mine + others)]
