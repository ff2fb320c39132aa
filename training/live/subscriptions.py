"""Who subscribes to which jobs in this web process, and how subscribers are woken.

A subscriber is woken, never told: it then reads the database beyond what it has. So a wake-up that is lost, doubled
or late does no harm, and nothing that writes ever waits for somebody who listens.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from typing import Protocol

from training.live.tailer import Changes, Tailer


class Subscriber(Protocol):
    """Somebody who wants to know. Called in the event loop; returns at once."""

    def wake(self, changes: Changes) -> None: ...


class Subscriptions:
    """The subscribers of one event loop, by the jobs they follow. The tailer runs while there is one."""

    def __init__(self) -> None:
        self._by_job: dict[int, set[Subscriber]] = {}
        self._for_new: set[Subscriber] = set()
        self._ticks: dict[int, int] = {}
        self._tailer: Tailer | None = None
        self._num_ticks = 0
        self.num_wakes = 0

    def follow(self, subscriber: Subscriber, jobs: Iterable[int], *, new: bool = False) -> None:
        """Wake the subscriber when one of the jobs changes or goes, and with `new` when jobs are added.

        It is also woken once soon for every job that nobody followed so far: nothing falls between its first read
        and the tailer's first look.
        """
        for job in jobs:
            if job not in self._by_job:
                self._by_job[job] = set()
                self._tick(job)
            self._by_job[job].add(subscriber)
        if new:
            self._for_new.add(subscriber)
        self._update_tailer()

    def unfollow(self, subscriber: Subscriber, jobs: Iterable[int], *, new: bool = False) -> None:
        for job in jobs:
            subscribers = self._by_job.get(job, set())
            subscribers.discard(subscriber)
            if not subscribers:
                self._by_job.pop(job, None)
                self._ticks.pop(job, None)
        if new:
            self._for_new.discard(subscriber)
        self._update_tailer()

    def tick(self, job: int) -> int:
        """Another number after every change of a followed job: what was read at this tick may be shared."""
        return self._ticks.get(job, 0)

    @property
    def num_commits(self) -> int:
        """Goes up when the database was changed by anybody. 0 while nobody listens."""
        return self._tailer.num_commits if self._tailer else 0

    def wake(self, changes: Changes) -> None:
        self.num_wakes += 1
        subscribers = set(self._for_new) if changes.has_new else set()
        for job in changes.jobs:
            if job in self._by_job:
                self._tick(job)
                subscribers |= self._by_job[job]
        for subscriber in subscribers:
            subscriber.wake(changes)

    def _tick(self, job: int) -> None:
        self._num_ticks += 1
        self._ticks[job] = self._num_ticks

    def _update_tailer(self) -> None:
        if not self._by_job and not self._for_new:
            if self._tailer:
                self._tailer.stop()
                self._tailer = None
            return
        if self._tailer is None:
            self._tailer = Tailer(asyncio.get_running_loop(), self.wake)
            self._tailer.start()
        self._tailer.follow(frozenset(self._by_job), new=bool(self._for_new))


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Subscriptions] = weakref.WeakKeyDictionary()


def subscriptions() -> Subscriptions:
    """Those of the running event loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Subscriptions())
