"""Who goes on: asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning",
MLSys 2020, algorithm 2), and hyperband's brackets (Li et al., JMLR 18, 2018).

A job stops at each rung by an exact pause. Of those that reached a rung the best 1/eta go on, as soon as they are
known; the others rest, and go on later should they come to belong to the best. Nobody's work is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.sweeps.plan import SweepPlan


@dataclass(frozen=True)
class MemberState:
    """A job of the sweep, as the rungs see it."""

    number: int
    bracket: int = 0
    epochs: int = 0
    is_resting: bool = False
    """Paused at a rung: it may be told to go on."""
    is_active: bool = False
    """Queued or running."""
    values: Mapping[int, float] = field(default_factory=dict)
    """The metric at the end of an epoch, for each rung that it reached. Lower is better."""


def num_brackets(plan: SweepPlan, epochs: int) -> int:
    """One for successive halving; hyperband has one for each place where the first rung may be."""
    if plan.stopper != "hyperband":
        return 1
    count = 1
    while plan.first_epochs * plan.eta**count <= epochs:
        count += 1
    return count


def rungs(plan: SweepPlan, epochs: int, bracket: int = 0) -> list[int]:
    """The epochs after which a job of the bracket rests; the last one is the end of the training. Without a stopper
    there is the end alone."""
    if not plan.is_staged:
        return [epochs]
    at = plan.first_epochs * plan.eta**bracket
    found = []
    while at < epochs:
        found.append(at)
        at *= plan.eta
    return [*found, epochs]


def bracket_of(number: int, plan: SweepPlan, epochs: int) -> int:
    """Jobs are spread over the brackets so that each gets about the same number of epochs: a bracket whose first rung
    is `eta` times farther gets a job where the one before gets `eta`."""
    count = num_brackets(plan, epochs)
    if count == 1:
        return 0
    weights = [plan.eta ** (count - 1 - bracket) for bracket in range(count)]
    place = number % sum(weights)
    for bracket, weight in enumerate(weights):
        if place < weight:
            return bracket
        place -= weight
    raise AssertionError("a place lies within the sum of the weights")


def next_rung(plan: SweepPlan, epochs: int, bracket: int, finished: int) -> int | None:
    """Where a job that goes on rests the next time; None where nothing stops it before its end."""
    later = [rung for rung in rungs(plan, epochs, bracket) if rung > finished]
    return later[0] if later and later[0] < epochs else None


def promotable(plan: SweepPlan, epochs: int, members: Sequence[MemberState]) -> list[int]:
    """The numbers of resting jobs that have earned more epochs: those at the highest rung first, the best first."""
    found: list[int] = []
    for bracket in sorted({member.bracket for member in members}):
        ours = [member for member in members if member.bracket == bracket]
        for rung in reversed(rungs(plan, epochs, bracket)[:-1]):
            ranked = sorted(
                (member for member in ours if rung in member.values),
                key=lambda member: (member.values[rung], member.number),
            )
            best = ranked[: len(ranked) // plan.eta]
            found += [m.number for m in best if m.is_resting and m.epochs == rung and m.number not in found]
    return found
