"""Every interleaving of one job's life within bounds, searched with the real table of rules.

    python -m tests.lifecycle.search --attempts 3 --steps 3

The table and its guards are the real ones. What is modelled beside them are the effects that services/ gives a
transition, and the world around it: two workers, of which any may be slow, a message, a lease that may run out at any
time, one verb of a person that was decided on an earlier look, checkpoints that go bad, a dataset that is deleted.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from training.lifecycle import RULES, TERMINAL, USER_VERBS, Facts, JobType, Status, Stop, Verb

NONE = -1


class Worker(NamedTuple):
    """A supervisor and its trainer. `saw` is the stop it has read; `staged` is a checkpoint without a row."""

    attempt: int
    step: int
    saw: Stop = Stop.NONE
    staged: int = NONE


class Pending(NamedTuple):
    """A verb that was decided on what was seen and has not been written yet."""

    verb: Verb
    status: Status
    stop: Stop
    attempt: int


class State(NamedTuple):
    """The variables of the search."""

    type: JobType
    status: Status = Status.QUEUED
    stop: Stop = Stop.NONE
    attempt: int = 0
    lease: str = ""  # "", "valid", "expired"
    step: int = 0  # what the job's row counts
    checkpoint: int = NONE  # the newest good one
    older: int = NONE  # the good one before it
    ever_stored: bool = False
    has_dataset: bool = True
    workers: tuple[Worker | None, Worker | None] = (None, None)
    pending: Pending | None = None
    promised: Stop = Stop.NONE  # what a person was told will happen


GUARDS = (
    "pausable",
    "has_a_start",
    "has_a_dataset",
    "trained_here",
    "where status as seen",
    "where stop as seen",
    "where attempt as seen",
    "reap only what has expired",
    "roll back what no checkpoint covers",
    "no start from scratch beside bad checkpoints",
)


@dataclass(frozen=True)
class Bounds:
    attempts: int = 2
    steps: int = 2
    without: frozenset[str] = frozenset()

    def stands(self, guard: str) -> bool:
        return guard not in self.without


class Violation(Exception):
    pass


def facts(state: State) -> Facts:
    return Facts(
        state.type,
        has_checkpoint=state.checkpoint != NONE,
        ever_stored=state.ever_stored,
        has_dataset=state.has_dataset,
    )


def allowed(state: State, verb: Verb, status: Status, stop: Stop, bounds: Bounds) -> bool:
    rule = RULES.get((verb, status, stop))
    if rule is None or not rule.writes:
        return False
    return all(guard.holds(facts(state)) for guard in rule.guards if bounds.stands(guard.name))


def moved(state: State, verb: Verb, bounds: Bounds, **changes) -> State:
    """The rule's effect and what services/ does with it."""
    rule = RULES[verb, state.status, state.stop]
    status, stop = Status(rule.to_status), rule.to_stop
    after = state._replace(status=status, stop=stop, **changes)
    if status is not Status.RUNNING:
        after = after._replace(lease="")
    stops = status in (Status.QUEUED, Status.PAUSED) and state.type is JobType.TRAINING
    if stops and bounds.stands("roll back what no checkpoint covers"):
        after = after._replace(step=max(after.checkpoint, 0))
    if status is Status.RUNNING and verb is not Verb.CLAIM:
        promised = {Verb.PAUSE: Stop.PAUSE, Verb.CANCEL: Stop.CANCEL, Verb.RESUME: Stop.NONE}
        after = after._replace(promised=promised.get(verb, after.promised))
    else:
        check_promise(state, after)
        after = after._replace(promised=Stop.NONE)
    return after


def check_promise(before: State, after: State) -> None:
    """What a person was told must happen, unless the job was finished or failed first."""
    kept = {
        Stop.PAUSE: {Status.PAUSED, Status.COMPLETED, Status.FAILED},
        Stop.CANCEL: {Status.CANCELLED, Status.COMPLETED},
    }
    if before.promised in kept and after.status not in kept[before.promised]:
        raise Violation(f"{before.promised} was promised, and the job is {after.status}")


def check(state: State, bounds: Bounds) -> None:
    running = state.status is Status.RUNNING
    if state.stop and not running:
        raise Violation("a stop beside a job that does not run")
    if state.type is JobType.EXTERNAL and (state.stop or state.status in (Status.QUEUED, Status.PAUSED)):
        raise Violation("something is asked here of a job that is trained somewhere else")
    if (running and state.type is not JobType.EXTERNAL) != bool(state.lease):
        raise Violation("running and leased are not the same")
    if state.status is Status.PAUSED and state.type is JobType.SYNTHETIC_DATA:
        raise Violation("a paused synthetic-data job")
    if state.status is Status.PAUSED and state.step != max(state.checkpoint, 0):
        raise Violation("paused, and no checkpoint covers the progress")
    if (
        state.status is Status.QUEUED
        and state.type is JobType.TRAINING
        and state.step != max(state.checkpoint, 0)
    ):
        raise Violation("queued with progress that no checkpoint covers")
    if state.status not in TERMINAL and not state.has_dataset:
        raise Violation("data are to be made for a dataset that is gone")
    if state.status is Status.COMPLETED and state.step != bounds.steps:
        raise Violation("completed before the last step")
    if sum(1 for worker in state.workers if worker and running and worker.attempt == state.attempt) > 1:
        raise Violation("two workers hold one attempt")


