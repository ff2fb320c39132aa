"""Adapter to django-q2. Messages say "there may be work" and carry integers only; the database decides.

A message is gone when it is taken: it may be lost, and the sweep wakes again. So a task that is longer than a timeout
is never handed out twice, and no clock but the database's has a say.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connections
from django.utils.module_loading import import_string
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signals import post_spawn
from django_q.tasks import async_task

from training import host

SUPERVISE = "training.tasks.supervise"
HOUSEKEEP = "training.tasks.housekeep"
GET_READY = "training.tasks.get_ready"


def wake(hint: int = 0) -> str:
    """Say that there may be work. In a transaction, the message is sent by its commit. Returns the task's id."""
    return async_task(SUPERVISE, int(hint))


def announce_housekeeping(number: int) -> int:
    """Have this host's cluster do its housekeeping. Returns the id of the message's row."""
    async_task(HOUSEKEEP, int(number), cluster=_own_key())
    return OrmQ.objects.filter(key=_own_key()).order_by("-id").values_list("id", flat=True).first() or 0


def is_waiting(message: int) -> bool:
    """Whether nobody has taken this message yet."""
    return OrmQ.objects.filter(pk=message).exists()


def num_waiting() -> int:
    """Wake-ups that nobody has taken yet."""
    return OrmQ.objects.filter(key=Conf.CLUSTER_NAME).count()


def forget_housekeeping() -> None:
    """Drop what was announced to a cluster of this host that is gone."""
    OrmQ.objects.filter(key=_own_key()).delete()


class Broker(ORM):
    """django-q2's queue in the database, with two changes: taking a message deletes it, and each host has, beside the
    common queue, one of its own (for its housekeeping)."""

    def dequeue(self) -> list[tuple[int, str]] | None:
        close_old_connections()
        waiting = OrmQ.objects.filter(key__in=(self.list_key, _own_key())).order_by("id")
        taken = [row for row in waiting[: Conf.BULK] if OrmQ.objects.filter(pk=row.pk).delete()[0]]
        if taken:
            return [(row.pk, row.payload) for row in taken]
        time.sleep(Conf.POLL)
        return None

    def queue_size(self) -> int:
        return OrmQ.objects.filter(key=self.list_key).count()

    def lock_size(self) -> int:
        return 0


def run_cluster(worker: int) -> None:
    """Be the cluster of the worker with this pid, until the worker or a signal ends it."""
    from django_q.cluster import Cluster

    host.die_with_parent(worker)
    os.register_at_fork(before=_note_the_parent, after_in_child=_stand_or_fall_with_the_parent)
    post_spawn.connect(_prepare_supervisor, dispatch_uid="heimdall.queue")
    connections.close_all()
    Cluster().start()


def _note_the_parent() -> None:
    global _forked_by
    _forked_by = os.getpid()


def _stand_or_fall_with_the_parent() -> None:
    host.die_with_parent(_forked_by)  # each fork clears the request


_forked_by = 0


def _prepare_supervisor(**_: Any) -> None:
    host.orders.listen()
    host.die_with_parent(os.getppid(), signal.SIGUSR1)
    import_string(GET_READY)()


def _own_key() -> str:
    return f"{Conf.CLUSTER_NAME}@{settings.NODE_NAME}"[:100]
