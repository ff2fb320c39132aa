"""The list of jobs: Heimdall's answer beside the one that stock DRF makes of the same rows, by CPU time.

`python -m bench.reads answer` reads the database that it is given (DATABASE_URL): told a list and a person on a line,
it prints milliseconds as JSON. Several take turns, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

MIDDLE = "the middle"  # from a cursor here; by the number of the page there
QUERIES = {
    "newest": "",
    "the middle": MIDDLE,
    "completed": "?status=completed",
    "two states": "?status=completed,failed",
    "recipe": "?recipe=localization",
    "recipe, completed": "?recipe=localization&status=completed",
    "by name": "?ordering=job_name",
    "last changed": "?ordering=-updated_at",
    "best of completed": "?status=completed&ordering=best_val_loss",
    "search, a hundred": "?search=elevation",
    "search, one": "?search=azimuth",
    "search, all": "?search=beam",
    "search, none": "?search=nowhere",
}
COLUMNS = {
    "one rate": "?config.learning_rate=0.05",
    "rates below": "?config.learning_rate__lt=0.005",
    "rates in reach": "?where=config.learning_rate>0.01&where=config.learning_rate<=0.09",
    "one rule, completed": "?config.optimizer=sgd&status=completed",
    "error below, completed": "?metric.val_rmse__lt=0.5&status=completed",
    "error far below": "?lowest.val_rmse__lt=0.0005",
    "by error": "?ordering=metric.val_rmse",
    "by lowest error of completed": "?status=completed&ordering=-lowest.val_rmse",
    "by rate, one rule": "?config.optimizer=sgd&ordering=config.learning_rate",
}
PEOPLE = {"root": "administrator", "alice": "owner of a third", "bob": "team member"}
ROUNDS, SECONDS = 8, 0.03  # of one list in one process, before another one takes its turn
LEAST = 2  # times that each request is made in a round


def main(arguments: list[str]) -> None:
    import django

    django.setup()
    if arguments[0] == "make":
        from bench.jobs import make

        make(int(arguments[1]))
        return
    for line in sys.stdin:
        query, person = json.loads(line)
        print(json.dumps(measure(person, (QUERIES | COLUMNS)[query], arguments[1:] == ["stock"])), flush=True)


def measure(person: str, query: str, beside_stock: bool) -> dict[str, list[float]]:
    """Milliseconds of CPU of each request of a round: ours, and where it is wanted stock DRF's in turn."""
    calls = _calls(person, query, beside_stock)
    times: dict[str, list[float]] = {name: [] for name in calls}
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or len(times["ours"]) < LEAST:
        for name in (*calls, *reversed(calls)):
            start = time.process_time()
            calls[name]()
            times[name].append(1000 * (time.process_time() - start))
    return times


@cache
def _calls(person: str, query: str, beside_stock: bool) -> dict[str, Callable[[], Any]]:
    from bench.stock import StockJobs
    from training.api.jobs import JobListView

    ours_query, stock_query = middle(person) if query == MIDDLE else (query, query)
    calls = {"ours": caller(JobListView, person, ours_query)}
    if beside_stock:
        calls["stock"] = caller(StockJobs, person, stock_query)
        assert _shown(calls["ours"]) == _shown(calls["stock"]), f"not the same answer: {query} for {person}"
    calls["ours"]()  # the first one also pays for statements that are made once
    return calls


def _shown(call: Callable[[], Any]) -> Any:
    """What both must answer alike: the jobs in their order, and how many there are."""
    answer = json.loads(call().content)
    return answer["results"], answer["count"]


def middle(person: str) -> tuple[str, str]:
    """The page half-way down what the person can see."""
    from django.contrib.auth.models import User

    from training import policy
    from training.queries.keyset import CursorPosition

    visible = (
        policy.visible_jobs(User.objects.get(username=person)).order_by("-pk").values_list("pk", flat=True)
    )
    number = visible.count() // 100 + 1
    start = visible[(number - 1) * 50]
    return f"?cursor={CursorPosition('-id', start + 1, start + 1).as_text()}", f"?page={number}"


def caller(view: Any, person: str, query: str) -> Callable[[], Any]:
    from django.contrib.auth.models import User
    from rest_framework.test import APIRequestFactory

    from tests.support.tokens import token_of

    token = token_of(User.objects.get(username=person))
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
