"""The life of a job: its statuses, its stop requests, and the one table of rules.

Everything that changes a job, offers a button or draws the diagram reads RULES. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class Status(StrEnum):
    """Where a job is. A fact, never a request."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stop(StrEnum):
    """What a running job has been asked to do. A request, never a fact."""

    NONE = ""
    PAUSE = "pause"
    PREEMPT = "preempt"
    CANCEL = "cancel"


class StopAt(StrEnum):
    """When a stop request takes effect."""

    NONE = ""
    EPOCH = "epoch"
    STEP = "step"


class JobType(StrEnum):
    TRAINING = "training"
    SYNTHETIC_DATA = "synthetic_data"
    EXTERNAL = "external"  # it is trained somewhere else and only reports here


class Verb(StrEnum):
    SUBMIT = "submit"
    CLAIM = "claim"
    PAUSE = "pause"
    RESUME = "resume"
    RESTART = "restart"
    CANCEL = "cancel"
    DISCARD = "discard"
    DELETE = "delete"
    PREEMPT = "preempt"
    LAND = "land"
    COMPLETE = "complete"
    FAIL = "fail"
    CRASH = "crash"
    REAP = "reap"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
DELETED = "deleted"  # where `delete` leads: no status, the row is gone

USER_VERBS = (Verb.PAUSE, Verb.RESUME, Verb.RESTART, Verb.CANCEL, Verb.DISCARD, Verb.DELETE)


@dataclass(frozen=True)
class Facts:
    """What the guards may know about a job, as it was read together with its status."""

    job_type: JobType = JobType.TRAINING
    has_checkpoint: bool = False  # a stored checkpoint that has not failed its check
    ever_stored: bool = False  # any checkpoint row at all, quarantined ones included
    has_dataset: bool = True  # that it can write its data to


@dataclass(frozen=True)
class Guard:
    """A named condition on the facts, and the sentence that refuses when it does not hold."""

    name: str
    holds: Callable[[Facts], bool]
    refusal: str


PAUSABLE = Guard(
    "pausable",
    lambda facts: facts.job_type is not JobType.SYNTHETIC_DATA,
    "Cannot pause synthetic data generation jobs.",
)
TRAINED_HERE = Guard(
    "trained_here",
    lambda facts: facts.job_type is not JobType.EXTERNAL,
    "This job is trained somewhere else and only reports here: stop it or start it there. Cancelling it "
    "means that nothing more is taken from it.",
)
HAS_A_START = Guard(
    "has_a_start",
    lambda facts: facts.has_checkpoint or not facts.ever_stored,
    "None of this job's checkpoints passed its check, so there is nothing to resume from; "
    "restart begins again at step 0.",
)


HAS_A_DATASET = Guard(
    "has_a_dataset",
    lambda facts: facts.has_dataset,
    "The dataset that this job wrote was deleted; clone the job to make the data anew.",
)


class Answer(StrEnum):
    """How a verb that was accepted answers."""

    DONE = "done"  # it is so at once
    NOTED = "noted"  # a request was written down, or the job was queued
    ALREADY = "already"  # it was so before; nothing was written


@dataclass(frozen=True)
class Rule:
    """One row of the table: what a verb does to a job in one state."""

    to_status: Status | str
    to_stop: Stop
    answer: Answer = Answer.DONE
    guards: tuple[Guard, ...] = ()

    @property
    def writes(self) -> bool:
        return self.answer is not Answer.ALREADY


State = tuple[Status, Stop]
RUNNING_STATES: tuple[State, ...] = tuple((Status.RUNNING, stop) for stop in Stop)

_Q = (Status.QUEUED, Stop.NONE)
_R = (Status.RUNNING, Stop.NONE)
_R_PAUSE = (Status.RUNNING, Stop.PAUSE)
_R_PREEMPT = (Status.RUNNING, Stop.PREEMPT)
_R_CANCEL = (Status.RUNNING, Stop.CANCEL)
_P = (Status.PAUSED, Stop.NONE)
_C = (Status.COMPLETED, Stop.NONE)
_F = (Status.FAILED, Stop.NONE)
_X = (Status.CANCELLED, Stop.NONE)

STATES: tuple[State, ...] = (_Q, _R, _R_PAUSE, _R_PREEMPT, _R_CANCEL, _P, _C, _F, _X)


def _to(state: State, answer: Answer = Answer.DONE, *guards: Guard) -> Rule:
    return Rule(state[0], state[1], answer, guards)


