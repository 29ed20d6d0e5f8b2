"""How the methods were tuned, folded away: every try and the choice."""

from __future__ import annotations

from html import escape
from typing import Any

from clbench.report.html_table import wide
from clbench.report.metrics import show
from clbench.report.tuning import Cell, Try, Tuning, plain


def tuning_part(tunings: tuple[Tuning, ...]) -> str:
    """The section on tuning; empty if nothing was tuned."""
    if not tunings:
        return ""
    parts = ['<section><h2 id="tuning">Tuning</h2>']
    for tuning in tunings:
        parts.append(f"<p>{escape(tuning.sentence)}</p>")
        parts += [_cell(cell) for cell in tuning.cells]
    return "\n".join([*parts, "</section>"])


def _cell(cell: Cell) -> str:
    chosen = cell.best
    what = f"chosen: {chosen.words}" if chosen else "nothing was chosen"
    keys = list(dict.fromkeys(key for one in cell.tries for key in one.settings))
    names = [key.removeprefix("methods.") for key in keys]
    heads = "".join(f'<th scope="col">{escape(t)}</th>' for t in ["Try", *names, "Validation"])
    heads += '<th scope="col" class="text">State</th>'
    rows = "".join(_row(one, keys, one is chosen) for one in cell.tries)
    space = "".join(
        f"<li><code>{escape(key)}</code>: {escape(_range(value))}</li>"
        for key, value in cell.space.items()
    )
    drawn = f"<p>Drawn from:</p><ul>{space}</ul>" if space else ""
    count = len(cell.tries)
    return (
        f'<details class="runs"><summary><strong>{escape(cell.name)}</strong>, {count} '
        f"{'try' if count == 1 else 'tries'}; {escape(what)}</summary>"
        + wide(
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>",
            f"Tries of {cell.name}",
        )
        + f"{drawn}</details>"
    )


def _row(one: Try, keys: list[str], chosen: bool) -> str:
    cells = [f'<th scope="row">{one.number}{" (chosen)" if chosen else ""}</th>']
    cells += [f"<td>{escape(plain(one.settings.get(key, '–')))}</td>" for key in keys]
    kind = ' class="best"' if chosen else ""
    cells.append(f"<td{kind}>{show(one.value, 'accuracy')}</td>")
    state = f"{one.state}: {one.reason}" if one.reason else one.state
    cells.append(f'<td class="text" title="{escape(one.folder)}">{escape(state)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _range(value: Any) -> str:
    """A range or a list of choices in words."""
    if isinstance(value, dict) and "low" in value and "high" in value:
        rest = [
            k if v is True else f"{k} {plain(v)}"
            for k, v in value.items()
            if k not in ("low", "high") and v not in (None, False)
        ]
        text = f"{plain(value['low'])} to {plain(value['high'])}"
        return f"{text} ({', '.join(rest)})" if rest else text
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return plain(value)
