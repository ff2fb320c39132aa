"""What is counted in the database for /metrics: any web process gives the same answer, no restart forgets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Count
from django.db.models.functions import Now
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from training import placement
from training.lifecycle import Status
from training.models import WAIT_BUCKETS, Attempt, Installation, Node, TrainingJob


class InstallationFacts:
    """A collector of prometheus_client."""

    def collect(self) -> Iterator[Metric]:
        yield from _jobs()
        yield from _nodes()
        yield from _attempts()


def _jobs() -> Iterator[Metric]:
    jobs = GaugeMetricFamily("heimdall_jobs", "Jobs by status.", labels=["status"])
    counts = dict(TrainingJob.objects.order_by().values_list("status").annotate(Count("pk")))
    for status in Status:
        jobs.add_metric([str(status)], counts.get(str(status), 0))
    yield jobs
    oldest = placement.claimable_jobs().order_by("queued_at").values_list("queued_at", Now()).first()
    age = _seconds(*oldest) if oldest else 0.0
    yield GaugeMetricFamily(
        "heimdall_oldest_queued_age_seconds", "How long the oldest job waits that could run.", value=age
    )


def _nodes() -> Iterator[Metric]:
    ages = GaugeMetricFamily(
        "heimdall_node_heartbeat_age_seconds", "Time since a node was heard.", labels=["node"]
    )
    slots = GaugeMetricFamily("heimdall_node_slots", "Slots of a node.", labels=["node"])
    taken = GaugeMetricFamily("heimdall_node_slots_taken", "Slots that hold a job.", labels=["node"])
    busy = placement.busy_slots()
    nodes = Node.objects.annotate(now=Now()).values_list("pk", "name", "slots", "last_seen_at", "now")
    for pk, name, count, seen, now in nodes:
        if seen is not None:
            ages.add_metric([name], _seconds(seen, now))
        slots.add_metric([name], count)
        taken.add_metric([name], len(busy[pk]))
    yield from (ages, slots, taken)


def _attempts() -> Iterator[Metric]:
    bygone = Installation.objects.values_list("bygone", flat=True).first() or {}
    found: Counter[str] = Counter(Attempt.objects.all().counted())
    found.update(bygone)
    buckets = [(str(float(bucket)), found[f"wait_{bucket}"]) for bucket in WAIT_BUCKETS]
    yield HistogramMetricFamily(
        "heimdall_queue_wait_seconds",
        "Time that jobs waited for each of their attempts.",
        buckets=[*buckets, ("+Inf", found["waits"])],
        sum_value=found["waited_seconds"],
    )
    outcomes = CounterMetricFamily("heimdall_attempts", "Attempts that ended, by how.", labels=["outcome"])
    for outcome in ("land", "complete", "fail", "crash", "reap"):
        outcomes.add_metric([outcome], found[f"outcome_{outcome}"])
    yield outcomes
    yield CounterMetricFamily(
        "heimdall_checkpoints", "Checkpoints that were stored.", value=found["checkpoints"]
    )
    yield CounterMetricFamily(
        "heimdall_checkpoint_bytes", "Bytes of checkpoints that were stored.", value=found["checkpoint_bytes"]
    )
    yield CounterMetricFamily(
        "heimdall_checkpoint_seconds",
        "Seconds that it took to move checkpoints into the store.",
        value=found["checkpoint_seconds"],
    )


def _seconds(since: datetime | None, now: Any) -> float:
    return max((now - since).total_seconds(), 0.0) if since else 0.0
