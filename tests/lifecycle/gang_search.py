"""Every interleaving of jobs of one and of several devices on one host within bounds, searched with the real rules.

    python -m tests.lifecycle.gang_search

How many slots a job takes, for whom slots are kept and who may fill a gap are asked of `training.placement` itself.
What is modelled beside it: supervisors that hold the lock of a slot and decide before they write, jobs that end, are
preempted, land or are lost at any time, and a host's housekeeping that asks fillers to make room.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import NamedTuple

import django
from django.apps import apps

if not apps.ready:  # called by itself
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "heimdall.site.settings")
    django.setup()

from training.placement import Room, num_ranks, num_slots

QUEUED, RUNNING, STOPPING, LOST, DONE = range(5)
NODE = SimpleNamespace(pk=1)

GUARDS = (
    "all slots in one transaction",
    "the locks of all slots before the claim",
    "a held slot claims nothing",
    "slots are kept for the first gang",
    "only who loses nothing fills a gap",
    "nobody fills a gap that is closing",
    "fillers make room",
    "an end gives all slots back",
)


@dataclass(frozen=True)
class Kind:
    """A job of the search; its place in the list is its place in the queue."""

    fewest: int = 1
    most: int = 1
    loses_nothing: bool = True


JOBS = (Kind(), Kind(3, 3), Kind(), Kind(1, 1, loses_nothing=False), Kind(2, 2))


@dataclass(frozen=True)
class GangBounds:
    slots: int = 3
    jobs: tuple[Kind, ...] = JOBS
    without: frozenset[str] = frozenset()

    def stands(self, guard: str) -> bool:
        return guard not in self.without


class JobState(NamedTuple):
    status: int = QUEUED
    slots: tuple[int, ...] = ()
    fills: bool = False


class Claiming(NamedTuple):
    """A supervisor that has read the queue and not written yet: its own slot, and what it has decided."""

    slot: int
    job: int
    slots: tuple[int, ...]
    fills: bool


class HostState(NamedTuple):
    """The variables of the search."""

    jobs: tuple[JobState, ...]
    claiming: tuple[Claiming, ...] = ()


class BrokenRule(Exception):
    pass


def search_gangs(bounds: GangBounds) -> tuple[int, str | None]:
    """How many distinct states can be reached, and the first broken rule with the state that it grew from."""
    start = HostState(tuple(JobState() for _ in bounds.jobs))
    seen, todo = {start}, [start]
    before: dict[HostState, set[HostState]] = defaultdict(set)
    while todo:
        state = todo.pop()
        try:
            unharmed = set(successors(state, bounds))
            for following in unharmed:
                before[following].add(state)
            for following in (*unharmed, *killed(state)):
                if following not in seen:
                    check(following, bounds)
                    seen.add(following)
                    todo.append(following)
        except BrokenRule as broken:
            return len(seen), f"{broken}\n  from {state}"
    return len(seen), stuck(seen, before)


def stuck(seen: set[HostState], before: dict[HostState, set[HostState]]) -> str | None:
    """A state from which nothing but a kill lets every job come to its end: somebody waits for ever."""
    todo = [state for state in seen if all(job.status == DONE for job in state.jobs) and not state.claiming]
    good = set(todo)
    while todo:
        for state in before[todo.pop()] - good:
            good.add(state)
            todo.append(state)
    left = seen - good
    return f"a job waits for ever\n  in {next(iter(left))}" if left else None


def successors(state: HostState, bounds: GangBounds) -> Iterator[HostState]:
    yield from decisions(state, bounds)
    for claiming in state.claiming:
        yield from written(state, claiming, bounds)
    for number, job in enumerate(state.jobs):
        if job.status in (RUNNING, STOPPING) and not is_long(state, number, bounds):
            yield put(state, number, ended(job, DONE, bounds))  # completed, failed or cancelled
        if job.status in (STOPPING, LOST):
            yield put(state, number, ended(job, QUEUED, bounds))  # landed or reaped
    yield from make_room(state, bounds)


def killed(state: HostState) -> Iterator[HostState]:
    """kill -9 of a supervisor: its rows stay, its locks do not."""
    for number, job in enumerate(state.jobs):
        if job.status in (RUNNING, STOPPING):
            yield put(state, number, job._replace(status=LOST))


def is_long(state: HostState, number: int, bounds: GangBounds) -> bool:
    """What fills a gap does not end by itself, so that whoever waits for that waits for ever."""
    before = zip(bounds.jobs[:number], state.jobs[:number], strict=True)
    return state.jobs[number].fills and any(kind.fewest > 1 and job.status == QUEUED for kind, job in before)


def ended(job: JobState, status: int, bounds: GangBounds) -> JobState:
    kept = () if bounds.stands("an end gives all slots back") else job.slots[1:]
    return JobState(status, kept)


def decisions(state: HostState, bounds: GangBounds) -> Iterator[HostState]:
    """A claim's transaction has read the queue and locked its job's row; it holds the locks of all its slots."""
    for slot in range(bounds.slots):
        is_held = slot in held(state) and bounds.stands("a held slot claims nothing")
        if slot in locked(state) or is_held or len(state.claiming) == 2:
            continue
        choice = choose(state, slot, bounds)
        if choice is None:
            continue
        if bounds.stands("the locks of all slots before the claim") and locked(state) & set(choice.slots):
            continue  # it waits for them, or leaves its own to another
        kept_from_gang(state, choice, bounds)
        yield state._replace(claiming=tuple(sorted((*state.claiming, choice))))


def locked(state: HostState) -> set[int]:
    """Slots whose locks supervisors hold: those that claim, and those at work."""
    at_work = (job.slots for job in state.jobs if job.status in (RUNNING, STOPPING))
    return {slot for slots in (*at_work, *(one.slots for one in state.claiming)) for slot in slots}


def choose(state: HostState, slot: int, bounds: GangBounds) -> Claiming | None:
    """What `services.claim` decides: the best job, the gang, or what may fill its gap."""
    room = room_of(state, slot, bounds)
    waiting = [number for number, job in enumerate(state.jobs) if job.status == QUEUED]
    free = [
        number for number in waiting if number not in {one.job for one in state.claiming}
    ]  # rows not locked
    if not free:
        return None
    first_gang = next((number for number in waiting if bounds.jobs[number].fewest > 1), None)
    best = free[0]
    if not bounds.stands("slots are kept for the first gang"):
        able = (number for number in free if num_ranks(model(number, bounds), len(room.free)))
        return next((taking(number, room, slot, bounds) for number in able), None)
    if first_gang is None or best < first_gang:
        return taking(best, room, slot, bounds)
    gang = model(first_gang, bounds)
    if best == first_gang and num_ranks(gang, len(room.free)):
        return taking(best, room, slot, bounds)
    if room.is_within_reach(gang) and bounds.stands("nobody fills a gap that is closing"):
        return None
    for number in free:
        job = model(number, bounds)
        gives_way = job.loses_nothing or not bounds.stands("only who loses nothing fills a gap")
        if number != first_gang and gives_way and num_ranks(job, len(room.free)):
            return taking(number, room, slot, bounds, fills=True)
    return None


def taking(number: int, room: Room, slot: int, bounds: GangBounds, *, fills: bool = False) -> Claiming:
    ranks = num_ranks(model(number, bounds), len(room.free))
    return Claiming(slot, number, tuple(room.slots_around(slot, ranks)), fills)


def written(state: HostState, claiming: Claiming, bounds: GangBounds) -> Iterator[HostState]:
    """The transaction is committed, or its process was killed."""
    after = state._replace(claiming=tuple(one for one in state.claiming if one != claiming))
    yield after
    slots = claiming.slots if bounds.stands("all slots in one transaction") else claiming.slots[:1]
    yield put(after, claiming.job, JobState(RUNNING, slots, claiming.fills))


def kept_from_gang(state: HostState, claiming: Claiming, bounds: GangBounds) -> None:
    """No claim of a later job takes a slot that the first gang could not get back at once."""
    job = model(claiming.job, bounds)
    for number, seen in enumerate(state.jobs[: claiming.job]):
        gang, room = model(number, bounds), room_of(state, claiming.slot, bounds)
        if seen.status != QUEUED or gang.fewest_devices == 1:
            continue
        if room.is_within_reach(gang):
            raise BrokenRule("a later job took a slot with which a gang could have started")
        if not (claiming.fills and job.loses_nothing):
            raise BrokenRule("a later job took a slot of the first gang and does not give it back")
        return


def make_room(state: HostState, bounds: GangBounds) -> Iterator[HostState]:
    waiting = [number for number, job in enumerate(state.jobs) if job.status == QUEUED]
    gang = next((model(number, bounds) for number in waiting if bounds.jobs[number].fewest > 1), None)
    if gang is None or not bounds.stands("fillers make room"):
        return
    room = room_of(state, NONE, bounds)
    fillers = room.fillers(gang)
    if len(room.free) < gang.fewest_devices <= len(room.free) + num_slots(fillers):
        jobs = list(state.jobs)
        for one in fillers:
            if jobs[one.number].status == RUNNING:
                jobs[one.number] = jobs[one.number]._replace(status=STOPPING)
        if tuple(jobs) != state.jobs:
            yield state._replace(jobs=tuple(jobs))


NONE = -1


def room_of(state: HostState, slot: int, bounds: GangBounds) -> Room:
    """What the claim reads: slots that are held, and the attempts that hold them."""
    taken = held(state)
    attempts = [
        SimpleNamespace(ranks=len(job.slots), fills=job.fills, job=model(number, bounds), number=number)
        for number, job in enumerate(state.jobs)
        if job.status in (RUNNING, STOPPING, LOST)
    ]
    free = [one for one in range(bounds.slots) if one == slot or one not in taken]
    return Room(NODE, list(range(bounds.slots)), free, attempts)


def held(state: HostState) -> set[int]:
    return {slot for job in state.jobs for slot in job.slots}


def model(number: int, bounds: GangBounds) -> SimpleNamespace:
    """A job as the rules read it."""
    kind = bounds.jobs[number]
    command = {"kind": "command", "checkpoint_folder": "kept" if kind.loses_nothing else ""}
    return SimpleNamespace(
        pk=number, priority=0, queued_at=0, recipe="", program=command, loses_nothing=kind.loses_nothing,
        fewest_devices=kind.fewest, most_devices=kind.most,
    )  # fmt: skip


def put(state: HostState, number: int, job: JobState) -> HostState:
    jobs = list(state.jobs)
    jobs[number] = job
    return state._replace(jobs=tuple(jobs))


def check(state: HostState, bounds: GangBounds) -> None:
    taken: set[int] = set()
    for number, job in enumerate(state.jobs):
        if job.status in (QUEUED, DONE) and job.slots:
            raise BrokenRule("a job that does not run holds a slot")
        if job.status in (RUNNING, STOPPING, LOST) and len(job.slots) != num_ranks(
            model(number, bounds), len(job.slots)
        ):
            raise BrokenRule("a gang runs with a part of its slots")
        if taken & set(job.slots):
            raise BrokenRule("two jobs hold one slot")
        taken |= set(job.slots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=5)
    bounds = GangBounds(slots=parser.parse_args().slots, jobs=(*JOBS, Kind(1, 2), Kind(3, 3)))
    started = time.monotonic()
    states, broken = search_gangs(bounds)
    print(f"{states} distinct states of a host with {bounds.slots} slots, {time.monotonic() - started:.0f} s")
    print(f"violations: {broken or 0}")
    for guard in GUARDS:
        found = search_gangs(replace(bounds, slots=3, jobs=JOBS, without=frozenset({guard})))[1]
        print(f"without {guard!r}: {found.splitlines()[0] if found else 'NOT NOTICED'}")


if __name__ == "__main__":
    main()
