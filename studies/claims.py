"""The papers' claims, as the studies found them: one table from the pages' own.

    python studies/claims.py [--output docs/results]

Every table on a study's page whose first column is headed *claim*, and which has verdicts, is taken
over, so that a page and this table cannot differ.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from page_claims import COUNTS

from clbench.report.verdicts import DECIDED, RULE, Outcome

VERDICTS = get_args(Outcome)
#: How claims begin that were not there before the first run, or that no paper makes.
LATER = "asked "
#: Columns that are taken over; those that a page has not are left empty.
COLUMNS = ("claim", "compared", "number", "n", "could see", "would take", "verdict")


def claims_of(page: Path) -> Iterator[dict[str, str]]:
    """Every row of the page's tables of claims, by column.

    Raises:
        ValueError: for a verdict that is none of :data:`VERDICTS`.
    """
    heads: list[str] = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
        elif heads[0] == "claim" and "verdict" in heads and set(line) - set("|- "):
            row = dict(zip(heads, cells, strict=True))
            if row["verdict"] not in VERDICTS:
                raise ValueError(f"{page}: {row['claim']}: {row['verdict']!r} is no verdict")
            yield {name: row.get(name, "–") for name in COLUMNS}


def table(pages: Sequence[Path]) -> str:
    """The page of all claims, as Markdown."""
    rows = [(page, claim) for page in pages for claim in claims_of(page)]
    counts = Counter(claim["verdict"] for _, claim in rows)
    decided = sum(counts[verdict] for verdict in DECIDED)
    asked = [claim["verdict"] for _, claim in rows if claim["claim"].startswith(LATER)]
    of_them = Counter(asked)
    lines = [
        "# The papers' claims",
        "",
        "Made by `python studies/claims.py` from the pages of the studies, which say how each",
        "number was measured, what a claim that is not a test compares besides the methods, and,",
        "where a claim was not reproduced, why.",
        "",
        f"Of {len(rows)} claims, {decided} are decided: "
        + ", ".join(f"{counts[v]} {v}" for v in VERDICTS)
        + ".",
        "",
        f"{len(asked)} of them were no paper's or were asked when something had been seen, and say so "
        f"({', '.join(f'{of_them[v]} {v}' for v in VERDICTS)}); the others were written down before "
        "any run.",
        "",
        RULE + COUNTS,
    ]
    last = None
    for page, claim in rows:
        if page != last:
            title = page.read_text().splitlines()[0].removeprefix("# ")
            lines += ["", f"## [{title}]({page.parent.name}/README.md)", ""]
            lines += [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join(['---'] * len(COLUMNS))} |"]
        lines.append(f"| {' | '.join(claim.values())} |")
        last = page
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="The papers' claims, from the studies' pages.")
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    folder = parser.parse_args(argv).output
    pages = sorted(folder.glob("*/README.md"))
    if not pages:
        parser.error(
            f"--output {folder}: there are no pages of studies (*/README.md) to take claims from"
        )
    (folder / "claims.md").write_text(table(pages))
    print(folder / "claims.md")


if __name__ == "__main__":
    main()
