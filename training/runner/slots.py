"""What a process does that was woken: it takes a slot of this host, claims the best job, and the next."""

from __future__ import annotations

import os
import threading
from enum import StrEnum
from functools import lru_cache

from django.conf import settings
from setproctitle import setproctitle

from training import host, services
from training.models import Node
from training.runner.attempt import Supervision
from training.runner.context import AttemptContext
from training.runner.database_retry import with_own_connection


class Found(StrEnum):
    """What there was for a process that was woken."""

    WORK = "work"
    NOTHING = "nothing"
    NO_SLOT = "no slot"


def run_jobs() -> Found:
    """Take the best queued job, and the next, until none waits."""
    found = Found.NOTHING
    with host.stop_signals.at_work():
        while not host.stop_signals.must_leave():
            node = Node.objects.get(name=settings.NODE_NAME)
            with host.hold_free_slot() as slot:
                if slot is None:
                    return Found.NO_SLOT
                last = _run_in(node, slot)
            if last is not None:
                found = Found.WORK
                last.tidy_up()
            # One that came while the slot was held woke somebody who found no slot.
            if not services.jobs_for(node).exists():
                break
    return found


def _run_in(node: Node, slot: int) -> Supervision | None:
    """Run jobs in a slot of the node, which was just read.

    Returns the attempt that still has to be tidied up after: the slot need not wait for that.
    """
    pid, last = os.getpid(), None
    while not host.stop_signals.must_leave():
        born_at = _born_at(pid)
        attempt = services.claim(node, slot=slot, pid=pid, pid_started_at=born_at, is_just_read=last is None)
        if attempt is None:
            break
        if last is not None:
            threading.Thread(target=with_own_connection, args=(last.tidy_up,), name="tidy").start()
        setproctitle(f"heimdall supervisor slot {slot} job {attempt.job_id}")
        last = Supervision(AttemptContext(attempt, slot))
        last.run()
        setproctitle(f"heimdall supervisor slot {slot}")
    return last


@lru_cache(maxsize=1)
def _born_at(pid: int) -> float:
    """When this process started: asked once, not while a job waits."""
    return host.started_at(pid)
