"""Weights files as people have them: read without running anything, and fitted to a network."""

from __future__ import annotations

import pickletools
import stat
import sys
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from clbench.errors import ClbenchError, first_line
from clbench.processes.processes import say
from clbench.weights import State

#: Endings of files that people keep weights in.
SUFFIXES: Final = (
    ".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".th", ".npz", ".onnx", ".h5",
)  # fmt: skip
#: Where training scripts put the weights in what they save, the usual ones first.
WRAPPERS: Final = (
    "state_dict", "model", "model_state_dict", "model_state", "module", "network", "net", "weights",
)  # fmt: skip
#: What a file begins with that people take for weights.
STRANGERS: Final = {
    b"version https://git-lfs": "is a pointer of Git LFS: fetch the file itself (git lfs pull)",
    b"<": "is a web page: download the file itself",
    b"\x89HDF": "is a file of Keras: convert it to safetensors",
    b"\x1f\x8b": "is compressed by gzip: unpack it first",
    b"7z\xbc\xaf": "is compressed: unpack it first",
    b"Rar!": "is compressed: unpack it first",
}


class Inert:
    """Stands for an object of a file whose class is not loaded; it does nothing."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        """Whatever the file says, it is not looked at."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read(path: Path) -> State:
    """The state dict in a safetensors or torch file; no code in the file is ever run.

    Objects beside the weights (arguments, optimisers, metrics) are passed over, whatever their
    classes are.

    Raises:
        ClbenchError: if the file is missing, corrupt, or holds no state dict of tensors.
    """
    start = _start(path)
    try:
        if is_safetensors(start):
            return load_file(path)
        with warnings.catch_warnings():  # of torch, about how it reads
            warnings.simplefilter("ignore")
            contents = _load(path)
    except Exception as error:  # pickle's, zipfile's and safetensors' own kinds too
        raise ClbenchError(f"the weights {path} cannot be read: {_reason(error)}") from error
    return _state(contents, path)


