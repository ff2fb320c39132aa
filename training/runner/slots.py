"""What a process does that was woken: it takes a slot of this host, claims the best job, and the next."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from enum import StrEnum
from functools import lru_cache, partial

from django.conf import settings
from setproctitle import setproctitle

from training import host, services
from training.models import Attempt, GangMember, Node
from training.runner import member
from training.runner.attempt import Supervision
from training.runner.context import AttemptContext
from training.runner.database_retry import with_own_connection
from training.runner.replaying import replay_one

SLOTS_SECONDS = 6.0  # that a claim of several waits for slots whose trainers have not left yet


class Found(StrEnum):
    """What there was for a process that was woken."""

    WORK = "work"
    NOTHING = "nothing"
    NO_SLOT = "no slot"


class LeftToAnother(Exception):
    """The best job needs slots that this supervisor cannot get: it leaves its own to whoever can."""


def run_jobs() -> Found:
    """Take the best queued job, and the next, until none waits."""
    found = Found.NOTHING
    with host.stop_signals.at_work():
        while not host.stop_signals.must_leave():
            node = Node.objects.get(name=settings.NODE_NAME)
            with host.hold_free_slot() as slot:
                if slot is None:
                    return Found.NO_SLOT
                last, is_left = _run_in(node, slot)
                has_replayed = last is None and not is_left and replay_one(node, slot)
            if last is not None:
                found = Found.WORK
                last.tidy_up()
            if has_replayed:
                found = Found.WORK
                continue
            # One that came while the slot was held woke somebody who found no slot.
            if is_left or not services.has_work_for(node):
                break
    return found


def _run_in(node: Node, slot: int) -> tuple[Supervision | None, bool]:
    """Run jobs in a slot of the node, which was just read.

    Returns the attempt that still has to be tidied up after (the slot need not wait for that), and whether there is
    work that is left to another supervisor.
    """
    last = None
    while not host.stop_signals.must_leave():
        with ExitStack() as others:
            try:
                claimed = _claim(node, slot, others, is_just_read=last is None)
            except LeftToAnother:
                return last, True
            if claimed is None:
                break
            if last is not None:
                threading.Thread(target=with_own_connection, args=(last.tidy_up,), name="tidy").start()
            last = _supervise(claimed, slot)
        if len(claimed.slots) > 1:
            services.wake(node, len(claimed.slots) - 1)  # its other slots are free, too
    return last, False


def _claim(node: Node, slot: int, others: ExitStack, *, is_just_read: bool) -> Attempt | GangMember | None:
    """The best job, or this host's part in one of several hosts."""
    claimed = _claim_slots(node, slot, others, is_just_read=is_just_read)
    if not isinstance(claimed, GangMember):
        return claimed
    who = services.Supervisor(slot, os.getpid(), _born_at(os.getpid()))
    claimed = member.wait_for_others(claimed, who)
    if claimed is None:  # not enough hosts have come: another wake-up tries it again
        raise LeftToAnother
    return claimed


def _claim_slots(
    node: Node, slot: int, others: ExitStack, *, is_just_read: bool
) -> Attempt | GangMember | None:
    """The best job, with the locks of all its slots: those of the others are taken before it is claimed."""
    claim = partial(services.claim, node, slot=slot, pid=os.getpid(), pid_started_at=_born_at(os.getpid()))
    try:
        return claim(held=[], is_just_read=is_just_read)
    except services.SlotsNeeded as needed:
        wanted = [one for one in needed.slots if one != slot]
    held = host.hold_slots(wanted, seconds=SLOTS_SECONDS, give_up=host.stop_signals.must_leave)
    locks = others.enter_context(held)
    if locks is None:
        raise LeftToAnother
    try:
        attempt = claim(held=wanted)
    except services.SlotsNeeded as needed:  # the queue, or what is free, has changed meanwhile
        raise LeftToAnother from needed
    for one in set(wanted) - set(attempt.slots if attempt else []):
        locks[one].release()
    services.wake(node, settings.SLOTS)  # who left a slot to us may be needed for what else waits
    return attempt


def _supervise(claimed: Attempt | GangMember, slot: int) -> Supervision:
    setproctitle(f"heimdall supervisor slot {slot} job {claimed.job_id}")
    supervision: Supervision
    if isinstance(claimed, GangMember):
        supervision = member.part_of(claimed, slot)
    else:
        supervision = Supervision(AttemptContext(claimed, slot))
    supervision.run()
    setproctitle(f"heimdall supervisor slot {slot}")
    return supervision


@lru_cache(maxsize=1)
def _born_at(pid: int) -> float:
    """When this process started: asked once, not while a job waits."""
    return host.started_at(pid)
