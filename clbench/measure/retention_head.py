"""Which outputs of the original head answer for the classes of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clbench.data.datasets.folders import imagenet_classes, imagenet_synsets
from clbench.data.words import few
from clbench.metrics.retained.head import OriginalHead
from clbench.models.heads import synsets


class HeadRows(NamedTuple):
    """How the head is asked.

    Attributes:
        output_of: int64 (K,), which competing output is right for each class, beyond the last one
            for classes that the head lacks.
        rows: int64 (R,), its rows that compete; None: all.
        lacking: what is to be said of classes that it lacks; empty if there are none.
    """

    output_of: Tensor
    rows: Tensor | None
    lacking: str


def own_labels(outputs: int, about: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The classes of a head that is none of ImageNet's, where its weights tell them; else None.

    Args:
        outputs: of the head.
        about: the weights, as :func:`clbench.models.backbone.expected` has it.
    """
    labels = tuple(about.get("label_names") or ())
    return labels if len(labels) == outputs and synsets(outputs) is None else None


def not_asked(names: Sequence[str], outputs: int, labels: tuple[str, ...] | None) -> str:
    """Why a head cannot be asked about classes; empty if it can.

    Args:
        names: of the classes.
        outputs: of the head.
        labels: as :func:`own_labels` has them.
    """
    if labels:
        told = few(labels)
        return "" if {*names} & {*labels} else f"are of no class of the original head ({told})"
    if synsets(outputs) is None:
        return "need a head of the 1,000 ImageNet classes"
    return "" if imagenet_classes(names) is not None else "are not of ImageNet-1k classes"


def head_rows(
    head: OriginalHead, names: Sequence[str], outputs: int, labels: tuple[str, ...] | None = None
) -> HeadRows:
    """The rows of a head for classes that it can be asked about.

    Args:
        head: says which compete.
        names: of the classes: all of ImageNet-1k, or some of them among ``labels``.
        outputs: of the head, which is one of timm's lists, or has ``labels``.
        labels: as :func:`own_labels` has them.
    """
    classes, known = imagenet_classes(names), labels or synsets(outputs)
    assert known is not None
    called = names
    if labels is None:
        assert classes is not None
        called = [imagenet_synsets()[number] for number in classes]
    row_of = {label: row for row, label in enumerate(known)}
    rows = torch.tensor([row_of.get(label, -1) for label in called])
    lacks, told = rows < 0, ""
    if lacks.any():
        gone = few(name for name, lacking in zip(names, lacks.tolist(), strict=True) if lacking)
        told = f"the head of {outputs:,} classes has none for {gone}, and is not asked about them"
    listed = classes is not None and {*classes} in (_listed("a"), _listed("r"))
    usual = len(known) > len(imagenet_synsets()) or listed
    if head.among == "all" or (head.among == "auto" and not usual):
        output_of, count, compete = rows.clone(), len(known), None
    else:
        output_of, compete = (~lacks).cumsum(0) - 1, rows[~lacks]
        count = len(compete)
    output_of[lacks] = count + torch.arange(int(lacks.sum()))
    return HeadRows(output_of, compete, told)


@cache
def _listed(which: str) -> set[int]:
    """The ImageNet-1k classes of ImageNet-A or -R, by timm's lists."""
    path = files("timm.data") / "_info" / f"imagenet_{which}_indices.txt"
    return {int(line) for line in path.read_text("utf-8").split()}
