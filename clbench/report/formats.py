"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from clbench.text.texts import cell


def csv_text(lines: Iterable[dict[str, Any]]) -> str:
    """Rows as CSV; the first names the columns."""
    found = list(lines)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(found[0]) if found else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in line.items()} for line in found)
    return buffer.getvalue()


def markdown_table(title: str, heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table with its title; cells between two asterisks are bold."""
    cells = [[escape_markdown(c) for c in line] for line in [heads, *body]]
    rule = ["---", *["---:"] * (len(heads) - 1)]
    lines = [cells[0], rule, *cells[1:]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### {escape_markdown(title)}\n\n{table}"


def latex_table(title: str, heads: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """The same for LaTeX with booktabs."""
    lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in body]
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{escape_latex(title)}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}\n\\toprule\n"
        + " & ".join(map(escape_latex, heads))
        + " \\\\\n\\midrule\n"
        + "\n".join(lines)
        + "\n\\bottomrule\n\\end{tabular}\n\\end{table}"
    )


def escape_markdown(text: str) -> str:
    """Plain text for Markdown; what stands between two asterisks stays bold."""
    bold = text.startswith("**") and text.endswith("**") and len(text) > 4
    inner = text[2:-2] if bold else text
    inner = " ".join(inner.split())
    for sign in "\\`*_{}[]<>|#$":
        inner = inner.replace(sign, f"\\{sign}")
    return f"**{inner}**" if bold else inner


_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "’": "'",
    "ℓ": r"$\ell$",
    "β": r"$\beta$",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
    "→": r"$\to$",
    "–": "--",
    "−": "$-$",
    "†": r"$\dagger$",
}


def escape_latex(text: str) -> str:
    """Plain text for LaTeX; what stands between two asterisks becomes bold."""
    bold = text.startswith("**") and text.endswith("**") and len(text) > 4
    inner = " ".join((text[2:-2] if bold else text).split())
    inner = "".join(_LATEX.get(sign, sign) for sign in inner)
    return rf"\textbf{{{inner}}}" if bold else inner
