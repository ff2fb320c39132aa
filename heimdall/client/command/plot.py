"""A curve in a terminal, of braille dots: two columns and four rows of them in each character."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

_BASE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LABEL = 10


def drawn(points: Mapping[int, float], *, width: int, rows: int, title: str) -> list[str]:
    """Lines with the values at the left edge; none where there is nothing to draw."""
    found = sorted((step, value) for step, value in points.items() if math.isfinite(value))
    columns = width - LABEL - 2
    if len(found) < 2 or columns < 10:
        return []
    low, high = min(value for _, value in found), max(value for _, value in found)
    first, last = found[0][0], found[-1][0]
    cells = [[0] * columns for _ in range(rows)]
    dots = [
        (
            round((step - first) / max(last - first, 1) * (columns * 2 - 1)),
            round((high - value) / ((high - low) or 1) * (rows * 4 - 1)),
        )
        for step, value in found
    ]
    for across, down in _joined(dots):
        cells[down // 4][across // 2] |= _DOTS[down % 4][across % 2]
    labels = {0: f"{high:.4g}", rows - 1: f"{low:.4g}"}
    lines = [
        f"{labels.get(number, ''):>{LABEL}} \u2502" + "".join(chr(_BASE + cell) for cell in row)
        for number, row in enumerate(cells)
    ]
    foot = f"{title}, steps {first} to {last}"
    return [*lines, f"{'':>{LABEL}} \u2514{foot}"]


def _joined(dots: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The dots, and those of a straight line between each two of them."""
    for (left, begins), (right, ends) in pairwise(dots):
        for across in range(left, right + 1):
            yield across, round(begins + (ends - begins) * (across - left) / max(right - left, 1))
