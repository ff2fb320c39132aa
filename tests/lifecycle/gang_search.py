"""Every interleaving of jobs of one and of several devices on one host within bounds, searched with the real rules.

    python -m tests.lifecycle.gang_search

How many slots a job takes, for whom slots are kept and who may fill a gap are asked of `training.placement` itself.
What is modelled beside it: supervisors that hold the lock of a slot and decide before they write, jobs that end, are
preempted, land or are lost at any time, and a host's housekeeping that asks fillers to make room.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import NamedTuple

from training.placement import Room, num_ranks, num_slots

QUEUED, RUNNING, STOPPING, DONE = range(4)
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
            for following in successors(state, bounds):
                before[following].add(state)
                if following not in seen:
                    check(following, bounds)
                    seen.add(following)
                    todo.append(following)
        except BrokenRule as broken:
            return len(seen), f"{broken}\n  from {state}"
    return len(seen), stuck(seen, before)


def stuck(seen: set[HostState], before: dict[HostState, set[HostState]]) -> str | None:
    """A state from which not every job can come to its end: somebody waits for ever."""
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
        if job.status in (RUNNING, STOPPING):
            yield put(state, number, ended(job, DONE, bounds))  # completed, failed or cancelled
        if job.status == STOPPING:
            yield put(
                state, number, ended(job, QUEUED, bounds)
            )  # landed; a crash and a lost host end so, too
    yield from make_room(state, bounds)


def ended(job: JobState, status: int, bounds: GangBounds) -> JobState:
    kept = () if bounds.stands("an end gives all slots back") else job.slots[1:]
    return JobState(status, kept)


def decisions(state: HostState, bounds: GangBounds) -> Iterator[HostState]:
    """A supervisor takes the lock of a free slot and decides; it holds the lock until it has written."""
    for slot in range(bounds.slots):
        is_locked = any(slot == one.slot for one in state.claiming) or is_led(state, slot)
        is_held = slot in held(state) and bounds.stands("a held slot claims nothing")
        if is_locked or is_held or len(state.claiming) == 2:
            continue
        choice = choose(state, slot, bounds)
        if choice is not None:
            yield state._replace(claiming=tuple(sorted((*state.claiming, choice))))


def choose(state: HostState, slot: int, bounds: GangBounds) -> Claiming | None:
    room = room_of(state, slot, bounds)
    waiting = [number for number, job in enumerate(state.jobs) if job.status == QUEUED]
    if not waiting:
        return None
    best = waiting[0]
    ranks = num_ranks(model(best, bounds), len(room.free))
    if ranks:
        return Claiming(slot, best, tuple(room.slots_around(slot, ranks)), False)
    gang = model(best, bounds)
    for number in waiting[1:] if bounds.stands("slots are kept for the first gang") else ():
        job = model(number, bounds)
        if bounds.stands("only who loses nothing fills a gap") and not job.loses_nothing:
            continue
        if bounds.stands("nobody fills a gap that is closing") and room.is_within_reach(gang):
            return None
        if ranks := num_ranks(job, len(room.free)):
            return Claiming(slot, number, tuple(room.slots_around(slot, ranks)), True)
    for number in waiting[1:] if not bounds.stands("slots are kept for the first gang") else ():
        if ranks := num_ranks(model(number, bounds), len(room.free)):
            return Claiming(slot, number, tuple(room.slots_around(slot, ranks)), False)
    return None


def written(state: HostState, claiming: Claiming, bounds: GangBounds) -> Iterator[HostState]:
    """The transaction: it decides again on what is so now, and writes all or nothing."""
    free = state._replace(claiming=tuple(one for one in state.claiming if one != claiming))
    yield free  # it lost a race, or was killed
    others = {one.slot for one in free.claiming}
    if bounds.stands("the locks of all slots before the claim") and others & set(claiming.slots):
        return  # somebody holds one of the locks: nothing is claimed
    if bounds.stands("all slots in one transaction") and choose(free, claiming.slot, bounds) != claiming:
        return
    job = state.jobs[claiming.job]
    if job.status != QUEUED:
        return  # the conditional UPDATE
    kept_from_gang(free, claiming, bounds)
    yield put(free, claiming.job, JobState(RUNNING, claiming.slots, claiming.fills))


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
        if job.status in (RUNNING, STOPPING)
    ]
    free = [one for one in range(bounds.slots) if one == slot or one not in taken]
    return Room(NODE, list(range(bounds.slots)), free, attempts)


def held(state: HostState) -> set[int]:
    return {slot for job in state.jobs for slot in job.slots}


def is_led(state: HostState, slot: int) -> bool:
    """Whether a supervisor at work holds the slot's lock."""
    return any(slot in job.slots for job in state.jobs if job.status in (RUNNING, STOPPING))


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
        if job.status in (RUNNING, STOPPING) and len(job.slots) != num_ranks(
            model(number, bounds), len(job.slots)
        ):
            raise BrokenRule("a gang runs with a part of its slots")
        if taken & set(job.slots):
            raise BrokenRule("two jobs hold one slot")
        taken |= set(job.slots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=4)
    bounds = GangBounds(slots=parser.parse_args().slots, jobs=(*JOBS, Kind(1, 2)))
    started = time.monotonic()
    states, broken = search_gangs(bounds)
    print(f"{states} distinct states of a host with {bounds.slots} slots, {time.monotonic() - started:.0f} s")
    print(f"violations: {broken or 0}")
    for guard in GUARDS:
        found = search_gangs(replace(bounds, slots=3, jobs=JOBS, without=frozenset({guard})))[1]
        print(f"without {guard!r}: {found.splitlines()[0] if found else 'NOT NOTICED'}")


if __name__ == "__main__":
    main()