RULES: dict[tuple[Verb, Status, Stop], Rule] = {
    # A person or a program asks.
    (Verb.PAUSE, *_R): _to(_R_PAUSE, Answer.NOTED, PAUSABLE, TRAINED_HERE),
    (Verb.PAUSE, *_R_PAUSE): _to(_R_PAUSE, Answer.NOTED, PAUSABLE, TRAINED_HERE),  # again, or epoch -> step
    (Verb.PAUSE, *_R_PREEMPT): _to(_R_PAUSE, Answer.NOTED, PAUSABLE, TRAINED_HERE),
    (Verb.PAUSE, *_Q): _to(_P, Answer.DONE, PAUSABLE, TRAINED_HERE),
    (Verb.PAUSE, *_P): _to(_P, Answer.ALREADY, PAUSABLE, TRAINED_HERE),
    (Verb.RESUME, *_P): _to(_Q, Answer.NOTED, TRAINED_HERE, HAS_A_START),
    (Verb.RESUME, *_F): _to(_Q, Answer.NOTED, TRAINED_HERE, HAS_A_START, HAS_A_DATASET),
    (Verb.RESUME, *_X): _to(_Q, Answer.NOTED, TRAINED_HERE, HAS_A_START, HAS_A_DATASET),
    (Verb.RESUME, *_R_PAUSE): _to(_R, Answer.DONE),  # the request is withdrawn
    (Verb.RESTART, *_F): _to(_Q, Answer.NOTED, TRAINED_HERE, HAS_A_DATASET),
    (Verb.RESTART, *_X): _to(_Q, Answer.NOTED, TRAINED_HERE, HAS_A_DATASET),
    (Verb.CANCEL, *_Q): _to(_X),
    (Verb.CANCEL, *_R): _to(_R_CANCEL, Answer.NOTED),
    (Verb.CANCEL, *_R_PAUSE): _to(_R_CANCEL, Answer.NOTED),
    (Verb.CANCEL, *_R_PREEMPT): _to(_R_CANCEL, Answer.NOTED),
    (Verb.CANCEL, *_R_CANCEL): _to(_R_CANCEL, Answer.ALREADY),
    (Verb.CANCEL, *_X): _to(_X, Answer.ALREADY),
    (Verb.DISCARD, *_P): _to(_X),
    (Verb.DELETE, *_C): Rule(DELETED, Stop.NONE),
    (Verb.DELETE, *_F): Rule(DELETED, Stop.NONE),
    (Verb.DELETE, *_X): Rule(DELETED, Stop.NONE),
    # The scheduler and the workers act. An external job is begun running, and completes or fails as it reports;
    # its cancellation lands in the transaction that asks for it.
    (Verb.CLAIM, *_Q): _to(_R, Answer.DONE, TRAINED_HERE),
    (Verb.PREEMPT, *_R): _to(_R_PREEMPT, Answer.NOTED, TRAINED_HERE),
    (Verb.LAND, *_R): _to(_Q, Answer.DONE, TRAINED_HERE),  # a drain, or a pause withdrawn too late to go on
    (Verb.LAND, *_R_PAUSE): _to(_P, Answer.DONE, PAUSABLE, TRAINED_HERE),
    (Verb.LAND, *_R_PREEMPT): _to(_Q, Answer.DONE, TRAINED_HERE),
    (Verb.LAND, *_R_CANCEL): _to(_X),
    (Verb.COMPLETE, *_R): _to(_C),
    (Verb.COMPLETE, *_R_PAUSE): _to(_C),
    (Verb.COMPLETE, *_R_PREEMPT): _to(_C),
    (Verb.COMPLETE, *_R_CANCEL): _to(_C),
    (Verb.FAIL, *_R): _to(_F),
    (Verb.FAIL, *_R_PAUSE): _to(_F),
    (Verb.FAIL, *_R_PREEMPT): _to(_F),
    (Verb.FAIL, *_R_CANCEL): _to(_X),
}
# A lost attempt, whether its trainer died under the supervisor's eyes (crash) or its lease ran out (reap).
for _verb in (Verb.CRASH, Verb.REAP):
    RULES |= {
        (_verb, *_R): _to(_Q, Answer.DONE, TRAINED_HERE),
        (_verb, *_R_PAUSE): _to(_P, Answer.DONE, PAUSABLE, TRAINED_HERE),
        (_verb, *_R_PREEMPT): _to(_Q, Answer.DONE, TRAINED_HERE),
        (_verb, *_R_CANCEL): _to(_X, Answer.DONE, TRAINED_HERE),
    }


_TRAINED_HERE_ALONE = frozenset({Verb.PAUSE, Verb.RESUME, Verb.RESTART, Verb.DISCARD})


def rule(verb: Verb, status: Status, stop: Stop) -> Rule | None:
    return RULES.get((verb, status, stop))


def refusal(verb: Verb, status: Status, stop: Stop, facts: Facts) -> str | None:
    """The sentence that refuses the verb, or None where it is allowed."""
    if verb is Verb.PAUSE and not PAUSABLE.holds(facts):
        return PAUSABLE.refusal  # in every state: the sentence people will look for
    if verb in _TRAINED_HERE_ALONE and not TRAINED_HERE.holds(facts):
        return TRAINED_HERE.refusal
    found = rule(verb, status, stop)
    if found is None:
        return f"Cannot {verb} a {describe(status, stop)} job; {verb} is possible from: {_sources(verb)}."
    return next((guard.refusal for guard in found.guards if not guard.holds(facts)), None)


@cache
def offered(status: Status, stop: Stop, facts: Facts) -> tuple[Verb, ...]:
    """The verbs that a button may offer: allowed, and they change something."""
    return tuple(verb for verb in USER_VERBS if _changes(verb, status, stop, facts))


def changed_by(verb: Verb) -> tuple[Status, ...]:
    """The statuses in which the verb may change something; a guard or a stop may still refuse it."""
    return tuple(
        dict.fromkeys(status for of, status, stop in RULES if of is verb and RULES[of, status, stop].writes)
    )


def describe(status: Status, stop: Stop) -> str:
    words = {Stop.PAUSE: "pausing", Stop.PREEMPT: "preempted", Stop.CANCEL: "cancelling"}
    return words.get(stop, str(status)) if status is Status.RUNNING else str(status)


def _changes(verb: Verb, status: Status, stop: Stop, facts: Facts) -> bool:
    found = rule(verb, status, stop)
    return found is not None and found.writes and refusal(verb, status, stop, facts) is None


def _sources(verb: Verb) -> str:
    found = (
        describe(status, stop) for of, status, stop in RULES if of is verb and RULES[of, status, stop].writes
    )
    return ", ".join(dict.fromkeys(found)) or "nowhere"
