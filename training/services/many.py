"""A verb asked of many jobs, each by itself: one that refuses keeps none of the others from being done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heimdall.errors import HeimdallError
from training import policy
from training.errors import NotFound
from training.models import TrainingJob
from training.services.transition import Result
from training.services.verbs import VERBS

MOST_AT_ONCE = 500


@dataclass(frozen=True)
class Asked:
    """What became of it for one job: a result, or the error that refused it. `number` is the job's."""

    number: int
    result: Result | None = None
    error: HeimdallError | None = None


def ask_each(numbers: Sequence[int], verb: str, *, by: Any, **options: Any) -> list[Asked]:
    """Ask the jobs of these numbers, in this order. `options` are the verb's own, such as at="step"."""
    seen = policy.visible_jobs(by).in_bulk(list(numbers))
    return [
        ask(seen[number], verb, by=by, **options) if number in seen else _missing(number)
        for number in numbers
    ]


def ask(job: TrainingJob, verb: str, *, by: Any, **options: Any) -> Asked:
    """The same of one job."""
    try:
        return Asked(job.pk, result=VERBS[verb](job, by=by, **options))
    except HeimdallError as error:
        return Asked(job.pk, error=error)


def _missing(number: int) -> Asked:
    return Asked(number, error=NotFound(f"There is no job {number}."))
