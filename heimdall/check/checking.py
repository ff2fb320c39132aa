"""The check: a program trained straight twice, stopped, and with a restore that was broken on purpose.

Equal results alone prove nothing: a check that cannot fail would pass, too. So each thing that a restore brings back
is left out once (generators, schedules, optimizers, the position in the data). Where that changes nothing, the check
says that it could not have noticed.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heimdall.check.compare import differing_parts, first_difference, first_other_step
from heimdall.check.rehearsal import NotRehearsed, Rehearsal, Rehearsed

STEPS = 30
EXACT, DIFFERS, NOT_REPEATABLE, NOT_CHECKED = "exact", "differs", "not_repeatable", "not_checked"
# What a restore can leave out, and what it is called.
CONTROLS = {
    "generators": "the random generators",
    "schedule": "the learning rate schedule",
    "optimizer": "the optimizer's state",
    "position": "the position in the data",
}


_NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")


@dataclass(frozen=True)
class BrokenRestore:
    """One broken restore. `was_noticed`: it led to another result, so that the check can see such a fault."""

    name: str
    left_out: str
    """What it left out, in words."""
    was_noticed: bool
    why_not: str = ""


@dataclass
class CheckResult:
    """What a check found. `verdict` is one of exact, differs, not_repeatable, not_checked."""

    verdict: str
    reason: str
    steps: int = 0
    stops: list[list[int]] = field(default_factory=list)
    first_step: int | None = None
    first_value: str = ""
    first_state: str = ""
    parts: list[str] = field(default_factory=list)
    controls: list[BrokenRestore] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    values: str = ""
    """SHA-256 of what was logged in each step: with the same code it is another one for other data or settings."""

    @property
    def is_exact(self) -> bool:
        return self.verdict == EXACT

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(
    rehearsal: Rehearsal,
    *,
    steps: int = STEPS,
    seed: int = 0,
    say: Callable[[str], None] = lambda sentence: None,
) -> CheckResult:
    """Train `steps` steps straight and stopped, and compare the whole state and the values of each step."""
    try:
        say(f"training {steps} steps straight")
        straight = rehearsal.through([steps])
        say("once more, to see whether it can be repeated at all")
        again = rehearsal.through([steps])
    except NotRehearsed as error:
        return _not_checked(str(error))
    done = straight.step
    if done < 3:
        return CheckResult(
            NOT_CHECKED, f"The program ended after {done} steps: there is nothing to stop in.", steps=done
        )
    if (found := _compared(straight, again)) is not None:
        verdict = f"It differs from itself without any stop: {_cause_of_chance(found)}"
        return CheckResult(NOT_REPEATABLE, verdict, steps=done, environment=straight.environment, **found)
    return _stopped(rehearsal, straight, steps=steps, seed=seed, say=say)


def _stopped(
    rehearsal: Rehearsal, straight: Rehearsed, *, steps: int, seed: int, say: Callable[[str], None]
) -> CheckResult:
    plans = _plans(straight, seed=seed)
    for plan in plans:
        say(f"stopped after step {', '.join(map(str, plan))}, each time in a new process")
        try:
            found = _compared(straight, rehearsal.through([*plan, steps]))
        except NotRehearsed as error:
            return CheckResult(DIFFERS, f"It could not be resumed. {error}", steps=straight.step, stops=plans)
        if found is not None:
            return CheckResult(
                DIFFERS,
                _cause(found),
                steps=straight.step,
                stops=plans,
                environment=straight.environment,
                values=_digest_of_values(straight),
                **found,
            )
    controls = _controls(rehearsal, straight, steps=steps, say=say)
    unseen = [CONTROLS[one.name] for one in controls if not one.was_noticed]
    reason = "The same bits, however it was stopped."
    if unseen:
        reason += (
            f" Leaving out {' or '.join(unseen)} changed nothing: a fault there would not have been noticed."
        )
    return CheckResult(
        EXACT,
        reason,
        steps=straight.step,
        stops=plans,
        controls=controls,
        environment=straight.environment,
        values=_digest_of_values(straight),
    )


def _digest_of_values(straight: Rehearsed) -> str:
    """Heimdall does not see what a script reads; this stands for it."""
    return hashlib.sha256(json.dumps([straight.rows, straight.epochs], sort_keys=True).encode()).hexdigest()


def _not_checked(why: str) -> CheckResult:
    """Why it could not even be trained straight. torch names an operation whose results vary from run to run."""
    found = _NOT_DETERMINISTIC.search(why)
    if found is None:
        return CheckResult(NOT_CHECKED, why)
    return CheckResult(
        NOT_REPEATABLE,
        f"The operation {found[1]} is not deterministic: compute it in another way. With deterministic set to false "
        "in the settings it is trained all the same, and called approximate.",
    )


def _plans(straight: Rehearsed, *, seed: int) -> list[list[int]]:
    """Where to stop: at two random steps, after the very first, and at an epoch's end where one was seen."""
    draw = random.Random(seed)
    inside = range(2, straight.step)
    plans = [sorted(draw.sample(inside, min(2, len(inside)))), [1]]
    ends = [epoch["step"] for epoch in straight.epochs if epoch["step"] < straight.step]
    return [*plans, [ends[0]]] if ends else plans


