"""How often one may ask: a sliding minute in the memory of this web process. No cache, no pickle, no disk.

Several web processes count each for themselves.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.throttling import BaseThrottle

from heimdall.site.env import parse_rate
from heimdall.site.proxies import client_address

_MOST_CLIENTS = 10_000


class Window:
    """Counts what each client did within the last period. Remembers a bounded number of clients."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, client: str, rate: tuple[int, float]) -> float:
        """Count one more for the client: 0.0 if it fits, else the seconds until it would."""
        most, period = rate
        now = time.monotonic()
        with self._lock:
            times = self._seen.pop(client, None) or deque()
            self._seen[client] = times  # last: the client that was seen longest ago is forgotten first
            while times and times[0] <= now - period:
                times.popleft()
            if len(times) >= most:
                return times[0] + period - now
            times.append(now)
            while len(self._seen) > _MOST_CLIENTS:
                self._seen.pop(next(iter(self._seen)))
            return 0.0

    def left(self, client: str, rate: tuple[int, float]) -> tuple[int, float]:
        """How many more fit now, and the seconds until there is room for one more than that."""
        most, period = rate
        now = time.monotonic()
        with self._lock:
            times = [at for at in self._seen.get(client, ()) if at > now - period]
        return max(0, most - len(times)), (times[0] + period - now) if times else 0.0

    def forget(self) -> None:
        with self._lock:
            self._seen.clear()


verbs = Window()
reports = Window()
logins = Window()
strangers = Window()
_OF_STRANGERS = (120, 60.0)  # a certificate of a long training is some work


class VerbThrottle(BaseThrottle):
    """For the verbs and for submitting, per user."""

    _wait: float = 0.0

    def allow_request(self, request: Any, view: Any) -> bool:
        self._wait = verbs.take(f"user {request.user.pk}", _rate("verbs"))
        return self._wait == 0.0

    def wait(self) -> float:
        return self._wait


class ReportThrottle(VerbThrottle):
    """For what trainings report that run somewhere else, per user: as often, and counted for itself."""

    def allow_request(self, request: Any, view: Any) -> bool:
        self._wait = reports.take(f"user {request.user.pk}", _rate("verbs"))
        return self._wait == 0.0


def limit_headers(user: Any) -> dict[str, str]:
    """RateLimit-*, as programs read them: how many in all, how many are left, and in how many seconds more are."""
    rate = _rate("verbs")
    left, seconds = verbs.left(f"user {user.pk}", rate)
    return {
        "RateLimit-Limit": str(rate[0]),
        "RateLimit-Remaining": str(left),
        "RateLimit-Reset": str(math.ceil(seconds)),
    }


def throttle_verbs(view: Callable[..., Any]) -> Callable[..., Any]:
    """The same bound for what pages and admin are asked to do; reading goes on."""

    @wraps(view)
    def throttled(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        wait = 0.0
        if request.method == "POST" and request.user.is_authenticated:
            wait = verbs.take(f"user {request.user.pk}", _rate("verbs"))
        return _too_many("Too many requests.", wait) if wait else view(request, *args, **kwargs)

    return throttled


def throttle_login(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Bound how often passwords may be tried from one address."""

    @wraps(view)
    def throttled(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        wait = logins.take(_address(request), _rate("login")) if request.method == "POST" else 0.0
        return _too_many("Too many attempts to log in.", wait) if wait else view(request, *args, **kwargs)

    return throttled


def throttle_strangers(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Bound how often one address may ask for what needs no login."""

    @wraps(view)
    def throttled(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        wait = strangers.take(_address(request), _OF_STRANGERS)
        return _too_many("Too many requests.", wait) if wait else view(request, *args, **kwargs)

    return throttled


def _too_many(sentence: str, wait: float) -> HttpResponse:
    seconds = max(1, round(wait))
    return HttpResponse(
        f"{sentence} Try again in {seconds} s.",
        status=429,
        content_type="text/plain; charset=utf-8",
        headers={"Retry-After": str(seconds)},
    )


def _address(request: HttpRequest) -> str:
    return client_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


def _rate(scope: str) -> tuple[int, float]:
    return parse_rate(settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"][scope])
