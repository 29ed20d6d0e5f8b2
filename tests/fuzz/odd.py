"""Odd values, and ways to spoil plain values, text and bytes."""

import copy
import math
import re
from datetime import date, datetime
from random import Random
from typing import Any

NUMBERS = (
    0, -1, 1, 2, 3, 1.0, 1.5, -0.5, -0.0, 1e-30, 1e30, 1e300, 5e-324, 10**9, 2**31, 2**63, 10**30,
    10**400, math.nan, math.inf, -math.inf,
)  # fmt: skip
WORDS = (
    "", " ", "a\nb", "x" * 3000, "../../x", "..", "~", "~/x", "$HOME", "{{}}", "{0}", "%s", "null",
    "[1, 2", "{a: 1", "a: b: c", "# x", "pics #2", "*a", "&a", "@a", "!!python/object:os.system",
    "yes", "no", "1e3", "012", "1:30", "é", "数字", "مرحبا", "🦆", "\x00", "\x1b[31m", "\ud800",
    "=1+1", "<script>alert(1)</script>", "$\\frac", "/dev/null", "/dev/zero", "/", ".", "nan",
    "0,5", "1e-3", ".5", "1_000", "0x10", "1/2", "50%", "-1", "inf", "None", "True", "auto",
    "\u2028", "\u202e", "a\u00a0b", "\ufeff", "e\u0301", "C:\\x", "file:///etc/passwd", "a/b",
    "/proc/self", "2026-01-01", "\"", "'", "`x`", "$(x)", "a;b", "a,b", "--seed", "-x", "%(x)s",
    "\\", "CON", "x" * 255, "none",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], {"a": 1}, [1, "a"], {"": ""}, [None], [math.nan], {1: 2},
    {None: 1}, {True: "x"}, [{}], date(2026, 1, 1), datetime(2026, 1, 1), b"x", {"name": "a"},
    [0.5, 0.5], list(range(2000)), {"x": {"x": {"x": {}}}},
)  # fmt: skip


def value(random: Random) -> Any:
    """An odd value of any kind."""
    kind = random.random()
    if kind < 0.4:
        return random.choice(NUMBERS)
    if kind < 0.75:
        return random.choice(WORDS)
    if kind < 0.95:
        return copy.deepcopy(random.choice(OTHERS))
    return deep(random.choice((10, 100, 3000)))


def deep(levels: int) -> str:
    """Stands for a list in a list in a list …, which :func:`unfolded` writes out."""
    return f"DEEP{levels}"


def unfolded(text: str) -> str:
    """Text of YAML with the lists that :func:`deep` stands for."""
    return re.sub(r"DEEP(\d+)", lambda m: "[" * int(m[1]) + "1" + "]" * int(m[1]), text)


def places(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in nested mappings and lists."""
    found = [path] if path else []
    items = values.items() if isinstance(values, dict) else ()
    if isinstance(values, list):
        items = enumerate(values)
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def spoil(values: dict[str, Any], random: Random) -> dict[str, Any]:
    """A copy in which one thing is another value, gone, misspelt, doubled, or new."""
    values = copy.deepcopy(values)
    *way, key = random.choice(places(values))
    holder: Any = values
    for step in way:
        holder = holder[step]
    change = random.choice(
        ("value", "value", "value", "gone", "misspelt", "list", "new", "other", "text", "twisted")
    )
    if change == "value":
        holder[key] = value(random)
    elif change == "gone":
        del holder[key]
    elif change == "misspelt" and isinstance(holder, dict):
        holder[misspell(str(key), random)] = holder.pop(key)
    elif change == "list":
        holder[key] = [holder[key]]
    elif change == "other":
        holder[key] = copy.deepcopy(_at(values, random.choice(places(values))))
    elif change == "text":
        holder[key] = str(holder[key])
    elif change == "twisted":
        holder[key] = _twisted(holder[key], random)
    elif isinstance(holder, dict):
        holder[random.choice(WORDS)] = value(random)
    return values


def _at(values: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        values = values[step]
    return values


def _twisted(old: Any, random: Random) -> Any:
    """A value near to the old one, as a slip makes it."""
    if isinstance(old, bool) or old is None:
        return random.choice((not old, 1, 0, "off", "none"))
    if isinstance(old, int | float):
        return random.choice(
            (-old, old + 0.5, old * 1000, old / 3, float(old), f"{old}%", [old, old])
        )
    if isinstance(old, str):
        return random.choice((old.upper(), f" {old}", f"{old}\n", old + "s", old[:-1], [old]))
    if isinstance(old, list):
        return random.choice((old[::-1], old + old, old[1:], [old], {str(x): x for x in old}))
    return random.choice((list(old), [old], dict.fromkeys(old), [{k: v} for k, v in old.items()]))


def misspell(word: str, random: Random) -> str:
    """A word with a letter too few, too many, or other."""
    at = random.randrange(len(word) + 1)
    return random.choice((word[:at] + word[at + 1 :], word[:at] + "q" + word[at:], word.upper()))


def text(content: str, random: Random) -> bytes:
    """Text as other programs, or accidents, would leave it."""
    lines = content.splitlines(keepends=True)
    at = random.randrange(len(lines))
    kind = random.randrange(8)
    if kind == 0:
        return content.encode("utf-16")
    if kind == 1:
        return (content + "# é\n").encode("latin-1", errors="replace")
    if kind == 2:
        return content.encode("utf-8-sig")
    if kind == 3:
        lines.insert(at, lines[at])
    elif kind == 4:
        lines[at] = "\t" + lines[at]
    elif kind == 5:
        lines[at] = lines[at].rstrip("\n") + " " + random.choice(WORDS) + "\n"
    elif kind == 6:
        lines.insert(at, random.choice(("---\n", "...\n", "%YAML 1.2\n", "- x\n", "? a\n", "}\n")))
    else:
        return content.encode("utf-8")[: random.randrange(len(content))]
    return "".join(lines).encode("utf-8", errors="surrogatepass")


def data(content: bytes, random: Random) -> bytes:
    """Bytes with some flipped, cut, doubled, zeroed, or put in."""
    if not content:
        return bytes(random.randrange(256) for _ in range(20))
    at, kind = random.randrange(len(content)), random.randrange(6)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:at] + content
    if kind == 3:
        return content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :]
    if kind == 4:
        return content[:at] + bytes(random.randrange(256) for _ in range(16)) + content[at:]
    return b""