def _controls(
    rehearsal: Rehearsal, straight: Rehearsed, *, steps: int, say: Callable[[str], None]
) -> list[BrokenRestore]:
    start = rehearsal.through([_inside_an_epoch(straight)])
    found = []
    for name, shown in CONTROLS.items():
        say(f"resumed with a broken restore: without {shown}")
        try:
            differs = _compared(straight, rehearsal.without([name], start, steps)) is not None
        except NotRehearsed:
            differs = True
        found.append(
            BrokenRestore(name, shown, differs, "" if differs else f"Without {shown} the result is the same.")
        )
    return found


def _inside_an_epoch(straight: Rehearsed) -> int:
    """A step about the middle that is no epoch's last: there the position in the data is the one to begin at."""
    ends = {epoch["step"] for epoch in straight.epochs}
    steps = range(1, straight.step)
    inside = [step for step in steps if step not in ends] or list(steps)
    return min(inside, key=lambda step: abs(step - straight.step // 2))


def _compared(straight: Rehearsed, other: Rehearsed) -> dict[str, Any] | None:
    """What differs; None where nothing does."""
    assert straight.checkpoint is not None
    assert other.checkpoint is not None
    step = first_other_step(straight.rows, other.rows)
    epoch = first_other_step(straight.epochs, other.epochs)
    state = "" if straight.digest == other.digest else first_difference(straight.checkpoint, other.checkpoint)
    if step is None and epoch is None and not state and straight.step == other.step:
        return None
    first = step or epoch or (None, "")
    parts = differing_parts(Path(straight.checkpoint), Path(other.checkpoint)) if state else []
    return {"first_step": first[0], "first_value": first[1], "first_state": state, "parts": parts}


def _where(found: dict[str, Any]) -> str:
    step = f"step {found['first_step']} ({found['first_value']})" if found["first_step"] else ""
    state = f"the state at {found['first_state']}" if found["first_state"] else ""
    return " and ".join(filter(None, (step, state))) or "the number of steps"


def _cause_of_chance(found: dict[str, Any]) -> str:
    return (
        f"{_where(found)} is another one each time. Something is drawn outside of the seeds (from os.urandom, the "
        "time, a generator that nobody seeds, the order of a set or of files), or an operation is not deterministic."
    )


def _cause(found: dict[str, Any]) -> str:
    parts = set(found["parts"])
    if not parts:
        likely = "state that is in no part decides what is logged: keep it with job.values() or job.keep()"
    elif parts <= {"rng", "position", "sources", "logged"}:
        likely = (
            "numbers are drawn in another order after a resume: while the script builds, or outside of seeds"
        )
    else:
        likely = "state that is in no part: name it in heimdall.attach(), job.keep() or job.values()"
    return f"After a stop {_where(found)} differs. Likely {likely}."
