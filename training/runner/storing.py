"""Staged files and shards on their way into their stores, one after the other, in a thread: it holds up nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from django.conf import settings

from heimdall.failpoints import failpoint
from heimdall.trainer.protocol import StagedCheckpoint, StagedShard
from training.errors import StorageUnavailable
from training.models import Attempt
from training.store import checkpoints, datasets
from training.store.checkpoints import StoredCheckpoint
from training.store.datasets import StoredShard

P = ParamSpec("P")
T = TypeVar("T")

ENDINGS = frozenset({"pause", "final"})  # kinds of checkpoints that an attempt ends with
LONGEST_DELAY_SECONDS = 30.0  # between two tries


@dataclass(frozen=True)
class LeftOut:
    """A staged checkpoint that is not stored: newer ones wait for the store."""

    staged: StagedCheckpoint


class Storing:
    def __init__(self, attempt: Attempt):
        self._attempt = attempt
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storing")
        self._waiting: deque[StagedCheckpoint | StagedShard] = deque()
        self._future: Future[StoredCheckpoint | StoredShard] | None = None
        self._retry_at = 0.0
        self.failures = 0
        self.error = ""
        self.when_done: Callable[[], None] = lambda: None
        """Called, in any thread, when there is something to advance."""

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def add(self, staged: StagedCheckpoint | StagedShard) -> None:
        self._waiting.append(staged)

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._thread.submit(work, *args, **kwargs)

    def advance(self) -> StoredCheckpoint | StoredShard | LeftOut | None:
        """The next file that is done with, if there is one; the one after it is on its way then. Never waits."""
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            try:
                stored = future.result()
            except StorageUnavailable as error:
                self._wait_longer(error)
            else:
                self.failures, self.error = 0, ""
                self._waiting.popleft()
                return stored
        if (left_out := self._to_be_left_out()) is not None:
            self._waiting.remove(left_out)
            return LeftOut(left_out)
        if self._future is None and self._waiting and time.monotonic() >= self._retry_at:
            self._future = self.submit(_store, self._waiting[0], self._attempt)
            self._future.add_done_callback(lambda _: self.when_done())
        return None

    def _wait_longer(self, error: StorageUnavailable) -> None:
        self.failures += 1
        self.error = str(error)
        delay = 0.5 * 2 ** min(self.failures, 10)  # however many days it has been away
        self._retry_at = time.monotonic() + min(delay, LONGEST_DELAY_SECONDS)

    def _to_be_left_out(self) -> StagedCheckpoint | None:
        """The checkpoint that goes, where more wait than the staging folder may hold, or an end waits behind it.

        The oldest, and a best one only after all others; never the newest, the newest that ends the attempt (one
        before it was withdrawn), or the one that is just being stored.
        """
        staged = [one for one in self._waiting if isinstance(one, StagedCheckpoint)]
        endings = [one for one in staged if ENDINGS & set(one.kinds)]
        is_full = len(staged) > settings.STAGING_MAX_FILES or _gigabytes(staged) > settings.STAGING_MAX_GB
        if not is_full and not (endings and self.failures):
            return None
        kept = [*staged[-1:], *endings[-1:], *([self._waiting[0]] if self._future else [])]
        may_go = [one for one in staged if one not in kept]
        return min(may_go, key=lambda one: "best" in one.kinds, default=None)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _gigabytes(staged: list[StagedCheckpoint]) -> float:
    return sum(one.size for one in staged) / 1e9


def _store(staged: StagedCheckpoint | StagedShard, attempt: Attempt) -> StoredCheckpoint | StoredShard:
    failpoint("before_upload")
    match staged:
        case StagedShard():
            stored: StoredCheckpoint | StoredShard = _store_shard(staged, attempt)
        case StagedCheckpoint():
            stored = _store_checkpoint(staged, attempt)
    failpoint("after_upload")
    return stored


def _store_shard(staged: StagedShard, attempt: Attempt) -> StoredShard:
    name = attempt.job.dataset.name if attempt.job.dataset else str(attempt.job_id)
    return datasets.store(staged, dataset=name, job_id=attempt.job_id, attempt=attempt.number)


def _store_checkpoint(staged: StagedCheckpoint, attempt: Attempt) -> StoredCheckpoint:
    began = time.monotonic()
    stored = checkpoints.store(staged, job_id=attempt.job_id, attempt=attempt.number)
    return replace(stored, seconds=time.monotonic() - began)
