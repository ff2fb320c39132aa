"""Adapter to django-q2. Messages say "there may be work" and carry integers only; the database decides.

A message is gone when it is taken: it may be lost, and the sweep wakes again. So a task that is longer than a timeout
is never handed out twice, and no clock but the database's has a say.

In the database, or in Redis where REDIS_URL is set, a message is a word, a number and an id, such as
`supervise 7 3f2a...`. It can name nothing but the words of TASKS, and it is no pickle: whoever can write there can
wake a worker, and do nothing else.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import time
import uuid
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import Error, connection, connections, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signals import post_spawn
from django_q.signing import SignedPackage

from heimdall.processes import die_with_parent
from training import host
from training.queue import commits, redis_queue

TASKS = {"supervise": "training.worker.tasks.supervise", "housekeep": "training.worker.tasks.housekeep"}
GET_READY = "training.worker.tasks.get_ready"
WAIT_SECONDS = 0.1  # for a sign of a message, at a time
ASK_SQLITE_SECONDS = 0.003  # for a sign
LOOK_ANYWAY_SECONDS = 1.0  # for a message of which no sign came
FOR_OTHERS_SECONDS = 0.5
FOR_ONE_HOST = -1  # the number of a wake-up that is not passed on
RETRY_SECONDS = 0.5
_MESSAGE = re.compile(r"(supervise|housekeep) (-?[0-9]{1,19}) ([0-9a-f]{32})")
Sent = int | str  # a message is known by the id of its row, or by its text where it went to Redis
logger = logging.getLogger(__name__)


def wake(hint: int = 0) -> str:
    """Say that there may be work. In a transaction, the message is sent by its commit. Returns the task's id."""
    return _send("supervise", hint, Conf.CLUSTER_NAME)[0]


def wake_host(node_name: str) -> str:
    """The same, said to one host's cluster alone. It keeps the message, whether it can use it or not."""
    return _send("supervise", FOR_ONE_HOST, key_of(node_name))[0]


def announce_housekeeping(number: int) -> Sent:
    """Have this host's cluster do its housekeeping."""
    return _send("housekeep", number, own_key())[1]


def is_waiting(message: Sent) -> bool:
    """Whether nobody has taken this message yet."""
    if isinstance(message, int):
        return OrmQ.objects.filter(pk=message).exists()
    return message in redis_queue.waiting(own_key()) or OrmQ.objects.filter(payload=message).exists()


def num_waiting() -> int:
    """Wake-ups for this host that nobody has taken yet."""
    keys = (Conf.CLUSTER_NAME, own_key())
    found = OrmQ.objects.filter(key__in=keys, payload__startswith="supervise ").count()
    if settings.REDIS_URL:
        found += redis_queue.count(Conf.CLUSTER_NAME)
        found += sum(message.startswith("supervise ") for message in redis_queue.waiting(own_key()))
    return found


def forget_housekeeping() -> None:
    """Drop what was announced to a cluster of this host that is gone."""
    OrmQ.objects.filter(key=own_key()).delete()
    if settings.REDIS_URL:
        redis_queue.clear(own_key())


class Broker(ORM):
    """django-q2's queue in the database, with four changes: it waits for a sign of the database instead of sleeping;
    taking a message deletes it; each host has, beside the common queue, one of its own (for its housekeeping); and
    the messages are ours, not pickles."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ear: commits.Ear | None = None  # opened by the process that waits: this one may only fork it
        self._look_at = 0.0
        self._num_failures = 0

    def dequeue(self) -> list[tuple[int, str]] | None:
        """The next message; None after a short while without one, for django-q2 has something else to ask then."""
        try:
            taken = self.next()
        except Error as error:
            self._wait_for_the_database(error)
            return None
        self._num_failures = 0
        return [(pk, package) for pk, payload in taken if (package := _package(payload))] or None

    def next(self) -> list[tuple[int, str]]:
        return self.look() if self._is_time_to_look() else []

    def look(self) -> list[tuple[int, str]]:
        """What waits in the database now."""
        taken = _take_messages(_for_this_host(self.list_key))
        self._look_at = 0.0 if taken else time.monotonic() + LOOK_ANYWAY_SECONDS
        return taken

    def _is_time_to_look(self) -> bool:
        if self._ear is None:
            self._ear = commits.ear(commits.MESSAGES, every_seconds=ASK_SQLITE_SECONDS)
        return time.monotonic() >= self._look_at or self._ear.wait(WAIT_SECONDS)

    def _wait_for_the_database(self, error: Error) -> None:
        """A message that was not taken is still there. django-q2 itself would end this process."""
        self._num_failures += 1
        if self._num_failures == 1:
            logger.warning("The queue waits for the database: %s", error)
        connection.close()
        self._look_at = 0.0
        time.sleep(RETRY_SECONDS)

    def enqueue(self, task: str) -> int:
        raise TypeError("Messages are sent by wake and announce_housekeeping alone.")

    def queue_size(self) -> int:
        return OrmQ.objects.filter(key=self.list_key).count()

    def lock_size(self) -> int:
        return 0


def run_cluster(worker: int) -> None:
    """Be the cluster of the worker with this pid, until the worker or a signal ends it."""
    from django_q.cluster import Cluster

    die_with_parent(worker)
    os.register_at_fork(before=_note_the_parent, after_in_child=_stand_or_fall_with_the_parent)
    post_spawn.connect(_prepare_supervisor, dispatch_uid="heimdall.queue")
    connections.close_all()
    # What is there now stays for good: the processes that are forked from this one share it, and none of them stops
    # to look for garbage in it while a job waits.
    gc.collect()
    gc.freeze()
    Cluster().start()


def _note_the_parent() -> None:
    global _forked_by
    _forked_by = os.getpid()


def _stand_or_fall_with_the_parent() -> None:
    die_with_parent(_forked_by)  # each fork clears the request


_forked_by = 0


def _prepare_supervisor(**_: Any) -> None:
    host.orders.listen()
    die_with_parent(os.getppid(), signal.SIGUSR1)
    import_string(GET_READY)()


def _send(task: str, number: int, key: str) -> tuple[str, Sent]:
    """The message's id, and what `is_waiting` knows it by."""
    name = uuid.uuid4().hex
    payload = f"{task} {int(number)} {name}"
    if not settings.REDIS_URL:
        return name, _write(key, payload)
    transaction.on_commit(lambda: redis_queue.put(key, payload) or _write(key, payload))
    return name, payload


