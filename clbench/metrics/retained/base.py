"""What a measure of retention is: settings, and a number in 0…1 from what a network sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from clbench.settings import Section


@dataclass(frozen=True)
class Look:
    """What a network sees in a retention set, from one pass over its images.

    Attributes:
        features_NF: of all images, float32.
        queries_QF, query_labels_Q: features and int64 labels of the images that are asked about.
        reference_MF, reference_labels_M: of those that the labels are learned from; both empty
            where no measure needs any.
        before_NF: what the pretrained network sees, float32; None where no measure needs it.
        labels_N: int64 labels of all images.
        embedded_ND: all images in the space of texts, float32; None where no measure needs it.
        texts_KD: the texts of the classes, float32: row k is that of label k; with embedded_ND.
    """

    features_NF: Tensor
    queries_QF: Tensor
    query_labels_Q: Tensor
    reference_MF: Tensor
    reference_labels_M: Tensor
    before_NF: Tensor | None = None
    labels_N: Tensor | None = None
    embedded_ND: Tensor | None = None
    texts_KD: Tensor | None = None


class Measure(Section, ABC):
    """One way to say what is kept; abstract. It needs a setting: by these, runs are told apart.

    Attributes:
        summary: what it is, in a line for ``--list``.
        labels: whether it learns the labels from reference images.
        looks_back: whether it compares with the features of the pretrained network.
        reads: whether it compares with texts, which only networks of CLIP do.
    """

    summary: ClassVar[str]
    labels: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False
    reads: ClassVar[bool] = False


class FeatureMeasure(Measure, ABC):
    """Needs no classifier: the trunk's features say it; abstract."""

    @abstractmethod
    def score(self, look: Look) -> float:
        """The number, in 0…1.

        Raises:
            ClbenchError: if the images do not suffice.
        """

    def lacks(self, images: int, references: int) -> str:
        """Why so few images do not suffice, and what to do; empty if they do.

        Args:
            images: on which it measures.
            references: of which it learns the labels.
        """
        return ""


class Classifier(FeatureMeasure, ABC):
    """Top-1 accuracy on the queries of a classifier made of the reference images; abstract."""

    labels: ClassVar[bool] = True

    def score(self, look: Look) -> float:
        """See :meth:`FeatureMeasure.score`."""
        classes, labels_M = look.reference_labels_M.unique(return_inverse=True)
        answers_Q = self.answers(look.queries_QF, look.reference_MF, labels_M, len(classes))
        right = (classes[answers_Q] == look.query_labels_Q).sum()
        return int(right) / len(answers_Q)

    @abstractmethod
    def answers(
        self, queries_QF: Tensor, reference_MF: Tensor, labels_M: Tensor, classes: int
    ) -> Tensor:
        """The classes of the queries, int64 (Q,).

        Args:
            queries_QF: their features, float32.
            reference_MF: those of the reference images.
            labels_M: int64, in 0…classes-1.
            classes: how many; each has a reference image.
        """


def one_hot(labels_M: Tensor, classes: int) -> Tensor:
    """Labels as rows (M, classes) of zeros and a one, float64."""
    return torch.nn.functional.one_hot(labels_M, classes).double()
