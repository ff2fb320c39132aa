"""Messages between processes. They only wake: the database decides (docs/decisions/001).

messages.py      sending a message, and which are still waiting
broker.py        how django-q2's cluster takes them
redis_queue.py   the messages in Redis, where REDIS_URL is set
commits.py       how a process notices at once what another one committed
cluster.py       the process tree of django-q2's cluster
"""

from training.queue.broker import Broker, RedisBroker
from training.queue.cluster import preload, run_cluster
from training.queue.messages import (
    FOR_ONE_HOST,
    MessageKey,
    announce_housekeeping,
    forget_housekeeping,
    is_waiting,
    num_waiting,
    own_key,
    wake,
    wake_host,
)

__all__ = [
    "FOR_ONE_HOST",
    "Broker",
    "MessageKey",
    "RedisBroker",
    "announce_housekeeping",
    "forget_housekeeping",
    "is_waiting",
    "num_waiting",
    "own_key",
    "preload",
    "run_cluster",
    "wake",
    "wake_host",
]
