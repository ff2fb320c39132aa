"""What this web process measured itself: how long requests took, and how late changes were noticed.

Each web process counts for itself, from its start; Prometheus asks each of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware
from prometheus_client import CollectorRegistry, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
registry = CollectorRegistry()
_requests = Histogram(
    "heimdall_request_seconds",
    "Time from a request to its answer, by the name of its address.",
    ["method", "route", "status"],
    buckets=BUCKETS,
    registry=registry,
)
_push_lag = Histogram(
    "heimdall_push_lag_seconds",
    "Time from a change of a followed job to this process noticing it.",
    buckets=BUCKETS,
    registry=registry,
)
_METHODS = {"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"}


def note_push_lag(seconds: float) -> None:
    _push_lag.observe(max(seconds, 0.0))


@sync_and_async_middleware
def measure(get_response: Callable[[HttpRequest], HttpResponse]):
    """The middleware. Addresses are counted by name: a path would make a series for each job."""

    def note(request: HttpRequest, response: HttpResponse, began: float) -> HttpResponse:
        match = request.resolver_match
        route = (match.view_name or match.route) if match else "nowhere"
        method = request.method if request.method in _METHODS else "other"
        status = f"{response.status_code // 100}xx"
        _requests.labels(method, route, status).observe(time.perf_counter() - began)
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            began = time.perf_counter()
            return note(request, await get_response(request), began)
    else:

        def middleware(request):
            began = time.perf_counter()
            return note(request, get_response(request), began)

    return middleware
