"""Elastic jobs grow where slots are free that nobody waits for, and shrink where somebody does."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet

from training import placement, services
from training.models import Attempt, TrainingJob
from training.services.clock import in_seconds


def resize_elastic_jobs() -> list[TrainingJob]:
    """Stop those that would get another number of ranks if they were claimed now; who was asked.

    Each trains for HEIMDALL_ELASTIC_SECONDS before it is stopped for that; 0: never.
    """
    if not settings.ELASTIC_SECONDS:
        return []
    nodes = [node for node in placement.live_nodes() if placement.takes_jobs(node)]
    busy, attempts = placement.busy_slots(), placement.open_attempts()
    long_enough = _elastic_ones().filter(started_at__lt=in_seconds(-settings.ELASTIC_SECONDS))
    due = set(long_enough.values_list("pk", flat=True))
    asked: list[TrainingJob] = []
    for room in (room for node in nodes for room in placement.rooms(node, busy, attempts)):
        here = [one for one in room.attempts if one.pk in due]
        resized = next((job for one in here if (job := _resized(one, room)) is not None), None)
        asked += [resized] if resized else []  # one a host at a time: the next one sees what it left
    return asked


def _elastic_ones() -> QuerySet[Attempt]:
    elastic = TrainingJob.objects.filter(most_devices__gt=1, fewest_devices=1, stop="")
    return Attempt.objects.filter(ended_at=None, job__in=elastic)


def _resized(attempt: Attempt, room: placement.Room) -> TrainingJob | None:
    job = TrainingJob.objects.get(pk=attempt.job_id)
    ranks = placement.num_ranks(job, placement.left_for_it(job, room, len(room.free) + attempt.ranks))
    if ranks == attempt.ranks or job.attempt != attempt.number:
        return None
    if ranks > attempt.ranks and _are_kept(room):
        return None
    return job if services.resize(job, ranks=ranks) else None


def _are_kept(room: placement.Room) -> bool:
    """Whether free slots wait for a job of several devices."""
    return placement.waiting_gangs().filter(placement.fits(room.node, room.group[0])).exists()
