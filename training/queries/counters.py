"""What attempts add to the counters of /metrics.

Counters are sums over all attempts. Attempts go with their job when it is deleted; what they had counted is kept in
the installation's row, so that no counter ever falls.
"""

from __future__ import annotations

from django.db.models import Count, Q, QuerySet, Sum

from training.models import Attempt, Installation

WAIT_BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)
_SUMS = ("waited_seconds", "checkpoints", "checkpoint_bytes", "checkpoint_seconds")


def counted(attempts: QuerySet[Attempt]) -> dict[str, float]:
    """What these attempts add to the counters, by a name for each."""
    steps = {f"wait_{bucket}": Count("pk", filter=Q(waited_seconds__lte=bucket)) for bucket in WAIT_BUCKETS}
    sums = {name: Sum(name, default=0) for name in _SUMS}
    found = attempts.aggregate(waits=Count("waited_seconds"), **steps, **sums)
    ended = attempts.exclude(outcome="").order_by().values_list("outcome").annotate(count=Count("pk"))
    return found | {f"outcome_{outcome}": count for outcome, count in ended}


def keep(attempts: QuerySet[Attempt]) -> None:
    """Remember what these attempts counted, in the transaction that deletes them."""
    installation = Installation.objects.select_for_update().first()
    if installation is None:
        return  # no worker ever joined
    for name, count in counted(attempts).items():
        installation.bygone[name] = installation.bygone.get(name, 0) + count
    installation.save(update_fields=["bygone"])
