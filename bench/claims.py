"""What a claim costs while many jobs wait: `python -m bench.claims`, on the database that it is given.

Each is done in a transaction that is rolled back, so that all find the same queue.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

FEW, MANY = 100, 100_000
CLAIMS = 40


def main() -> dict[str, dict[str, float]]:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db.models.functions import Now

    from training.models import Node

    call_command("migrate", verbosity=0)
    owner = User.objects.create(username="alice")
    node = Node.objects.create(name="node", slots=8, last_seen_at=Now())
    node.refresh_from_db()
    found: dict[str, dict[str, float]] = {}
    for name, size in (("few", FEW), ("many", MANY)):
        _queue(owner, size)
        for what, milliseconds in _measured(owner, node).items():
            found.setdefault(what, {})[name] = milliseconds
    return found


def _queue(owner, size: int) -> None:
    """So many jobs of one device wait."""
    from training.models import TrainingJob

    have = TrainingJob.objects.count()
    jobs = (TrainingJob(job_name="a job", recipe="demo", config={}, owner=owner) for _ in range(size - have))
    TrainingJob.objects.bulk_create(jobs, batch_size=5_000)


def _measured(owner, node) -> dict[str, float]:
    """Milliseconds of a claim: without a gang, of one that fits, and of what fills the gap of one that does not."""
    from training.models import Attempt, TrainingJob

    gang = {
        "job_name": "a gang",
        "recipe": "demo",
        "config": {},
        "owner": owner,
        "is_gang": True,
        "priority": 1,
    }
    found = {"a job of one device": _median(node)}
    fits = TrainingJob.objects.create(fewest_devices=4, most_devices=4, **gang)
    found["a job of four devices"] = _median(node)
    fits.delete()
    runs = TrainingJob.objects.filter(is_gang=False).latest("pk")
    Attempt.objects.create(job=runs, number=1, node=node, node_name=node.name, slot=7)
    waits = TrainingJob.objects.create(fewest_devices=8, most_devices=8, **gang)
    found["a job beside one of eight devices that waits"] = _median(node)
    waits.delete()
    Attempt.objects.all().delete()
    return found


def _median(node) -> float:
    from django.db import transaction

    from training import services

    def once() -> float:
        with transaction.atomic():
            began = time.perf_counter()
            attempt = services.claim(node, slot=0, pid=1, is_just_read=True)
            took = time.perf_counter() - began
            transaction.set_rollback(True)
        assert attempt is not None
        return 1000 * took

    return _middle(once)


def _middle(once: Callable[[], float]) -> float:
    once()
    return statistics.median(once() for _ in range(CLAIMS))


if __name__ == "__main__":
    print(json.dumps(main()))
