"""django-q2's cluster, as the worker starts it: a process tree in which nobody outlives its parent."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.db import connections
from django.utils.module_loading import import_string
from django_q.signals import post_spawn

from heimdall.processes import die_with_parent, share_memory
from training import host

WARM_UP = "training.worker.tasks.warm_up"


def run_cluster(worker: int) -> None:
    """Be the cluster of the worker with this pid, until the worker or a signal ends it."""
    from django_q.cluster import Cluster

    die_with_parent(worker)
    os.register_at_fork(before=_note_parent, after_in_child=_die_with_the_parent_that_forked_us)
    post_spawn.connect(_prepare_supervisor, dispatch_uid="heimdall.queue")
    connections.close_all()
    share_memory()  # and none of the processes stops to look for garbage while a job waits
    Cluster().start()


def _note_parent() -> None:
    global _forked_by
    _forked_by = os.getpid()


def _die_with_the_parent_that_forked_us() -> None:
    die_with_parent(_forked_by)  # each fork clears the request


_forked_by = 0


def _prepare_supervisor(**_: Any) -> None:
    host.stop_signals.install()
    die_with_parent(os.getppid(), signal.SIGUSR1)
    import_string(WARM_UP)()
