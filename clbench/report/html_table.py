"""Tables on the page: sortable, every number leading to its runs."""

from __future__ import annotations

from html import escape

from clbench.report.boards import Cell, Head, Table

_SAYS = {"best": "best", "tie": "within noise of the best"}


def sortable(table: Table, label: str) -> str:
    """A table whose heads are buttons that sort it.

    Args:
        table: what it holds.
        label: its name for screen readers.
    """
    heads = "".join(map(_head, table.heads))
    lines = "".join(
        f"<tr>{''.join(_cell(cell, number == 0) for number, cell in enumerate(line))}</tr>"
        for line in table.body
    )
    note = f'<p class="soft">{escape(table.note)}</p>' if table.note else ""
    return (
        wide(
            f'<table class="board"><caption>{escape(table.title)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>",
            label,
        )
        + note
    )


def wide(inner: str, label: str) -> str:
    """A part that scrolls sideways where it does not fit, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="group" aria-label="{escape(label)}">{inner}</div>'


def _head(head: Head) -> str:
    first = "descending" if head.better > 0 else "ascending"
    order = f' aria-sort="{first}"' if head.ordered else ""
    title = f' title="{escape(head.about)}"' if head.about else ""
    return (
        f'<th scope="col" data-first="{first}"{order}><button type="button"{title}>'
        f"{escape(head.text)}</button></th>"
    )


def _cell(cell: Cell, names: bool) -> str:
    value = "" if cell.value is None else cell.value
    value = escape(value if isinstance(value, str) else repr(value))
    text = escape(cell.text)
    if cell.group is not None:
        # Only the row's name is a stop of the tab key: the numbers lead to the same place.
        tab = "" if names else ' tabindex="-1"'
        text = f'<a{tab} href="#g{cell.group}">{text}</a>'
    if names:
        return f'<th scope="row" data-value="{value}">{text}</th>'
    small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    kind = f' class="{cell.mark}" title="{_SAYS[cell.mark]}"' if cell.mark else ""
    kind = ' class="text"' if cell.words else kind
    return f'<td data-value="{value}"{kind}>{text}{small}</td>'
