"""Whether what a command leaves behind holds water: strict JSON, finite weights, whole pages."""

import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn

#: What a case may leave in its folder beside what was there before.
PRODUCTS = {"stdout.txt", "stderr.txt", "out", "page", "data", "runs", "report"}


def unsound(folder: Path, before: set[str], code: int, since: float = 0.0) -> str | None:
    """What is wrong with what a command left in a folder, or None.

    Args:
        folder: where it was run.
        before: names in it that were there.
        code: its exit code.
        since: when it began, as files' times are; what is older is not its doing.
    """
    # A misspelt word may name another folder of another case.
    strays = {path.name for path in folder.iterdir() if path.name.lower() not in PRODUCTS} - before
    if strays:
        return f"it wrote {sorted(strays)[:3]}"
    written = [path for path in _files(folder) if path.lstat().st_mtime >= since]
    partial = [path for path in written if ".partial" in path.name]
    if partial:
        return f"it left {partial[0].relative_to(folder)}"
    for path in written if not code else ():
        check = CHECKS.get(path.name if path.suffix != ".html" else path.suffix)
        if check and (wrong := check(path)):
            return f"{path.relative_to(folder)}: {wrong}"
    return None


def _files(folder: Path) -> list[Path]:
    """The files of outputs; what a case was given is not looked at."""
    found = [path for name in ("out", "page", "data") for path in (folder / name).rglob("*")]
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _json(path: Path) -> str | None:
    try:
        values = strict(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return None if values else "it is empty"


def _record(path: Path) -> str | None:
    """What is wrong with the record of a finished run."""
    try:
        events = [strict(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    if events[-1]["event"] != "end":
        return "it has no end"
    accuracies = [
        value
        for event in events
        if event["event"] == "task"
        for scenario in ("task_incremental", "class_incremental")
        for value in event[scenario]
    ]
    sound = accuracies and all(0 <= value <= 1 for value in accuracies)
    return None if sound else f"accuracies {accuracies[:5]}"


def _weights(path: Path) -> str | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        return f"SafetensorError: {error}"
    broken = [name for name, x in weights.items() if x.is_floating_point() and not _finite(x)]
    return f"weights that are no numbers: {broken[:3]}" if broken else None


def _finite(tensor: Any) -> bool:
    return bool(tensor.isfinite().all())


def strict(text: str) -> Any:
    """JSON as the standard has it.

    Raises:
        ValueError: for NaN, infinities, and numbers that no float can hold.
    """

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    def number(word: str) -> float:
        value = float(word)
        if not math.isfinite(value):
            refuse(word)
        return value

    return json.loads(text, parse_constant=refuse, parse_float=number)


class _Tags(HTMLParser):
    """Follows tags, and remembers what does not close, and what could run."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input", "col", "wbr", "source"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.wrong += [f"<{tag} {name}>" for name, _ in attrs if name.startswith("on")]
        self.wrong += [f"{v}" for _, v in attrs if (v or "").lower().startswith("javascript:")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once, as in SVG."""

    def handle_endtag(self, tag: str) -> None:
        # HTML lets these close with what holds them.
        while self.open and self.open[-1] != tag and self.open[-1] in ("p", "li", "td", "tr", "th"):
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


def _page(path: Path) -> str | None:
    """What is wrong with a page."""
    text = path.read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    tags.close()
    if tags.wrong:
        return f"tags: {tags.wrong[:3]}"
    if tags.open:
        return f"not closed: {tags.open[:3]}"
    if "<script>alert" in text:
        return "a name became a script"
    return None


#: What is looked at, by its name.
CHECKS: dict[str, Callable[[Path], str | None]] = {
    "summary.json": _json,
    "environment.json": _json,
    "split_manifest.json": _json,
    "record.jsonl": _record,
    "model.safetensors": _weights,
    ".html": _page,
}
