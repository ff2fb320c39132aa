"""Several whole runs of the bench in one table: an aim is kept when the median of the runs keeps it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace

from bench.figure import Figure


def over(runs: list[list[Figure]]) -> list[Figure]:
    """Each figure once: its median, with the quartiles as its bounds. One run is left as it is."""
    if len(runs) == 1:
        return runs[0]
    by_name: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for figures in runs:
        for figure in figures:
            by_name[figure.group, figure.name].append(figure)
    return [_middle(figures, len(runs)) for figures in by_name.values()]


def _middle(figures: list[Figure], num_runs: int) -> Figure:
    """A figure that could not be measured in each run has failed: a median of the others would flatter."""
    values = [figure.value for figure in figures if figure.value is not None]
    if len(values) < num_runs:
        note = f"measured in {len(values)} of {num_runs} runs; {figures[-1].note}"
        return replace(figures[-1], value=None, bounds=None, note=note)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    nearest = min(figures, key=lambda figure: abs((figure.value or 0.0) - middle))
    return replace(nearest, value=middle, bounds=(low, high))
