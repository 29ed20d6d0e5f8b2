"""Looks over a method's shoulder in a run: what its hooks return, and what they change."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from clbench.methods.base import Forward, Method
from clbench.streams import Task
from clbench.weights import State, snapshot

Hook = Callable[..., Any]
Tell = Callable[[str], None]


@contextmanager
def watching(kind: type[Method]) -> Iterator[list[str]]:
    """Have the hooks of a method looked at for a while; gives the faults, a line for each.

    Args:
        kind: the method; hooks that it leaves alone are not touched.
    """
    faults: list[str] = []
    before = {hook: vars(kind).get(hook) for hook in LOOKS}
    for hook, look in LOOKS.items():
        own = getattr(kind, hook)
        if own is not getattr(Method, hook):
            setattr(kind, hook, _watched(own, look, hook, faults))
    try:
        yield faults
    finally:
        for hook, own in before.items():
            if own is not None:
                setattr(kind, hook, own)
            elif hook in vars(kind):
                delattr(kind, hook)


def _watched(own: Hook, look: Callable[..., Any], hook: str, faults: list[str]) -> Hook:
    def tell(wrong: str) -> None:
        line = f"{hook}: {wrong}"
        if line not in faults:
            faults.append(line)

    def watched(method: Method, *given: Any) -> Any:
        return look(own, tell, method, *given)

    return watched


def _adapt(own: Hook, tell: Tell, method: Method, model: Any, task: Task) -> Any:
    state = torch.get_rng_state()
    twice = []
    for _ in range(2):
        torch.manual_seed(0)
        made = own(method.model_copy(deep=True), copy.deepcopy(model), task)
        twice.append(snapshot(made, "cpu"))
    if not _same(*twice):
        tell("what it adds is not the same twice: draw by torch's generator alone")
    torch.set_rng_state(state)
    made = own(method, model, task)
    before = snapshot(made, "cpu")
    made = own(method, made, task)
    if not _same(before, snapshot(made, "cpu")):
        tell("a second call for a task changes the network: see whether the part is there already")
    return made


def _rows(own: Hook, tell: Tell, method: Method, context: Any) -> Any:
    rows = own(method, context)
    _is_mask(tell, rows, tuple(context.losses.idle.shape), "(C,)")
    return rows


def _admit(own: Hook, tell: Tell, method: Method, labels: Tensor, excluded: Tensor) -> Any:
    before = excluded.clone()
    found = own(method, labels, excluded)
    if found is None:
        tell("it returns nothing: return excluded_BC where nothing is left out besides")
    if not torch.equal(before, excluded):
        tell("it edits excluded_BC in place: return another mask")
    _is_mask(tell, found, tuple(before.shape), "(B, C)")
    return found


def _rate(own: Hook, tell: Tell, method: Method, name: str) -> Any:
    factor = own(method, name)
    if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
        tell(f"{factor!r} for {name}: a rate's factor is a number of at least 0")
    elif own(method, name) != factor:
        tell(f"asked twice for {name}, it gives two answers")
    return factor


def _weights(own: Hook, tell: Tell, method: Method, forward: Forward) -> Any:
    factors = own(method, forward)
    if factors is not None and factors.shape != forward.losses_B.shape:
        tell(f"it gives {tuple(factors.shape)} for {len(forward.losses_B)} samples, not (B,)")
    return factors


def _sample_losses(own: Hook, tell: Tell, method: Method, forward: Forward) -> Any:
    found = own(method, forward)
    if found is not None and found.shape != forward.losses_B.shape:
        tell(f"it gives {tuple(found.shape)} for {len(forward.losses_B)} samples, not (B,)")
    return found


def _penalty(own: Hook, tell: Tell, method: Method, forward: Forward) -> Any:
    term = own(method, forward)
    if term is not None and term.shape != ():
        tell(f"it gives {tuple(term.shape)}, not one number ()")
    return term


def _observe(own: Hook, tell: Tell, method: Method, forward: Forward) -> None:
    def state() -> list[tuple[str, Tensor]]:
        shown = ("inputs", "logits_BC", "losses_B")
        tensors = [(name, getattr(forward, name)) for name in shown]
        tensors += [(f"the gradient of {n}", p.grad) for n, p in named if p.grad is not None]
        tensors += [*forward.model.state_dict().items(), ("a draw", torch.get_rng_state())]
        return [(name, x.detach().clone()) for name, x in tensors]

    named = list(forward.model.named_parameters())
    before = state()
    own(method, forward)
    now = dict(state())
    for name, x in before:
        if not torch.equal(x, now.get(name, x[:0])):
            what = "draws by torch's own generator" if name == "a draw" else f"changes {name}"
            tell(f"it {what}, and may only look; draw by clbench.seeding.generator")
            return


def _classifier(own: Hook, tell: Tell, method: Method) -> Any:
    classify = own(method)
    if classify is None:
        return None

    def asked(features_BF: Tensor) -> Any:
        before = features_BF.clone()
        logits = classify(features_BF)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(before):
            tell(f"it makes {_shape(logits)} of {len(before)} samples' features, not (B, C)")
        elif not torch.equal(before, features_BF):
            tell("it changes the features it is given")
        elif not torch.equal(logits, classify(features_BF)):
            tell("asked twice, it gives two answers")
        return logits

    return asked


def _deploy(own: Hook, tell: Tell, method: Method, theta: State, at: Any) -> Any:
    def given() -> dict[str, State]:
        anchors = {
            f"the anchor `{name}`": anchor.state for name, anchor in vars(at.anchors).items()
        }
        return {"the weights it is given": theta, **anchors}

    before, remembered = copy.deepcopy(given()), copy.deepcopy(method.state_dict())
    first = own(method, theta, at)
    found = dict(first)
    for name, weights in given().items():
        if not _same(before[name], weights):
            tell(f"it edits {name}: return others")
            return first
    if not equal(remembered, method.state_dict()):
        tell("it changes what the method remembers: `absorb` does, once a task")
    shown = own(method, theta, at)
    if not _same(found, shown):
        tell("asked twice for the same weights, it gives two answers")
    return shown


#: Hooks, and what is looked at in a call of each.
LOOKS: dict[str, Callable[..., Any]] = {
    "adapt": _adapt,
    "rows": _rows,
    "admit": _admit,
    "rate": _rate,
    "weights": _weights,
    "sample_losses": _sample_losses,
    "penalty": _penalty,
    "observe": _observe,
    "classifier": _classifier,
    "deploy": _deploy,
}


def not_copied(model: nn.Module, added: list[str], images: Tensor) -> bool:
    """Whether what was added to a network is another's, so that its copies do not have their own.

    Args:
        model: with what ``adapt`` added.
        added: names of parameters and buffers that it added.
        images: of a batch.
    """
    twin = copy.deepcopy(model).eval()
    own = twin.state_dict()
    with torch.no_grad():
        before = twin(images)
        for name in added:
            if own[name].is_floating_point():
                own[name].add_(torch.rand_like(own[name]))
        return bool(torch.equal(before, twin(images)))


def _is_mask(tell: Tell, found: Any, shape: tuple[int, ...], words: str) -> None:
    if found is None:
        return
    if not isinstance(found, Tensor) or found.dtype != torch.bool or tuple(found.shape) != shape:
        tell(f"it returns {_shape(found)}, not a mask: bool {words}, here {shape}")


def _shape(found: Any) -> str:
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"


def equal(one: Any, other: Any) -> bool:
    """Whether two states are the same, all tensors in them bit for bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one.cpu(), other.cpu())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)


def _same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
