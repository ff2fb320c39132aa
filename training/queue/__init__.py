"""Messages between processes. They only wake: the database decides (docs/decisions/001)."""

from training.queue.broker import (
    FOR_ONE_HOST,
    Broker,
    announce_housekeeping,
    forget_housekeeping,
    is_waiting,
    num_waiting,
    own_key,
    run_cluster,
    wake,
    wake_host,
)

__all__ = [
    "FOR_ONE_HOST",
    "Broker",
    "announce_housekeeping",
    "forget_housekeeping",
    "is_waiting",
    "num_waiting",
    "own_key",
    "run_cluster",
    "wake",
    "wake_host",
]