def person(state: State, bounds: Bounds) -> Iterator[State]:
    """A person looks, decides, and some time later the decision is written: or read again where it was overtaken."""
    if state.pending is None:
        for verb in USER_VERBS:
            if verb is not Verb.DELETE and allowed(state, verb, state.status, state.stop, bounds):
                yield state._replace(pending=Pending(verb, state.status, state.stop, state.attempt))
        return
    pending, free = state.pending, state._replace(pending=None)
    yield free  # decided again after a lost race, or the browser was closed
    if not as_seen(state, pending.status, pending.stop, pending.attempt, bounds):
        return
    if not allowed(free, pending.verb, pending.status, pending.stop, bounds):
        return
    if (pending.verb, state.status, state.stop) not in RULES:  # only without a WHERE
        raise Violation(f"{pending.verb} was written over {state.status}")
    if pending.verb is Verb.RESUME and state.ever_stored and state.checkpoint == NONE and not state.stop:
        raise Violation("a resume was promised, and there is nothing to resume from")
    if pending.verb is Verb.RESTART:
        free = free._replace(checkpoint=NONE, older=NONE, ever_stored=False, step=0)
    after = moved(free, pending.verb, bounds)
    if state.type is JobType.EXTERNAL and after.stop is Stop.CANCEL:  # in one transaction
        after = moved(after, Verb.LAND, bounds)
    yield after


def as_seen(state: State, status: Status, stop: Stop, attempt: int, bounds: Bounds) -> bool:
    """The WHERE of the one conditional UPDATE."""
    return (
        (state.status is status or not bounds.stands("where status as seen"))
        and (state.stop == stop or not bounds.stands("where stop as seen"))
        and (state.attempt == attempt or not bounds.stands("where attempt as seen"))
    )


def work(state: State, bounds: Bounds) -> Iterator[State]:
    for place, worker in enumerate(state.workers):
        if worker is not None and state.type is JobType.EXTERNAL:
            yield from reporter_acts(state, place, worker, bounds)
        elif worker is None:
            if state.status is Status.QUEUED and state.attempt < bounds.attempts:
                yield claimed(state, place, bounds)
        else:
            yield from worker_acts(state, place, worker, bounds)


def claimed(state: State, place: int, bounds: Bounds) -> State:
    number = state.attempt + 1
    after = moved(state, Verb.CLAIM, bounds, attempt=number, lease="valid")
    if state.ever_stored and state.checkpoint == NONE:
        if bounds.stands("no start from scratch beside bad checkpoints"):
            return moved(after, Verb.FAIL, bounds)
        raise Violation("a silent start from scratch")
    return put(
        after,
        place,
        Worker(number, max(state.checkpoint, 0) if state.type is JobType.TRAINING else state.step),
    )


def put(state: State, place: int, worker: Worker | None) -> State:
    workers = list(state.workers)
    workers[place] = worker
    return state._replace(workers=(workers[0], workers[1]))


def worker_acts(state: State, place: int, worker: Worker, bounds: Bounds) -> Iterator[State]:
    yield put(state, place, None)  # kill -9, a power cut; the row learns of it when the lease runs out
    fenced = state.attempt == worker.attempt or not bounds.stands("where attempt as seen")
    holds = fenced and (state.status is Status.RUNNING or not bounds.stands("where status as seen"))
    if worker.step < bounds.steps:
        yield put(state, place, worker._replace(step=worker.step + 1, staged=NONE))  # no word to anybody yet
    if worker.staged != worker.step and state.type is JobType.TRAINING:
        yield put(state, place, worker._replace(staged=worker.step))
    if not holds:
        yield put(state, place, None)  # StaleAttempt: drop everything
        return
    if state.status is not Status.RUNNING or state.attempt != worker.attempt:  # only without the fence
        raise Violation("a stale worker wrote")
    yield put(
        state._replace(lease="valid", step=max(state.step, worker.step)),
        place,
        worker._replace(saw=state.stop),
    )
    if worker.staged != NONE and worker.staged > state.checkpoint:
        yield recorded(state, worker)
    yield from ends(state, place, worker, bounds)


def reporter_acts(state: State, place: int, worker: Worker, bounds: Bounds) -> Iterator[State]:
    """Somebody who trains somewhere else, and is heard, or is not heard any more."""
    yield put(state, place, None)
    if worker.step < bounds.steps:
        yield put(state, place, worker._replace(step=worker.step + 1))
    if state.status is not Status.RUNNING:
        if not bounds.stands("where status as seen"):
            raise Violation("a report was taken of a job that was over")
        return
    yield state._replace(step=max(state.step, worker.step))
    free = put(state, place, None)._replace(step=max(state.step, worker.step))
    if worker.step == bounds.steps:
        yield moved(free, Verb.COMPLETE, bounds)
    yield moved(free, Verb.FAIL, bounds)


