"""The loss of each job of a list, in a few points: one query for the whole page.

A step's values never change, for a repeated step gives the same ones. So what was read for a job at a step is kept.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from functools import reduce
from operator import or_
from threading import Lock
from typing import Any

from django.db.models import Q

from training.models import Metric

NUM_POINTS = 32
_MOST_KEPT = 2_000

Points = list[tuple[int, float]]  # steps and losses
Key = tuple[int, str, int, int]


def sparks(jobs: Iterable[dict[str, Any]]) -> dict[int, Points]:
    """The points of each job (a dict of queries.job_dict) that has at least two."""
    wanted = {_key(job): job for job in jobs if job["total_epochs"] and job["current_step"]}
    found = _kept.get(wanted)
    missing = [wanted[key] for key in wanted.keys() - found.keys()]
    if missing:
        read = _read(missing)
        found |= {_key(job): read.get(job["id"], []) for job in missing}
        _kept.put(found)
    return {key[0]: points for key, points in found.items() if len(points) > 1}


def _key(job: dict[str, Any]) -> Key:
    return job["id"], job["created_at"], job["attempt"], job["current_step"]


def _read(jobs: list[dict[str, Any]]) -> dict[int, Points]:
    rows = Metric.objects.filter(
        reduce(or_, (Q(job_id=job["id"], step__in=_steps(job["current_step"])) for job in jobs))
    )
    found: dict[int, Points] = {}
    for job, step, values in rows.order_by("job_id", "step").values_list("job_id", "step", "values"):
        loss = values.get("loss")
        if isinstance(loss, int | float) and math.isfinite(loss):
            found.setdefault(job, []).append((step, loss))
    return found


def _steps(last: int) -> list[int]:
    """Evenly from the first step to the last."""
    return sorted({1, *(max(1, round(last * part / NUM_POINTS)) for part in range(1, NUM_POINTS + 1))})


class _KeptCurves:
    """What was read last, for as many jobs as some pages hold."""

    def __init__(self) -> None:
        self._points: OrderedDict[Key, Points] = OrderedDict()
        self._lock = Lock()

    def get(self, keys: Iterable[Key]) -> dict[Key, Points]:
        with self._lock:
            return {key: self._points[key] for key in keys if key in self._points}

    def put(self, found: dict[Key, Points]) -> None:
        with self._lock:
            for key, points in found.items():
                self._points[key] = points
                self._points.move_to_end(key)
            while len(self._points) > _MOST_KEPT:
                self._points.popitem(last=False)


_kept = _KeptCurves()
