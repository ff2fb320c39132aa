"""What deleted attempts had counted is kept, so that no counter of /metrics ever falls.

Counters are sums over all attempts. Attempts go with their job when it is deleted; what they had counted stays in the
installation's row.
"""

from __future__ import annotations

from training.models import Attempt, Installation


def keep_counts(job_id: int) -> None:
    """Remember what the job's attempts counted, in the transaction that deletes them."""
    installation = Installation.objects.select_for_update().first()
    if installation is None:
        return  # no worker ever joined
    for name, count in Attempt.objects.filter(job_id=job_id).counted().items():
        installation.bygone[name] = installation.bygone.get(name, 0) + count
    installation.save(update_fields=["bygone"])
