"""One line of the table: what was measured, what it should be, and who stands beside it."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`aim` is the most that `value` may be; None where a figure is only shown."""

    group: str
    name: str
    value: float | None
    unit: str
    aim: float | None = None
    bounds: tuple[float, float] | None = None
    peer: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "failed"
        if self.aim is None:
            return ""
        return "ok" if self.value <= self.aim else "MISSED"

    def cells(self) -> tuple[str, ...]:
        aim = "" if self.aim is None else f"<= {number(self.aim)} {self.unit}".strip()
        return (self.group, self.name, aim, self._measured(), self.verdict, self.peer, self.note)

    def _measured(self) -> str:
        if self.value is None:
            return "-"
        bounds = f" [{number(self.bounds[0])}, {number(self.bounds[1])}]" if self.bounds else ""
        return f"{number(self.value)}{bounds} {self.unit}".strip()


def number(value: float) -> str:
    """Four digits that matter."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def median_of(values: list[float]) -> float:
    return statistics.median(values)


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]


def bounds_of_median(values: list[float]) -> tuple[float, float]:
    """95 % bounds of the median, by ranks: no assumption about how the values are spread."""
    ordered, half = sorted(values), 0.98 * math.sqrt(len(values))
    low, high = math.floor(len(values) / 2 - half), math.ceil(len(values) / 2 + half)
    return ordered[max(low, 0)], ordered[min(high, len(values) - 1)]