def _write(key: str, payload: str) -> int:
    row = OrmQ.objects.create(key=key, payload=payload, lock=Now())
    commits.say(commits.MESSAGES)
    return row.pk


def _for_this_host(common: str) -> Q:
    """A host without a free slot leaves a wake-up to the others for a moment."""
    if settings.SQLITE or len(host.supervisors()) < settings.SLOTS:
        return Q(key__in=(common, own_key()))
    left_over = Q(key=common, lock__lt=Now() - timedelta(seconds=FOR_OTHERS_SECONDS))
    return Q(key=own_key()) | left_over


def _take_messages(chosen: Q) -> list[tuple[int, str]]:
    """The oldest messages, taken by nobody else, in one statement.

    It does not wait for the disk: a power cut may bring a message back, which wakes once more, and that is all.
    """
    oldest, taking, values = _statements(connection.vendor, chosen)
    with connection.cursor() as cursor:
        if connection.vendor != "sqlite":
            cursor.execute(taking, values)
            return [(pk, payload) for pk, payload, _ in cursor.fetchall()]
        cursor.execute(oldest, values)
        if cursor.fetchone() is None:
            return []  # only looking takes no lock
        cursor.execute("PRAGMA synchronous=NORMAL")
        try:
            cursor.execute(taking, values)
            return cursor.fetchall()
        finally:
            cursor.execute("PRAGMA synchronous=FULL")


@lru_cache(maxsize=16)
def _statements(vendor: str, chosen: Q) -> tuple[str, str, tuple[Any, ...]]:
    """What finds the oldest messages, what takes them, and the values of both. Made once: a wake-up waits for it.

    PostgreSQL passes over those that others are taking now, and is told with the deletion not to wait for the disk.
    """
    waiting = OrmQ.objects.filter(chosen).order_by("id").values("id")[: Conf.BULK]
    oldest, values = waiting.query.get_compiler(connection=connection).as_sql()
    delete, told = f"DELETE FROM {OrmQ._meta.db_table} WHERE id", "RETURNING id, payload"
    if vendor == "sqlite":
        return oldest, f"{delete} IN ({oldest}) {told}", values
    # An array, or the planner might look for the oldest again for each row.
    taking = f"{delete} = ANY(ARRAY({oldest} FOR UPDATE SKIP LOCKED)) {told}"
    return oldest, f"{taking}, set_config('synchronous_commit', 'off', true)", values


def _package(payload: str) -> str | None:
    """The message as the rest of the cluster wants it: made here, for its own memory. None for what is not ours."""
    found = _MESSAGE.fullmatch(payload)
    if found is None:
        logger.warning("A queue message of unknown form was dropped.")
        return None
    task = {
        "id": uuid.uuid4().hex,  # a new one: django-q2 looks for what an earlier task of this id left behind
        "name": f"{found[1]} {found[2]}",
        "func": TASKS[found[1]],
        "args": (int(found[2]),),
        "kwargs": {},
        "started": timezone.now(),
        "ack_failure": True,
    }
    return SignedPackage.dumps(task)


def own_key() -> str:
    return key_of(settings.NODE_NAME)


def key_of(node_name: str) -> str:
    return f"{Conf.CLUSTER_NAME}@{node_name}"[:100]
