"""Queue messages: sending them, and what is known of those that nobody has taken.

A message says "there may be work" and carries an integer: a word, a number and an id, such as `supervise 7 3f2a...`.
It can name nothing but the words of TASKS, and it is no pickle: whoever can write to the queue can wake a worker, and
do nothing else. The database decides what is done. Delivery is at most once: a message is gone when it is taken, so a
task that is longer than a timeout is never handed out twice. What is lost, the sweep sends again.

Messages lie in the database, or in Redis where REDIS_URL is set and Redis answers.
"""

from __future__ import annotations

import logging
import re
import uuid

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from django_q.conf import Conf
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from training.queue import commits, redis_queue

TASKS = {"supervise": "training.worker.tasks.supervise", "housekeep": "training.worker.tasks.housekeep"}
FOR_ONE_HOST = -1  # the number of a wake-up that is not passed on
_MESSAGE = re.compile(r"(supervise|housekeep) (-?[0-9]{1,19}) ([0-9a-f]{32})")
MessageKey = int | str  # the id of its row, or its text where it went to Redis
logger = logging.getLogger(__name__)


def wake(hint: int = 0) -> str:
    """Say that there may be work. In a transaction, the message is sent by its commit. Returns the task's id."""
    return _send("supervise", hint, Conf.CLUSTER_NAME)[0]


def wake_host(node_name: str) -> str:
    """Wake one host's cluster alone. It keeps the message, whether it can use it or not."""
    return _send("supervise", FOR_ONE_HOST, key_of(node_name))[0]


def announce_housekeeping(number: int) -> MessageKey:
    """Have this host's cluster do its housekeeping."""
    return _send("housekeep", number, own_key())[1]


def is_waiting(message: MessageKey) -> bool:
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


def task_package(payload: str) -> str | None:
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


def _send(task: str, number: int, key: str) -> tuple[str, MessageKey]:
    """The message's id, and what `is_waiting` knows it by."""
    name = uuid.uuid4().hex
    payload = f"{task} {int(number)} {name}"
    if not settings.REDIS_URL:
        return name, _write(key, payload)
    transaction.on_commit(lambda: redis_queue.put(key, payload) or _write(key, payload))
    return name, payload


def _write(key: str, payload: str) -> int:
    row = OrmQ.objects.create(key=key, payload=payload, lock=Now())
    commits.notify(commits.MESSAGES)
    return row.pk
