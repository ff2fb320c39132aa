"""Which hosts may work for this installation, and what waits for them."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from training import checkpoints, queue
from training.errors import HeimdallError
from training.models import Installation, Node, TrainingJob
from training.services.attempts import claimable_jobs
from training.services.transition import in_seconds


class NotOurs(HeimdallError):
    """This host would work on another store, or with a database that cannot be shared."""

    code = "not_ours"


def join_installation() -> None:
    """Compare the store's mark with the database's; the first worker writes it down."""
    mark = checkpoints.store_id()
    with transaction.atomic():
        known = Installation.objects.select_for_update().first()
        if known is None:
            Installation.objects.create(store_id=mark)
        elif known.store_id != mark:
            raise NotOurs(
                "The store of checkpoints is not the one that this database belongs to "
                f"(its mark is {mark}, not {known.store_id}). Check HEIMDALL_DATA_DIR and DATABASE_URL."
            )
    if settings.SQLITE:
        _refuse_a_second_host()


def waiting_jobs() -> QuerySet[TrainingJob]:
    """Jobs that a supervisor could claim now, the best first."""
    return claimable_jobs().order_by("-priority", "queued_at", "id")


def wake(num_slots: int) -> int:
    """Send wake-ups for waiting jobs that so many slots could take and nobody was told of. Returns how many."""
    missing = min(num_slots, waiting_jobs().count()) - queue.num_waiting()
    for _ in range(missing):
        queue.wake()
    return max(missing, 0)


def _refuse_a_second_host() -> None:
    """SQLite cannot be shared between hosts: its locks and its journal stand on one kernel."""
    recent = in_seconds(-max(60.0, 3 * settings.HEARTBEAT_SECONDS))
    others = Node.objects.filter(last_seen_at__gt=recent).exclude(name=settings.NODE_NAME)
    other = others.first()
    if other:
        raise NotOurs(
            f"Host {other.name} works with this SQLite database, and SQLite serves one host. "
            "Use PostgreSQL (DATABASE_URL), or stop the other worker and wait a minute."
        )
