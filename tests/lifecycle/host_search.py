"""Every interleaving of the hosts of one job: they offer, lead, belong to an attempt, and are killed at any time.

    python -m tests.lifecycle.host_search

What is modelled are the transactions of `services/gathering.py` and the ends of an attempt, between supervisors that
may be slow or dead. An offer is a row that may grow old; a process trains for the attempt that it knows.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

QUEUED, RUNNING, DONE = range(3)
OFFER, OLD_OFFER, MEMBER = "offer", "old offer", "member"
WAITS, LEADS, TRAINS = "waits", "leads", "trains"

HOST_GUARDS = (
    "the job's row is locked",
    "offers are taken with the attempt",
    "only fresh offers count",
    "old offers are dropped",
    "an end takes the parts of all hosts",
    "a part ends with its attempt",
    "loss of a host ends the attempt",
)


@dataclass(frozen=True)
class HostBounds:
    hosts: int = 2
    needed: int = 2
    attempts: int = 2
    without: frozenset[str] = frozenset()

    def stands(self, guard: str) -> bool:
        return guard not in self.without


class Row(NamedTuple):
    kind: str
    attempt: int = 0


class Process(NamedTuple):
    """A supervisor with its ranks; `saw` are the offers that it read and has not acted on yet."""

    does: str
    attempt: int = 0
    saw: frozenset[int] | None = None


class Gathering(NamedTuple):
    """The variables of the search."""

    status: int
    attempt: int
    rows: tuple[Row | None, ...]
    processes: tuple[Process | None, ...]


class Broken(Exception):
    pass


def search_hosts(bounds: HostBounds) -> tuple[int, str | None]:
    """How many distinct states can be reached, and the first broken rule with the state that it grew from."""
    nothing = (None,) * bounds.hosts
    start = Gathering(QUEUED, 0, nothing, nothing)
    seen, todo = {start}, [start]
    before: dict[Gathering, set[Gathering]] = defaultdict(set)
    while todo:
        state = todo.pop()
        try:
            for following, is_kill in following_states(state, bounds):
                require(following, bounds)
                if not is_kill:
                    before[following].add(state)
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        except Broken as broken:
            return len(seen), f"{broken}\n  from {state}"
    return len(seen), left_for_ever(seen, before)


def left_for_ever(seen: set[Gathering], before: dict[Gathering, set[Gathering]]) -> str | None:
    """A state from which nothing but another kill leads to an end with every slot free."""
    todo = [state for state in seen if state.status == DONE and not any((*state.rows, *state.processes))]
    good = set(todo)
    while todo:
        for state in before[todo.pop()] - good:
            good.add(state)
            todo.append(state)
    left = seen - good
    return f"slots or a job are left for ever\n  in {next(iter(left))}" if left else None


def following_states(state: Gathering, bounds: HostBounds) -> Iterator[tuple[Gathering, bool]]:
    """And whether somebody was killed on the way."""
    for following in steps(state, bounds):
        yield following, False
    for host in range(bounds.hosts):
        if state.processes[host] is not None:
            yield put(state, host, process=None), True  # its rows stay


def steps(state: Gathering, bounds: HostBounds) -> Iterator[Gathering]:
    for host in range(bounds.hosts):
        process, row = state.processes[host], state.rows[host]
        if process is not None:
            yield from acts(state, host, process, bounds)
        elif row is None and state.status == QUEUED:
            yield from takes_part(state, host, bounds)
        if row is not None and row.kind == OFFER:
            yield put(state, host, row=Row(OLD_OFFER))  # nobody has renewed it for a while
        if row is not None and row.kind == OLD_OFFER and bounds.stands("old offers are dropped"):
            yield put(state, host, row=None)
    leader = any(p and p.does == LEADS and p.attempt == state.attempt for p in state.processes)
    if state.status == RUNNING and not leader:
        yield ended(state, QUEUED, bounds)  # its lease has run out: reaped


def takes_part(state: Gathering, host: int, bounds: HostBounds) -> Iterator[Gathering]:
    """The transaction of a claim."""
    others = offers(state, host, bounds)
    if len(others) >= bounds.needed - 1:
        yield from led(state, host, others, bounds)
    else:
        yield put(state, host, row=Row(OFFER), process=Process(WAITS))


def offers(state: Gathering, host: int, bounds: HostBounds) -> list[int]:
    kinds = (OFFER,) if bounds.stands("only fresh offers count") else (OFFER, OLD_OFFER)
    return [
        other
        for other, row in enumerate(state.rows)
        if other != host and row is not None and row.kind in kinds
    ]


def led(state: Gathering, host: int, others: list[int], bounds: HostBounds) -> Iterator[Gathering]:
    """All hosts in one transaction: this one leads."""
    if state.attempt >= bounds.attempts:
        return
    number = state.attempt + 1
    after = put(
        state._replace(status=RUNNING, attempt=number), host, row=None, process=Process(LEADS, number)
    )
    for other in others[: bounds.needed - 1] if bounds.stands("offers are taken with the attempt") else ():
        if state.processes[other] is None and state.rows[other] == Row(OLD_OFFER):
            raise Broken("an attempt began with a host that is gone")
        after = put(after, other, row=Row(MEMBER, number))
    yield after


def acts(state: Gathering, host: int, process: Process, bounds: HostBounds) -> Iterator[Gathering]:
    row = state.rows[host]
    if process.does == WAITS:
        yield from looks(state, host, row, process, bounds)
        if row is None or row.kind != MEMBER:
            yield put(state, host, row=None, process=None)  # withdrawn
    elif process.does == TRAINS:
        is_over = row is None or row.attempt != process.attempt
        if is_over and bounds.stands("a part ends with its attempt"):
            yield put(state, host, process=None)
    elif process.attempt != state.attempt or state.status != RUNNING:
        yield put(state, host, process=None)  # StaleAttempt
    elif all_train(state):
        yield ended(put(state, host, process=None), DONE, bounds)
        yield ended(put(state, host, process=None), QUEUED, bounds)  # it has landed
    elif bounds.stands("loss of a host ends the attempt"):
        yield ended(put(state, host, process=None), QUEUED, bounds)


def all_train(state: Gathering) -> bool:
    """Whether the ranks of all hosts can make a step together."""
    return all(
        process is not None and (process.does, process.attempt) == (TRAINS, row.attempt)
        for row, process in zip(state.rows, state.processes, strict=True)
        if row is not None and row.kind == MEMBER
    )


def looks(
    state: Gathering, host: int, row: Row | None, process: Process, bounds: HostBounds
) -> Iterator[Gathering]:
    """What a host that offers finds: it belongs to an attempt, it leads one, or it waits on."""
    if row is not None and row.kind == MEMBER:
        yield put(state, host, process=Process(TRAINS, row.attempt))
        return
    others = offers(state, host, bounds)
    if process.saw is not None:  # it looked, and acts on it later
        if state.status == RUNNING:
            raise Broken("a second host leads")
        yield from led(state, host, sorted(process.saw), bounds)
    elif row is not None and state.status == QUEUED and len(others) >= bounds.needed - 1:
        if bounds.stands("the job's row is locked"):
            yield from led(state, host, others, bounds)
        else:
            yield put(state, host, process=Process(WAITS, saw=frozenset(others)))
    elif row is not None and row.kind == OLD_OFFER:
        yield put(state, host, row=Row(OFFER))


def ended(state: Gathering, status: int, bounds: HostBounds) -> Gathering:
    """The transaction that ends the attempt: the parts of all hosts go with it."""
    if status == QUEUED and state.attempt >= bounds.attempts:
        status = DONE  # the search is bounded
    rows = state.rows
    if bounds.stands("an end takes the parts of all hosts"):
        rows = tuple(None if row and row.kind == MEMBER else row for row in rows)
    return state._replace(status=status, rows=rows)


def put(state: Gathering, host: int, **changes) -> Gathering:
    rows, processes = list(state.rows), list(state.processes)
    if "row" in changes:
        rows[host] = changes["row"]
    if "process" in changes:
        processes[host] = changes["process"]
    return state._replace(rows=tuple(rows), processes=tuple(processes))


def require(state: Gathering, bounds: HostBounds) -> None:
    members = [row for row in state.rows if row and row.kind == MEMBER]
    if state.status == RUNNING and len(members) != bounds.needed - 1:
        raise Broken("an attempt runs with a part of its hosts")
    if state.status != RUNNING and members:
        raise Broken("a host belongs to an attempt that is over")
    leaders = [p for p in state.processes if p and p.does == LEADS and p.attempt == state.attempt]
    if len(leaders) > 1:
        raise Broken("two hosts lead one attempt")
    for row, process in zip(state.rows, state.processes, strict=True):
        if row and process and process.does == LEADS and row.attempt == process.attempt == state.attempt:
            raise Broken("a host leads and belongs to one attempt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--needed", type=int, default=3)
    bounds = HostBounds(**vars(parser.parse_args()))
    started = time.monotonic()
    states, broken = search_hosts(bounds)
    print(f"{states} distinct states of {bounds.hosts} hosts, {time.monotonic() - started:.0f} s")
    print(f"violations: {broken or 0}")
    for guard in HOST_GUARDS:
        found = search_hosts(replace(bounds, hosts=2, needed=2, without=frozenset({guard})))[1]
        print(f"without {guard!r}: {found.splitlines()[0] if found else 'NOT NOTICED'}")


if __name__ == "__main__":
    main()
