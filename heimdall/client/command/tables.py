"""Rows on a screen: in color on a terminal, else plain columns that no width cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heimdall.client.command.base import is_terminal, printable

COLORS = {
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "paused": "yellow",
    "cancelled": "bright_black",
}
STATE = "STATE"


def show(head: Sequence[str], rows: Sequence[Sequence[Any]], *, states: Sequence[str] = ()) -> None:
    """`states` are the statuses by which the column STATE is colored."""
    texts = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    if is_terminal():
        _in_color(head, texts, states)
    else:
        widths = [max(len(row[place]) for row in [list(head), *texts]) for place in range(len(head))]
        for row in [list(head), *texts]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _in_color(head: Sequence[str], texts: list[list[str]], states: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="ellipsis", no_wrap=True, justify="right" if name == "ID" else "left")
    for number, row in enumerate(texts):
        color = COLORS.get(states[number], "") if states else ""
        cells = [
            Text(cell, style=color if name == STATE else "") for name, cell in zip(head, row, strict=True)
        ]
        table.add_row(*cells)
    Console().print(table)


def size(count: float | None) -> str:
    if count is None:
        return "-"
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}s"
    return f"{seconds:.0f} seconds"
