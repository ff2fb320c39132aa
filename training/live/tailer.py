"""One thread a web process that notices changes of the database, whoever made them, and says of which jobs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import Error, connection
from django.db.models.functions import Now

from heimdall.site.latencies import note_push_lag
from training.models import TrainingJob
from training.queue import commits

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.05  # for a sign of change, at a time
POLL_SQLITE_SECONDS = 0.01  # for a sign
FOLD_SECONDS = 0.02  # at least, between two looks
FULL_LOOK_SECONDS = 2.0  # a look though no sign came
AGAIN_SECONDS = 1.0  # a second wake after a change: two commits within one millisecond look like one
RETRY_SECONDS = 1.0
IDS_A_QUERY = 500
LATE_NUMBERS = 20  # so many jobs may be on their way into PostgreSQL at a time


@dataclass(frozen=True)
class Changes:
    """What one look found. `jobs` gives each changed job's newest event number; None where the job is gone."""

    jobs: dict[int, int | None] = field(default_factory=dict)
    has_new: bool = False

    def __bool__(self) -> bool:
        return bool(self.jobs) or self.has_new


class Tailer:
    """Looks, compares with what it saw before, and hands the difference to the event loop.

    Each job is compared by (event_seq, updated_at), which every write of a job changes. Nothing rests on the
    order or on the clock of updated_at: a clock that is set back hides no change.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_changes: Callable[[Changes], None]) -> None:
        self._loop, self._on_changes = loop, on_changes
        self._stopped = threading.Event()
        self._followed: frozenset[int] = frozenset()
        self._follows_new = False
        self._is_asked = False
        self._seen: dict[int, tuple[int, Any] | None] = {}
        self._newest: tuple[int, ...] | None = None
        self._again: dict[int, float] = {}
        self._num_failures = 0
        self.num_commits = 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="tailer", daemon=True).start()

    def stop(self) -> None:
        """Returns at once; the thread ends soon and takes its connections with it."""
        self._stopped.set()

    def follow(self, jobs: frozenset[int], *, new: bool) -> None:
        self._followed, self._follows_new = jobs, new
        self._is_asked = True

    def _run(self) -> None:
        self._listener = commits.listen_to(commits.JOBS, poll_seconds=POLL_SQLITE_SECONDS)
        try:
            while not self._stopped.is_set():
                self._guarded(self._watch)
        finally:
            self._listener.close()
            connection.close()

    def _watch(self) -> None:
        """1. wait for a sign of change, a full look that is due, or another set of jobs  2. look  3. tell."""
        listener = self._listener
        next_full_look = 0.0
        while not self._stopped.is_set():
            has_moved = listener.wait(WAIT_SECONDS)
            now = time.monotonic()
            is_full = now >= next_full_look
            # What else was written, such as logins, is not heard of everywhere.
            self.num_commits += has_moved or (is_full and not listener.sees_every_commit)
            due = {job for job, at in self._again.items() if at <= now}
            if not (has_moved or due or self._is_asked or is_full):
                continue
            self._is_asked = False
            next_full_look = now + FULL_LOOK_SECONDS
            changes = self._look(due)
            self._num_failures = 0
            if changes:
                self._publish(changes)
            self._stopped.wait(FOLD_SECONDS)

    def _look(self, due: set[int]) -> Changes:
        followed, now = self._followed, time.monotonic()
        rows, ages = _fingerprints(followed)
        jobs: dict[int, int | None] = {}
        for job in followed:
            row = rows.get(job)
            if job not in self._seen or self._seen[job] != row:
                self._again[job] = now + AGAIN_SECONDS
                if row and job in self._seen:
                    note_push_lag(ages[job])
            elif job in due:
                del self._again[job]
            else:
                continue
            jobs[job] = row[0] if row else None
        self._seen = {job: rows.get(job) for job in followed}
        self._again = {job: at for job, at in self._again.items() if job in followed}
        return Changes(jobs, self._has_new())

    def _has_new(self) -> bool:
        """Compares the last few numbers, for a job may be committed after one with a greater number."""
        if not self._follows_new:
            self._newest = None
            return False
        numbers = TrainingJob.objects.order_by("-pk").values_list("pk", flat=True)
        before, self._newest = self._newest, tuple(numbers[:LATE_NUMBERS])
        return self._newest != before

    def _publish(self, changes: Changes) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_changes, changes)
        except RuntimeError:  # the loop was closed under us
            self._stopped.set()

    def _guarded(self, watch: Callable[[], None]) -> None:
        """A database that cannot be read now is waited for; what changed meanwhile is found by the next look."""
        try:
            watch()
        except Error as error:
            connection.close()
            self._num_failures += 1
            if self._num_failures == 1:
                logger.warning("Live updates wait for the database: %s", error)
            self._stopped.wait(RETRY_SECONDS)
        except Exception:  # else all pages of this process would stand still until it is started again
            connection.close()
            logger.exception("Live updates failed; they are tried again.")
            self._stopped.wait(RETRY_SECONDS)


def _fingerprints(jobs: frozenset[int]) -> tuple[dict[int, tuple[int, Any]], dict[int, float]]:
    """Each job's fingerprint, and how many seconds ago it was changed, in the database's clock."""
    ids = sorted(jobs)
    rows: dict[int, tuple[int, Any]] = {}
    ages: dict[int, float] = {}
    for start in range(0, len(ids), IDS_A_QUERY):
        some = TrainingJob.objects.filter(pk__in=ids[start : start + IDS_A_QUERY])
        for pk, seq, moment, now in some.values_list("pk", "event_seq", "updated_at", Now()):
            rows[pk], ages[pk] = (seq, moment), (now - moment).total_seconds()
    return rows, ages
