"""What a job did, in sentences: "paused 3 h by anna", "crashed at step 1,950, went on from step 1,200"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from training.lifecycle import JobType, Status, Verb
from training.models import Attempt, TrainingJob
from training.queries.stretches import Stretch, stretches_of
from training.templatetags.heimdall import duration

MOST_LINES = 60
SHORTEST_WAIT = 1.0  # seconds that are worth a line
_DOING = {
    JobType.TRAINING: ("trains", "trained", "step"),
    JobType.SYNTHETIC_DATA: ("makes data", "made data for", "shard"),
}


@dataclass(frozen=True)
class Line:
    at: datetime
    words: str


def timeline_of(job: TrainingJob, attempts: list[Attempt]) -> list[Line]:
    """Newest first. attempts: its newest, as many as there are lines."""
    stretches = filter(_is_worth_it, stretches_of(job, attempts))
    told = [Line(stretch.begun_at, _words(stretch, job)) for stretch in stretches]
    return told[-MOST_LINES:][::-1]


def _is_worth_it(stretch: Stretch) -> bool:
    is_short = stretch.seconds is not None and stretch.seconds < SHORTEST_WAIT
    return not (stretch.status == Status.QUEUED and is_short)


def _words(stretch: Stretch, job: TrainingJob) -> str:
    match stretch.status:
        case Status.RUNNING:
            return _ran(stretch, *_DOING[JobType(job.job_type)])
        case Status.QUEUED:
            return f"Waited {duration(stretch.seconds)}" if stretch.ended_at else "Waits for a worker"
        case Status.PAUSED:
            return _rested("Paused", stretch, f" by {stretch.actor}" if stretch.actor else "")
    return _rested(stretch.status.capitalize(), stretch, f" by {stretch.actor}" if stretch.actor else "")


def _rested(word: str, stretch: Stretch, by: str) -> str:
    if stretch.ended_at is None:
        return f"{word}{by}"
    back = {Verb.RESUME: "resumed", Verb.RESTART: "restarted", Verb.DISCARD: "discarded"}.get(
        stretch.ended_by, ""
    )
    then = f", then {back}" if back else ""
    who = f" by {stretch.ended_actor}" if then and stretch.ended_actor not in {"", stretch.actor} else ""
    return f"{word} {duration(stretch.seconds)}{by}{then}{who}"


def _ran(stretch: Stretch, does: str, did: str, unit: str) -> str:
    where = f" on {stretch.node}" if stretch.node else ""
    if stretch.ended_at is None:
        return f"Attempt {stretch.attempt}: {does}{where}, from {unit} {stretch.step:,}"
    reached = max(stretch.reached or 0, stretch.step, stretch.ended_step)
    said = f"Attempt {stretch.attempt}: {did} {duration(stretch.seconds)}{where}"
    said += f", {unit}s {stretch.step:,} to {reached:,}"
    if stretch.ended_by in {Verb.CRASH, Verb.REAP}:
        word = "crashed" if stretch.ended_by == Verb.CRASH else "was lost"
        goes_on = (
            f", resumed from {unit} {stretch.ended_step:,}" if stretch.ended_status == Status.QUEUED else ""
        )
        return f"{said}, {word}{goes_on}"
    return f"{said}, {'stopped for another' if stretch.ended_status == Status.QUEUED else stretch.word}"
