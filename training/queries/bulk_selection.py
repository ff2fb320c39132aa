"""Which jobs a verb is asked of where it is asked of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from training import lifecycle, policy, queries
from training.lifecycle import Status, Verb
from training.models import TrainingJob
from training.queries.job_list import JobQuery, page


def visible_among(actor: Any, numbers: Sequence[int]) -> list[TrainingJob]:
    """Those of the jobs that the actor sees, in the order of their numbers here."""
    found = queries.with_relations(policy.visible_jobs(actor)).in_bulk(list(numbers))
    return [found[number] for number in numbers if number in found]


def changeable(actor: Any, verb: Verb, wanted: JobQuery, *, most: int) -> tuple[list[int], bool]:
    """Numbers of those that are wanted and that the verb may change, and whether there are more than so many."""
    able = [status for status in lifecycle.changed_by(verb) if status in (wanted.status or Status)]
    if not able:
        return [], False
    found = page(actor, replace(wanted, status=able), size=most)
    return [job["id"] for job in found.jobs], found.next is not None
