"""What trainings use of this machine: looked at every few seconds, and folded to minutes after an hour."""

from __future__ import annotations

from collections import defaultdict

from django.conf import settings
from django.db import transaction

from training.host.trainer_meter import TrainerMeter
from training.models import Attempt, Node, ResourceSample
from training.services.clock import in_seconds

FOLD_AFTER_SECONDS = 3_600
FOLDED_SECONDS = 60
MOST_FOLDED = 5_000  # rows in one transaction


def sample_resources(node: Node, meter: TrainerMeter) -> int:
    """Write down what each training on this host uses now; return how many there are. Call it every few seconds."""
    rows = Attempt.objects.filter(node=node, ended_at=None, trainer_pid__isnull=False)
    running = list(rows.values_list("job", "number", "trainer_pid", "slot"))
    seen = meter.read({pid: _gpu_of(slot) for _, _, pid, slot in running if pid is not None})
    samples = [
        ResourceSample(job_id=job, attempt=number, **seen[pid])
        for job, number, pid, _ in running
        if pid in seen
    ]
    ResourceSample.objects.bulk_create(samples)
    return len(samples)


def fold_resources() -> int:
    """Put the samples of a minute that are older than an hour together; return how many rows went."""
    old = ResourceSample.objects.filter(span_seconds=0, at__lt=in_seconds(-FOLD_AFTER_SECONDS))
    with transaction.atomic():
        rows = list(old.order_by("at")[:MOST_FOLDED])
        minutes: dict[tuple[int, int, int], list[ResourceSample]] = defaultdict(list)
        for row in rows:
            minutes[row.job_id, row.attempt, int(row.at.timestamp() // FOLDED_SECONDS)].append(row)
        ResourceSample.objects.bulk_create([_mean(together) for together in minutes.values()])
        ResourceSample.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows) - len(minutes)


def _mean(rows: list[ResourceSample]) -> ResourceSample:
    values = {}
    for name in ResourceSample.VALUES:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        values[name] = sum(known) / len(known) if known else None
    first = rows[0]
    return ResourceSample(
        job_id=first.job_id, attempt=first.attempt, at=first.at, span_seconds=FOLDED_SECONDS, **values
    )


def _gpu_of(slot: int) -> int | str | None:
    return settings.GPUS[slot] if slot < len(settings.GPUS) else None