def _start(path: Path) -> bytes:
    """The first bytes of a file that may hold weights."""
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):
            raise ClbenchError(f"model.weights: {path} is no file")
        with path.open("rb") as file:
            start = file.read(64)
    except (OSError, ValueError) as error:
        raise ClbenchError(f"the weights {path} cannot be read: {first_line(error)}") from error
    if not start:
        raise ClbenchError(f"the weights {path} cannot be read: the file is empty")
    for magic, what in STRANGERS.items():
        # The header's length, with which safetensors begins, may look like anything.
        if start.lstrip().startswith(magic) and not is_safetensors(start):
            raise ClbenchError(f"the weights {path} cannot be read: this {what}")
    return start


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is safetensors: its header is JSON, after its length."""
    return start[8:9] == b"{"


def _load(path: Path) -> Any:
    """What ``torch.save`` wrote, with :class:`Inert` in the place of what is not tensors."""
    context: Any = nullcontext()
    if hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # from torch 2.6 on
        context = torch.serialization.safe_globals([(Inert, name) for name in _classes(path)])
    # Torch would go by the ending of a path's name.
    with context, path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be used is refused, in the one line of that
        return torch.load(file, map_location="cpu", weights_only=True)


def _classes(path: Path) -> set[str]:
    """Classes and functions that a file names, beside those that torch takes: none is loaded."""
    try:
        if zipfile.is_zipfile(path):
            return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        with path.open("rb") as file:
            # Torch's format before 1.6: a mark, a version, the machine, then what was saved.
            found = [op for _ in range(4) for op in pickletools.genops(file)]
    except Exception:
        return set()  # not in torch's formats: its own message is the better one
    return {str(word).replace(" ", ".") for op, word, _ in found if op.name == "GLOBAL"}


def _state(contents: Any, path: Path) -> State:
    """The state dict in what a training script saved."""
    within, seen = "", set[int]()
    while isinstance(contents, Mapping) and not _is_state(contents) and id(contents) not in seen:
        seen.add(id(contents))  # what holds itself would be opened for ever
        inner = {name: value for name, value in contents.items() if isinstance(value, Mapping)}
        named = [name for name in WRAPPERS if name in inner]
        tensors = [name for name, value in inner.items() if value and _is_state(value)]
        if not (named or len(tensors) == 1):
            whole = [contents[name] for name in WRAPPERS if name in contents]
            models = [value for value in whole if isinstance(value, Inert | nn.Module)]
            if models:
                contents = models[0]
                break
            keys = ", ".join(str(key)[:40] for key in list(contents)[:8]) or "nothing"
            raise ClbenchError(
                f"{path} holds no state dict of tensors{within} (it holds {keys}): save "
                "model.state_dict()"
            )
        chosen = (named or tensors)[0]
        others = [str(name) for name in tensors if name not in (chosen, "optimizer")]
        if others:
            say(f"{path}: {chosen} is taken; {', '.join(others[:4])} would be other weights")
        contents, within = inner[chosen], f"{within} in {chosen}"
    if isinstance(contents, Inert | nn.Module):
        raise ClbenchError(
            f"{path} holds a whole model, which only its own code could load: save "
            "model.state_dict() where it was made"
        )
    if not (isinstance(contents, Mapping) and _is_state(contents)):
        raise ClbenchError(f"{path} holds no state dict of tensors: save model.state_dict()")
    return {str(name): tensor for name, tensor in contents.items()}


def _is_state(contents: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in contents) and all(
        isinstance(value, Tensor) for value in contents.values()
    )


def fit(state: State, model: nn.Module, head: str, source: str, network: str) -> State:
    """The weights under the names, and of the shapes, that a network has.

    Names may have the prefix of a wrapper (``module.``, ``model.``, ``_orig_mod.`` …); what lies
    beside the network is left out, and said. What timm can convert (position embeddings of another
    image size, its own older names) it converts, and that is said too.

    Args:
        state: as read from a file; its classifier may have any number of rows, or be missing.
        model: the network, with any number of classes.
        head: the name of its classifier.
        source: what messages call the weights.
        network: what they call the network.

    Raises:
        ClbenchError: naming what does not fit.
    """
    state = _without_prefix(state, model, head, source)
    wrong = _misfits(state, model, head)
    if wrong:
        converted = _converted(state, model)
        if converted is None or _misfits(converted, model, head):
            raise ClbenchError(
                f"model.weights = {source!r} do not fit {network}: {'; '.join(wrong)}; if they are "
                "another network's, name that one as model.backbone"
            )
        say(f"{source}: made for another image size or under older names; timm has converted them")
        state = converted
    return state


def _without_prefix(state: State, model: nn.Module, head: str, source: str) -> State:
    """The entries of the network, by its own names."""
    wanted = [name for name in model.state_dict() if not name.startswith(f"{head}.")]
    prefixes = [name[: -len(wanted[0])] for name in state if name.endswith(wanted[0])]
    whole = [p for p in prefixes if all(p + name in state for name in wanted)]
    if "" in whole or not whole:
        # Where none fits, the one that fits best makes the message.
        best = max(prefixes, key=lambda p: sum(p + n in state for n in wanted), default="")
        whole = [""] if "" in whole else [best]
    if len(whole) > 1:
        raise ClbenchError(
            f"model.weights = {source!r} hold the network {len(whole)} times (as "
            f"{', '.join(whole[:4])}): save the one that is meant"
        )
    prefix = whole[0]
    inside = {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}
    beside = [name for name in state if not name.startswith(prefix)]
    if beside:
        say(f"{source}: left out what is not in {prefix}* ({len(beside)}: {beside[0][:60]} …)")
    return inside


def _misfits(state: State, model: nn.Module, head: str) -> list[str]:
    """What is missing, unexpected, of another shape, of whole numbers or sparse."""
    headless = f"{head}.weight" not in state
    wanted = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not (headless and name.startswith(f"{head}."))
    }
    both = sorted(wanted.keys() & state.keys())
    rows = {name: 1 if name.startswith(f"{head}.") else 0 for name in both}  # any number of them
    missing = sorted(wanted.keys() - state.keys())
    strange = sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in both
        if state[name].shape[rows[name] :] != wanted[name].shape[rows[name] :]
        or state[name].ndim != wanted[name].ndim
    ]
    kinds = [
        f"{name} is of {state[name].dtype}"
        for name in both
        if wanted[name].is_floating_point() and not state[name].is_floating_point()
    ] + [
        f"{name} is {'without values (meta)' if state[name].is_meta else 'sparse'}, not dense"
        for name in both
        if state[name].is_meta or state[name].layout != torch.strided
    ]
    return (
        [f"missing {missing[:3]}"] * bool(missing)
        + [f"unexpected {[name[:60] for name in strange[:3]]}"] * bool(strange)
        + shapes[:3]
        + kinds[:3]
    )


def _converted(state: State, model: nn.Module) -> State | None:
    """The weights as timm's own loader of published weights would have them, if it has one."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return None
    try:
        converted = convert(dict(state), model)
    except Exception:  # of a network that this is no file of
        return None
    return converted if isinstance(converted, dict) and _is_state(converted) else None


def _reason(error: Exception) -> str:
    """Why, in words that fit one line."""
    text = str(error)
    if "TorchScript" in text:
        return "it is a TorchScript program: save model.state_dict() where it was made"
    if "central directory" in text or "not a ZIP archive" in text:
        return "it is cut or damaged: is the file whole?"
    words = (
        *("magic number", "Weights only load failed", "pickle", "not in a subdirectory"),
        *("weights_only", "hasRecord"),
    )
    if isinstance(error, KeyError | IndexError) or any(
        word.lower() in text.lower() for word in words
    ):
        return "it is no file of torch or safetensors, it is cut, or holds more than weights"
    return f"{first_line(error)}: is the file whole?"
