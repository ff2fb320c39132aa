"""django-q2's cluster, as the worker starts it: a process tree in which nobody outlives its parent.

Its root is django-q2's sentinel. (Its `Cluster` is one process more, which only waits for the sentinel.)
"""

from __future__ import annotations

import os
import select
import signal
import threading
import uuid
from contextlib import suppress
from importlib import import_module
from typing import Any

from django.db import connections
from django.utils.module_loading import import_string
from django_q.signals import post_spawn
from setproctitle import setproctitle

from heimdall.processes import die_with_parent, share_memory
from training import host

WARM_UP = "training.worker.tasks.warm_up"


class ClusterStop:
    """Set by a signal and waited for by the sentinel, in the same thread.

    It has no lock, as an Event has: the code that a signal interrupts could hold it.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def set(self, *_: object) -> None:
        with suppress(BlockingIOError):  # set so often that the pipe is full
            os.write(self._writer, b".")

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self._reader], [], [], seconds)[0])


def preload() -> None:
    """Import what each process of a cluster would import by itself."""
    import_module("django_q.cluster")
    import_string(WARM_UP)


def run_cluster(worker: int) -> None:
    """Be the cluster of the worker with this pid, until the worker or a signal ends it."""
    from django_q.cluster import Sentinel

    die_with_parent(worker)
    setproctitle("heimdall cluster")
    os.register_at_fork(before=_note_parent, after_in_child=_be_a_child)
    post_spawn.connect(_prepare_supervisor, dispatch_uid="heimdall.queue")
    connections.close_all()
    share_memory()  # and none of the processes stops to look for garbage while a job waits
    stop = ClusterStop()
    sentinel = Sentinel(stop, threading.Event(), uuid.uuid4(), start=False)
    signal.signal(signal.SIGTERM, stop.set)
    sentinel.start()


def _note_parent() -> None:
    global _forked_by
    _forked_by = os.getpid()


def _be_a_child() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(_forked_by)  # each fork clears the request


_forked_by = 0


def _prepare_supervisor(**_: Any) -> None:
    host.stop_signals.install()
    die_with_parent(os.getppid(), signal.SIGUSR1)
    import_string(WARM_UP)()
