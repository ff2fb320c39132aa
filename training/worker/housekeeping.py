"""What a host looks after every few seconds.

Nothing here is needed for safety: messages may be lost, and lost attempts are fenced.
"""

from __future__ import annotations

import time
from contextlib import suppress

from django.conf import settings

from training import host, queue, services
from training.models import Node
from training.runner import environments
from training.scheduling import elastic, preemption, sweeps
from training.worker import cleanup, reaping

RETIRE_SECONDS = 600


def look_after_host(number: int) -> None:
    """One round of this host's housekeeping; `number` is what the watchdog waits for."""
    host.answer_canary(number)
    node = Node.objects.get(name=settings.NODE_NAME)
    reaping.reap_dead_supervisors(node)
    reaping.reap_expired()
    services.forget_offers()
    wake_waiting(node)
    preemption.make_room()
    preemption.make_room_for_gangs()
    elastic.resize_elastic_jobs()
    sweeps.advance_sweeps()
    cleanup.sweep_staging(node)
    cleanup.sweep_scratch()
    if _is_due("retire", RETIRE_SECONDS):
        environments.sweep_environments()
        cleanup.retire()


def after_a_fruitless_wake_up(number: int, *, has_slot: bool) -> None:
    """A message of which this host could make nothing: others get it, and a full host makes room for urgent work."""
    if not has_slot:
        preemption.make_room()
    preemption.make_room_for_gangs()
    if number != queue.FOR_ONE_HOST:
        services.pass_on(Node.objects.get(name=settings.NODE_NAME))


def after_the_last_job() -> None:
    """A slot has become free that nobody may take: a gang may be able to start if others make room now, and what a
    sweep tries next is for it."""
    preemption.make_room_for_gangs()
    sweeps.advance_sweeps()


def wake_waiting(node: Node) -> int:
    """Send again what may have been lost: a wake-up for each waiting job that this host has a slot for."""
    free = max(settings.SLOTS - len(host.supervisors()), 0)
    woken = services.wake(node, free)
    if free and not woken and services.waiting_replays().exists() and not queue.num_waiting():
        queue.wake_host(node.name)
    return woken


def _is_due(name: str, seconds: float) -> bool:
    """Whether the thing was last done so long ago; if so, it counts as done now."""
    mark = host.folder() / f"{name}.done"
    with suppress(OSError):
        if 0 <= time.time() - mark.stat().st_mtime < seconds:  # else the clock went back: do it once more
            return False
    mark.touch()
    return True
