"""Which outputs of the original head answer for the classes of images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

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


def head_rows(head: OriginalHead, names: Sequence[str], outputs: int) -> HeadRows:
    """The rows of a head for ImageNet-1k classes.

    Args:
        head: says which compete.
        names: of the classes, which are all of ImageNet-1k.
        outputs: of the head, which is one of timm's lists.
    """
    classes, known = imagenet_classes(names), synsets(outputs)
    assert classes is not None
    assert known is not None
    row_of = {synset: row for row, synset in enumerate(known)}
    rows = torch.tensor([row_of.get(imagenet_synsets()[number], -1) for number in classes])
    lacks, told = rows < 0, ""
    if lacks.any():
        gone = few(name for name, lacking in zip(names, lacks.tolist(), strict=True) if lacking)
        told = f"the head of {outputs:,} classes has none for {gone}, and is not asked about them"
    usual = len(known) > len(imagenet_synsets()) or {*classes} in (_listed("a"), _listed("r"))
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