def recorded(state: State, worker: Worker) -> State:
    older = state.checkpoint if state.checkpoint != NONE else state.older
    return state._replace(
        checkpoint=worker.staged, older=older, ever_stored=True, step=max(state.step, worker.staged)
    )


def ends(state: State, place: int, worker: Worker, bounds: Bounds) -> Iterator[State]:
    """Each way an attempt ends. It is decided on the stop that the worker saw, and written on the one that stands."""
    free = put(state, place, None)
    if worker.saw == state.stop or not bounds.stands("where stop as seen"):
        durable = recorded(free, worker) if worker.staged > state.checkpoint else free
        durable = durable._replace(
            step=worker.step if worker.staged == worker.step else max(durable.checkpoint, 0)
        )
        if state.type is JobType.SYNTHETIC_DATA:
            durable = free._replace(step=worker.step)
        seen = durable._replace(stop=worker.saw)
        if allowed(seen, Verb.LAND, Status.RUNNING, worker.saw, bounds):
            after = moved(seen, Verb.LAND, bounds)
            yield after
        if worker.step == bounds.steps and (
            worker.staged == worker.step or state.type is JobType.SYNTHETIC_DATA
        ):
            yield moved(durable._replace(step=worker.step), Verb.COMPLETE, bounds)
    yield moved(free, Verb.FAIL, bounds)
    if allowed(free, Verb.CRASH, state.status, state.stop, bounds):
        yield moved(free, Verb.CRASH, bounds)


def surroundings(state: State, bounds: Bounds) -> Iterator[State]:
    """The lease runs out, the reaper acts, the scheduler preempts, a checkpoint goes bad, a dataset is deleted."""
    if state.type is JobType.SYNTHETIC_DATA and state.status in TERMINAL:
        yield state._replace(has_dataset=False)
    if state.lease == "valid":
        yield state._replace(lease="expired")
    may_reap = state.lease == "expired" or not bounds.stands("reap only what has expired")
    if (
        state.status is Status.RUNNING
        and may_reap
        and allowed(state, Verb.REAP, state.status, state.stop, bounds)
    ):
        if state.lease == "valid" and any(
            worker and worker.attempt == state.attempt for worker in state.workers
        ):
            raise Violation("an attempt was reaped under a valid lease")
        yield moved(state, Verb.REAP, bounds)
    if allowed(state, Verb.PREEMPT, state.status, state.stop, bounds):
        yield moved(state, Verb.PREEMPT, bounds)
    if state.checkpoint != NONE and state.status is Status.RUNNING:
        held = [worker for worker in state.workers if worker and worker.attempt == state.attempt]
        if (
            held and held[0].step == state.checkpoint == state.step
        ):  # found when it is fetched, before the first step
            back = state._replace(checkpoint=state.older, older=NONE, step=max(state.older, 0))
            place = state.workers.index(held[0])
            if state.older == NONE:
                yield moved(put(back, place, None), Verb.FAIL, bounds)
                yield put(back, place, None)  # killed between setting it aside and failing
            else:
                yield put(back, place, Worker(state.attempt, state.older))


def search(bounds: Bounds, limit: int = 5_000_000) -> tuple[set[State], str | None]:
    """The distinct reachable states, and the first violation with the state it grew from."""
    elsewhere = State(JobType.EXTERNAL, Status.RUNNING, attempt=1, workers=(Worker(1, 0), None))
    start = [State(JobType.TRAINING), State(JobType.SYNTHETIC_DATA), elsewhere]
    seen, todo = set(start), list(start)
    while todo and len(seen) < limit:
        state = todo.pop()
        try:
            for following in successors(state, bounds):
                if following not in seen:
                    check(following, bounds)
                    seen.add(following)
                    todo.append(following)
        except Violation as violation:
            return seen, f"{violation}\n  from {state}"
    return seen, None


def successors(state: State, bounds: Bounds) -> Iterator[State]:
    yield from person(state, bounds)
    yield from work(state, bounds)
    yield from surroundings(state, bounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    bounds = Bounds(**vars(parser.parse_args()))
    started = time.monotonic()
    states, violation = search(bounds, limit=50_000_000)
    print(f"variables: {', '.join(State._fields)}")
    print(f"{len(states)} distinct reachable states, {time.monotonic() - started:.0f} s; by status:")
    print(
        "  " + ", ".join(f"{status} {number}" for status, number in Counter(s.status for s in states).items())
    )
    print(f"violations: {violation or 0}")
    for guard in GUARDS:
        found = search(replace(bounds, attempts=2, steps=2, without=frozenset({guard})))[1]
        print(f"without {guard!r}: {found.splitlines()[0] if found else 'NOT NOTICED'}")


if __name__ == "__main__":
    main()
