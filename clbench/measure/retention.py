"""Retention: what a network still knows of what it was pretrained for, or of what the user names.

The original head says what use of the network broke; measures of the features say what the trunk
still holds, for any backbone. All of a set's measures share one pass over its images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from clbench.data.batches import Split
from clbench.data.transforms import Augment, Transform
from clbench.errors import ClbenchError
from clbench.measure.evaluate import Evaluator
from clbench.measure.retention_images import RetentionImages, decoded
from clbench.measure.retention_sets import plan_sets
from clbench.metrics.retained.base import FeatureMeasure, Look
from clbench.models import Pretrained
from clbench.processes.processes import say
from clbench.recipe.recipe import Recipe
from clbench.streams import Stream
from clbench.weights import State, sha256, snapshot


@dataclass(frozen=True)
class RetentionTest:
    """Measures what is kept, on one set of images or several.

    Attributes:
        sets: the images, and what is measured on them.
        evaluator: how networks are evaluated.
        batch_norm: the pretrained BatchNorm tensors to put back while measuring; empty to measure
            the network as it is.
        before: features of the pretrained network by the set's name, where a measure needs them.
    """

    sets: tuple[RetentionImages, ...]
    evaluator: Evaluator
    batch_norm: State
    before: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        recipe: Recipe,
        stream: Stream,
        pretrained: Pretrained,
        evaluator: Evaluator,
        device: torch.device,
    ) -> RetentionTest | None:
        """The test that the recipe asks for, or None where there is nothing to measure.

        What could be measured and is not is said, a line each.

        Raises:
            ClbenchError: if the recipe names a folder or a measure that does not fit.
        """
        rules, head = recipe.retention, pretrained.head
        if rules.off:
            return None
        batch_norm = _batch_norm(pretrained.model) if rules.batch_norm == "pretrained" else {}
        sets = []
        if rules.data == "auto" and recipe.model.weights == "pretrain":
            assert stream.pretraining is not None
            assert head is not None
            own = head.to(device) if "head" in rules.measures else None
            kept = {n: m for n, m in rules.measures.items() if isinstance(m, FeatureMeasure)}
            sets.append(RetentionImages("", stream.pretraining[1], own, kept))
        about: dict[str, Any] = dict(pretrained.model.pretrained_cfg)  # type: ignore[arg-type]
        about |= {"crop_pct": pretrained.crop_pct}
        planned = plan_sets(recipe, 0 if head is None else head.out_features, about)
        for line in planned.reasons:
            say(f"Note: {line}.")  # as --dry_run has it
        if rules.transform == "timm" and planned.sets:
            if sets:
                raise ClbenchError(
                    "retention.transform = 'timm' is how timm evaluates weights of its own, not "
                    "those pretrained in the run: say stored"
                )
            if size := planned.size:  # nothing is cut off such images
                plain = Transform(size, pretrained.mean, pretrained.std, Augment())
                evaluator = replace(evaluator, reader=replace(evaluator.reader, transform=plain))
        for one in planned.sets:
            sets.append(decoded(one, recipe, head, device))
        return cls(tuple(sets), evaluator, batch_norm) if sets else None

    def fingerprint(self) -> str:
        """SHA-256 of all images, and of the texts that they are compared with."""
        found = {}
        for one in self.sets:
            found[one.called("")] = one.split.images.fingerprint()
            if one.train is not None:
                found[one.called("train")] = one.train.images.fingerprint()
            if one.texts is not None:
                found[one.called("texts")] = sha256({"": one.texts})
        if list(found) == [""]:
            return found[""]
        return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()

    def labels(self) -> str:
        """SHA-256 of the images' labels: classes, or outputs of the head that are right."""
        found = {one.called("labels"): one.split.labels for one in self.sets}
        found |= {one.called("learned"): one.train.labels for one in self.sets if one.train}
        return sha256(found)

    def remember(self, model: nn.Module) -> None:
        """Take down the features of the pretrained network, if a measure compares with them.

        For what goes on with a run: what begins one measures the pretrained network first.
        """
        with self._put_back(model):
            for one in self.sets:
                if any(m.looks_back for m in one.measures.values()):
                    self.before[one.name] = self._features(model, one.split)

    def measure(self, model: nn.Module) -> dict[str, Any]:
        """What a record's events have: ``retention``, ``top1`` and ``top5`` by the original head
        (None where it is not measured), and ``retained``, fractions by the names of measures, where
        there are some.
        """
        retention, retained = None, dict[str, float]()
        with self._put_back(model), torch.inference_mode():
            for one in self.sets:
                scores, features = self.evaluator.look(model, one.split, one.head, one.features)
                if scores is not None and not one.name:
                    retention = scores
                elif scores is not None:
                    retained[one.called("head")] = scores["top1"]
                if features is not None:
                    look = self._look(model, one, features)
                    for name, measure in one.measures.items():
                        retained[one.called(name)] = measure.score(look)
        return {"retention": retention} | ({"retained": retained} if retained else {})

    def _look(self, model: nn.Module, one: RetentionImages, features_NF: Tensor) -> Look:
        train_MF = None if one.train is None else self._features(model, one.train)
        if any(m.looks_back for m in one.measures.values()):
            self.before.setdefault(one.name, features_NF)
        return one.look(features_NF, train_MF, self.before.get(one.name))

    def _features(self, model: nn.Module, split: Split) -> Tensor:
        found = self.evaluator.look(model, split, keep=True)[1]
        assert found is not None
        return found

    @contextmanager
    def _put_back(self, model: nn.Module) -> Iterator[None]:
        """The pretrained BatchNorm in its place, for as long as it takes."""
        if not self.batch_norm:
            yield
            return
        device = next(model.parameters()).device
        own = {name: model.state_dict()[name].clone() for name in self.batch_norm}
        model.load_state_dict({k: v.to(device) for k, v in self.batch_norm.items()}, strict=False)
        try:
            yield
        finally:
            model.load_state_dict(own, strict=False)


def _batch_norm(model: nn.Module) -> State:
    prefixes = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    )
    return {k: v for k, v in snapshot(model, "cpu").items() if prefixes and k.startswith(prefixes)}
