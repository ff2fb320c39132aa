"""The list of jobs: Heimdall's answer beside the one that stock DRF makes of the same rows, by CPU time.

`python -m bench.reads` reads the database it is given (DATABASE_URL) and prints milliseconds as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

MIDDLE = "the middle"  # from a cursor here; by the number of the page there
QUERIES = {
    "newest": "",
    "the middle": MIDDLE,
    "completed": "?status=completed",
    "two states": "?status=completed,failed",
    "queued": "?status=queued",
    "recipe": "?recipe=localization",
    "owner": "?owner=carol",
    "recipe, completed": "?recipe=localization&status=completed",
    "by name": "?ordering=job_name",
    "last changed": "?ordering=-updated_at",
    "best of completed": "?status=completed&ordering=best_val_loss",
    "search, 0.1 %": "?search=elevation",
    "search, all": "?search=beam",
    "search, none": "?search=nowhere",
    "search, last changed": "?search=beam&ordering=-updated_at",
}
PEOPLE = ("root", "alice", "bob", "carol")


def main(arguments: list[str]) -> None:
    import django

    django.setup()
    from bench.jobs import make

    if arguments[:1] == ["make"]:
        make(int(arguments[1]))
        return
    seconds = float(arguments[0]) if arguments else 1.0
    only = arguments[1:]
    found: dict[str, Any] = {}
    for name, query in QUERIES.items():
        if not only or name in only:
            found[name] = {person: measure(person, query, seconds) for person in PEOPLE}
    print(json.dumps(found))


def measure(person: str, query: str, seconds: float) -> dict[str, float]:
    """Milliseconds of CPU a request, ours and stock, in turn."""
    from bench.stock import StockJobs
    from training.api.views import Jobs

    ours_query, stock_query = middle(person) if query == MIDDLE else (query, query)
    ours, stock = caller(Jobs, person, ours_query), caller(StockJobs, person, stock_query)
    times: dict[str, list[float]] = {"ours": [], "stock": []}
    until = time.monotonic() + seconds
    ours(), stock()
    while time.monotonic() < until or len(times["ours"]) < 3:
        for name, call in (("ours", ours), ("stock", stock), ("stock", stock), ("ours", ours)):
            start = time.process_time()
            call()
            times[name].append(1000 * (time.process_time() - start))
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def middle(person: str) -> tuple[str, str]:
    """The page half-way down what the person can see."""
    from django.contrib.auth.models import User

    from training import policy
    from training.queries.cursor import Place

    visible = (
        policy.visible_jobs(User.objects.get(username=person)).order_by("-pk").values_list("pk", flat=True)
    )
    number = visible.count() // 100 + 1
    start = visible[(number - 1) * 50]
    return f"?cursor={Place('-id', start + 1, start + 1).as_text()}", f"?page={number}"


def caller(view: Any, person: str, query: str) -> Callable[[], Any]:
    from rest_framework.authtoken.models import Token
    from rest_framework.test import APIRequestFactory

    token = Token.objects.get(user__username=person).key
    factory, call = APIRequestFactory(), view.as_view()

    def ask() -> Any:
        request = factory.get(
            f"/v1/training/jobs{query}", SERVER_NAME="localhost", HTTP_AUTHORIZATION=f"Token {token}"
        )
        response = call(request)
        response.render()
        assert response.status_code == 200, response.content
        return response

    return ask


if __name__ == "__main__":
    main(sys.argv[1:])
