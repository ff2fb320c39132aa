"""What django-q2 takes messages from where REDIS_URL is set."""

from __future__ import annotations

import time

from training.queue import Broker, own_key, redis_queue

WAIT_SECONDS = 1.0  # for a message; a cluster that is told to stop notices it after this


class RedisBroker(Broker):
    """Takes from Redis the moment a message comes, and between two waits from the database: what was sent while
    Redis did not answer lies there."""

    def next(self) -> list[tuple[int, str]]:
        # However busy Redis is: what lies in the database has its turn.
        if time.monotonic() >= self._look_at and (taken := self.look()):
            return taken
        try:
            message = redis_queue.take(own_key(), self.list_key, seconds=WAIT_SECONDS)
        except redis_queue.Away:
            return super().next()
        return [(0, message)] if message is not None else self.look()

    def queue_size(self) -> int:
        return super().queue_size() + redis_queue.count(self.list_key)
