"""The list among many jobs and the page of a job with many steps, as a person opens them: wall time of a request.

`python -m bench.pages JOBS STEPS` fills the database it is given (DATABASE_URL) and prints milliseconds as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROWS = 10_000  # of metrics that are written at a time
ASKS = 7


def main(jobs: int, steps: int) -> None:
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client

    from bench.jobs import make

    make(jobs)
    long = fill(steps)
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(username="root"))
    addresses = {
        "list": "/",
        "page": f"/jobs/{long}/",
        "curve": f"/v1/training/jobs/{long}/curve",
        "part of the curve": f"/v1/training/jobs/{long}/curve?from={steps // 2}&to={steps // 2 + steps // 20}",
    }
    print(json.dumps({name: ask(client.get, address) for name, address in addresses.items()}))


def fill(steps: int) -> int:
    """Give the newest job so many steps, folded as they are when a trainer tells of them. Returns its number."""
    from training.models import Metric, TrainingJob
    from training.services.metrics import fold_metrics

    job = TrainingJob.objects.order_by("-pk")[0]
    for first in range(1, steps + 1, ROWS):
        last = min(first + ROWS - 1, steps)
        Metric.objects.bulk_create(
            Metric(
                job=job,
                step=step,
                epoch=step // 1000 + 1,
                attempt=1,
                values={"loss": 1 + step % 97 / step, "learning_rate": 0.001},
                epoch_values={"val_loss": 1 + 1 / step} if step % 1000 == 0 else None,
            )
            for step in range(first, last + 1)
        )
        fold_metrics(job, first, last)
    TrainingJob.objects.filter(pk=job.pk).update(current_step=steps, total_steps=steps)
    return job.pk


def ask(get: Callable[[str], Any], address: str) -> float:
    """The median; the first request, which imports and compiles, does not count."""
    times = []
    for _ in range(ASKS + 1):
        start = time.perf_counter()
        answer = get(address)
        assert answer.status_code == 200, (address, answer.status_code)
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[1:]), 1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
