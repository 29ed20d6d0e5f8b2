"""Gradients of single samples, for many samples at once.

[0] Dangel et al., *BackPACK: packing more into backprop*: per-sample quantities from a layer's
    inputs and the gradients of its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from clbench.models.differentiated import differentiated, sample_gradients
from clbench.models.layer_rules import SQUARE, EntrySize, add_up, layer_sizes, sum_over_samples
from clbench.models.reference import plain_network
from clbench.weights import State

SampleLoss = Callable[[Tensor, Tensor], Tensor]

#: Samples that are differentiated at a time, at most.
CHUNK = 64
#: Entries of the gradients of samples that vmap makes at a time, about.
ROOM = 2**26


class PerSample:
    """Sizes of single samples' gradients, their squares or magnitudes, summed over a batch.

    Two routes, both exact. *Layers*: one ordinary backward pass over the batch gives each layer's
    input and output gradient, from which a rule makes the gradients of its parameters for each
    sample [0]. Parameters that belong to no layer and have a leading dimension of 1 (position
    embeddings, class tokens) are repeated for each sample. *Functional*: ``vmap`` over ``grad``,
    about three times the work. On the first two samples the routes are compared, and parameters
    for which the first is not right (weights that layers share, layers that mix samples or whose
    ``forward`` is passed by) take the second.

    On the layers' route a gradient is given back as soon as it is used, so that the peak of memory
    is about that of a training step.

    Args:
        model: images (B, …) to logits (B, C); it is copied, and put in eval mode.
        loss: logits (B, C) and labels (B,) to losses (B,).
        size: what is summed over samples, of each entry of a gradient.
    """

    def __init__(self, model: nn.Module, loss: SampleLoss, size: EntrySize = SQUARE) -> None:
        self.model, self.loss = plain_network(model).eval().requires_grad_(False), loss
        self.size = size
        self.parameters: State = dict(self.model.named_parameters())
        self.layers = dict(_layers(self.model))
        self.loose: set[str] = set()
        self.functional: set[str] | None = None

    def sizes(
        self,
        inputs: Tensor,
        labels_B: Tensor,
        draw: Callable[[Tensor], Tensor] | None = None,
    ) -> State:
        """Sum over the batch of the sizes of each sample's gradient.

        Args:
            inputs: (B, …).
            labels_B: (B,).
            draw: turns the model's probabilities (B, C) into labels (B,) to use instead; the loss
                must then be a cross-entropy. Its derivative by the logits is the probabilities
                minus the one-hot label, which tells them for any restriction to some classes.

        Returns:
            For each parameter, a tensor of its shape.
        """
        if self.functional is None:
            self._choose(inputs[:2], labels_B[:2])
        assert self.functional is not None
        tape, logits = self._forward(inputs)
        if draw is not None:
            labels_B = draw(self._probabilities(logits, labels_B))
        found = self._by_layer(tape, self.loss(logits, labels_B), self.functional)
        if self.functional:
            found |= self._by_functional_route(self.functional, inputs, labels_B)
        return {name: found[name] for name in self.parameters}

    def mean(
        self,
        batches: Iterable[tuple[Tensor, Tensor]],
        chunk: int = CHUNK,
        draw: Callable[[Tensor], Tensor] | None = None,
    ) -> State:
        """The mean over samples of the sizes of their gradients.

        Args:
            batches: pairs of inputs and labels.
            chunk: samples differentiated at a time; less needs less memory.
            draw: see :meth:`sizes`.

        Raises:
            ValueError: if ``batches`` holds no sample, or ``chunk`` is below 1.
        """
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        total: State = {}
        count = 0
        for inputs, labels in batches:
            count += len(labels)
            for part, of_part in zip(inputs.split(chunk), labels.split(chunk), strict=True):
                add_up(total, self.sizes(part, of_part, draw))
        if not count:
            raise ValueError("batches holds no samples, so there is no mean of their gradients")
        return {name: x.div_(count) for name, x in total.items()}

    def _choose(self, inputs: Tensor, labels: Tensor) -> None:
        """Find the parameters for which the layers' route is not right."""
        expected = self._one_by_one(inputs, labels)
        self.loose = self._repeatable(inputs, labels, expected)
        tape, logits = self._forward(inputs)
        found = self._by_layer(tape, self.loss(logits, labels), set())
        self.functional = {
            name
            for name, gradients in expected.items()
            if name not in found or not _close(found[name], sum_over_samples(gradients, self.size))
        }

    def _one_by_one(self, inputs: Tensor, labels: Tensor) -> State:
        """Gradients (B, *shape) the plain way."""
        weights = {name: p.detach().requires_grad_() for name, p in self.parameters.items()}
        rows: list[list[Tensor]] = []
        for one, label in zip(inputs.split(1), labels.split(1), strict=True):
            with torch.enable_grad(), differentiated():
                loss = self.loss(functional_call(self.model, weights, (one,)), label).sum()
            found = torch.autograd.grad(
                loss, list(weights.values()), allow_unused=True, materialize_grads=True
            )
            rows.append(list(found))
        del found
        # One by one, the last first: all of them twice would be most of the memory.
        return {name: torch.stack([row.pop() for row in rows]) for name in reversed(weights)}

    def _repeatable(self, inputs: Tensor, labels: Tensor, expected: State) -> set[str]:
        """Parameters outside of layers that may be repeated along the batch."""
        owned = {name for names in self.layers.values() for name in names.values()}
        candidates = {
            name
            for name, parameter in self.parameters.items()
            if name not in owned and parameter.ndim > 1 and len(parameter) == 1
        }
        if not candidates:
            return set()
        self.loose = candidates
        try:
            tape, logits = self._forward(inputs)
        except Exception:  # the shapes do not go together, whatever a network says to that
            return set()
        leaves = [tape.loose[name] for name in sorted(candidates)]
        # The first sample's loss must not depend on the other sample's copy.
        gradients = torch.autograd.grad(
            self.loss(logits, labels)[0], leaves, allow_unused=True, materialize_grads=True
        )
        return {
            name
            for name, gradient in zip(sorted(candidates), gradients, strict=True)
            if _close(gradient[:1], expected[name][0]) and not gradient[1:].any()
        }

    def _forward(self, inputs: Tensor) -> tuple[_Tape, Tensor]:
        """Logits, and what the layers' rules need."""
        tape = _Tape()
        for name in self.loose:
            repeated = self.parameters[name].expand(len(inputs), *self.parameters[name].shape[1:])
            tape.loose[name] = repeated.clone().requires_grad_()
        handles = [layer.register_forward_hook(tape.record) for layer in self.layers]
        try:
            with torch.enable_grad(), differentiated():
                logits = functional_call(self.model, tape.loose, (inputs,))
        finally:
            for handle in handles:
                handle.remove()
        return tape, logits

    def _probabilities(self, logits: Tensor, labels_B: Tensor) -> Tensor:
        leaf = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(leaf, labels_B).sum(), leaf)
        return (slope + F.one_hot(labels_B, logits.shape[1])).clamp_(min=0)

    def _by_layer(self, tape: _Tape, losses: Tensor, without: set[str]) -> State:
        found: State = {}

        def use(call: _Call, gradient: Tensor | None) -> None:
            inputs, call.input = call.input, None
            if gradient is not None and inputs is not None:
                names = self.layers[call.layer]
                for short, own in layer_sizes(call.layer, inputs, gradient, self.size).items():
                    # A layer that is called twice gets a wrong sum here, and is found out.
                    found[names[short]] = own

        handles = [
            call.when_differentiated(use)
            for call in tape.calls
            if not without.issuperset(self.layers[call.layer].values())
        ]
        loose = tape.loose
        ends = [*tape.roots, *loose.values()]
        try:
            gradients = torch.autograd.grad(losses.sum(), ends, allow_unused=True) if ends else ()
        finally:
            for handle in handles:  # else the graph holds itself, and all that it has saved
                handle.remove()
        for name, gradient in zip(loose, gradients[len(tape.roots) :], strict=True):
            if gradient is not None:
                found[name] = self.size.of(gradient).sum(0, keepdim=True)
        for name in self.parameters.keys() - found.keys() - without:
            if self.functional is not None:
                found[name] = torch.zeros_like(self.parameters[name])
        return found

    def _by_functional_route(self, names: set[str], inputs: Tensor, labels_B: Tensor) -> State:
        """What :meth:`sizes` gives, of some parameters, some samples at a time."""
        chosen = {name: self.parameters[name] for name in sorted(names)}

        def sample_loss(parameters: State, image: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(self.model, parameters, (image[None],))
            return self.loss(logits, label[None]).sum()

        count = max(1, ROOM // sum(parameter.numel() for parameter in chosen.values()))
        total: State = {}
        for part, of_part in zip(inputs.split(count), labels_B.split(count), strict=True):
            gradients = sample_gradients(sample_loss, chosen, part, of_part)
            add_up(total, {n: sum_over_samples(x, self.size) for n, x in gradients.items()})
        return total


@dataclass
class _Call:
    """One call of a layer: its input, until it is used, and its output's place in the graph."""

    layer: nn.Module
    input: Tensor | None
    edge: GradientEdge

    def when_differentiated(self, use: Callable[[_Call, Tensor | None], None]) -> RemovableHandle:
        """Have the gradient of the output used when it is there, after which it is given back."""
        at = self.edge.output_nr
        return self.edge.node.register_prehook(lambda found: use(self, found[at]))


@dataclass
class _Tape:
    """What happened in a forward pass, from the first layers' outputs on."""

    calls: list[_Call] = field(default_factory=list)
    roots: list[Tensor] = field(default_factory=list)
    loose: State = field(default_factory=dict)

    def record(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
        """A forward hook."""
        if len(inputs) != 1 or not isinstance(output, Tensor) or not torch.is_grad_enabled():
            return None
        if not output.requires_grad:
            # No parameter asks for gradients, so the graph begins here. What follows may edit the
            # output in place, which a leaf would not allow.
            self.roots.append(output.detach().requires_grad_())
            output = self.roots[-1].clone()
        self.calls.append(_Call(layer, inputs[0].detach(), get_gradient_edge(output)))
        return output


def _layers(model: nn.Module) -> Iterator[tuple[nn.Module, dict[str, str]]]:
    """Modules that have parameters and no modules inside, with short to full names.

    Modules that share a parameter are left out.
    """
    owners: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        shared = any(owners[id(parameter)] > 1 for parameter in own.values())
        if own and not shared and not any(module.children()):
            yield module, {name: f"{prefix}.{name}".lstrip(".") for name in own}


def _close(found: Tensor, expected: Tensor) -> bool:
    """Equal but for rounding, measured against the tensor's largest entry."""
    return bool(
        found.shape == expected.shape
        and (found - expected).abs().max() <= 1e-3 * expected.abs().max() + 1e-30
    )
