"""Queue messages in Redis, where REDIS_URL names one: a worker gets them the moment they are sent, and asks the
database for none meanwhile.

Redis is a faster way and never the only one. While it does not answer, messages go through the database as if it were
not there. What it loses, the sweep wakes again.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django.conf import settings

from training.models import Installation

if TYPE_CHECKING:  # slow to import, and most installations have none
    from redis import Redis

logger = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 3.0
AWAY_SECONDS = 1.0  # how long Redis is left alone after it did not answer
LOG_AGAIN_SECONDS = 60.0  # that it is still away
MOST_MESSAGES = 10_000  # of one queue: more wake-ups than that say nothing more


class RedisUnavailable(Exception):
    """Redis does not answer now, or no worker has joined this installation yet."""


def put(key: str, payload: str) -> bool:
    """Append a message. False where that must be done elsewhere."""

    def push(client: Redis, name: str) -> None:
        client.pipeline(transaction=False).rpush(name, payload).ltrim(name, -MOST_MESSAGES, -1).execute()

    try:
        _ask(push, key)
    except RedisUnavailable:
        return False
    return True


def take(*keys: str, seconds: float) -> str | None:
    """The oldest message of the first queue that has one, waiting so long for one. Nobody else gets it."""
    found = _ask(lambda client, *names: client.blpop(list(names), timeout=seconds), *keys)
    return found[1].decode(errors="replace") if found else None


def waiting(key: str) -> list[str]:
    """The messages of a queue; none where Redis does not answer."""
    try:
        return [
            one.decode(errors="replace") for one in _ask(lambda client, name: client.lrange(name, 0, -1), key)
        ]
    except RedisUnavailable:
        return []


def count(key: str) -> int:
    try:
        return int(_ask(lambda client, name: client.llen(name), key))
    except RedisUnavailable:
        return 0


def clear(key: str) -> None:
    try:
        _ask(lambda client, name: client.delete(name), key)
    except RedisUnavailable:
        pass  # they are only messages


def _ask(question: Callable[..., T], *keys: str) -> T:
    import redis

    global _away_until
    if time.monotonic() < _away_until:
        raise RedisUnavailable
    names = [f"heimdall:{_installation()}:{key}" for key in keys]
    try:
        answer = question(_client(settings.REDIS_URL), *names)
    except (redis.RedisError, OSError) as error:
        _away_until = time.monotonic() + AWAY_SECONDS
        _log_that_it_is_away(error)
        raise RedisUnavailable from error
    _log_that_it_is_back()
    return answer


def _log_that_it_is_away(error: Exception) -> None:
    """Now and then: each process asks every second, and a log must stay readable."""
    global _logged_at
    if _logged_at is None or time.monotonic() - _logged_at >= LOG_AGAIN_SECONDS:
        _logged_at = time.monotonic()
        logger.warning("Redis does not answer, so messages go through the database: %s", error)


def _log_that_it_is_back() -> None:
    global _logged_at
    if _logged_at is not None:
        _logged_at = None
        logger.warning("Redis answers again.")


_away_until = 0.0
_logged_at: float | None = None


@functools.lru_cache
def _client(url: str) -> Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    once_more: Any = Retry(NoBackoff(), 1)  # on a fresh connection: Redis may have been restarted
    return Redis.from_url(
        url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS, retry=once_more
    )


def _installation() -> str:
    """Part of each name: several installations may share one Redis."""
    global _known
    _known = _known or Installation.objects.values_list("store_id", flat=True).first() or ""
    if not _known:
        raise RedisUnavailable
    return _known


_known = ""
