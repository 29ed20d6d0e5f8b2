"""What says how much a network keeps of what it knew, by name. A new one is a file and a row."""

from __future__ import annotations

from clbench.metrics.retained.base import FeatureMeasure, Measure
from clbench.metrics.retained.cka import LinearCKA
from clbench.metrics.retained.head import OriginalHead
from clbench.metrics.retained.knn import KNN
from clbench.metrics.retained.ncm import NearestMean
from clbench.metrics.retained.ridge import RidgeProbe
from clbench.metrics.retained.zero_shot import ZeroShot

MEASURES: dict[str, type[Measure]] = {
    "head": OriginalHead,
    "knn": KNN,
    "ridge": RidgeProbe,
    "ncm": NearestMean,
    "cka": LinearCKA,
    "zero_shot": ZeroShot,
}
#: Those that any backbone can have, without a head and without settings.
ANYWHERE = [
    name for name, kind in MEASURES.items() if issubclass(kind, FeatureMeasure) and not kind.reads
]
