"""What a job did, in sentences: "paused 3 h by anna", "crashed at step 1,950, went on from step 1,200"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from training.lifecycle import JobType, Status, Verb
from training.models import Attempt, TrainingJob
from training.queries.status_intervals import StatusInterval, status_intervals_of
from training.templatetags.heimdall import duration

MOST_LINES = 60
SHORTEST_WAIT = 1.0  # seconds that are worth a line
_DOING = {
    JobType.TRAINING: ("trains", "trained", "step"),
    JobType.SYNTHETIC_DATA: ("makes data", "made data for", "shard"),
    JobType.EXTERNAL: ("reports", "reported for", "step"),
}


@dataclass(frozen=True)
class Line:
    at: datetime
    words: str


def timeline_of(job: TrainingJob, attempts: list[Attempt]) -> list[Line]:
    """Newest first. attempts: its newest, as many as there are lines."""
    intervals = filter(_is_worth_it, status_intervals_of(job, attempts))
    lines = [Line(interval.begun_at, _words(interval, job)) for interval in intervals]
    return lines[-MOST_LINES:][::-1]


def _is_worth_it(interval: StatusInterval) -> bool:
    is_short = interval.seconds is not None and interval.seconds < SHORTEST_WAIT
    return not (interval.status == Status.QUEUED and is_short)


def _words(interval: StatusInterval, job: TrainingJob) -> str:
    match interval.status:
        case Status.RUNNING:
            return _ran(interval, *_DOING[JobType(job.job_type)])
        case Status.QUEUED:
            return f"Waited {duration(interval.seconds)}" if interval.ended_at else "Waits for a worker"
        case Status.PAUSED:
            return _rested("Paused", interval, f" by {interval.actor}" if interval.actor else "")
    return _rested(interval.status.capitalize(), interval, f" by {interval.actor}" if interval.actor else "")


def _rested(word: str, interval: StatusInterval, by: str) -> str:
    if interval.ended_at is None:
        return f"{word}{by}"
    back = {Verb.RESUME: "resumed", Verb.RESTART: "restarted", Verb.DISCARD: "discarded"}.get(
        interval.ended_by, ""
    )
    then = f", then {back}" if back else ""
    who = f" by {interval.ended_actor}" if then and interval.ended_actor not in {"", interval.actor} else ""
    return f"{word} {duration(interval.seconds)}{by}{then}{who}"


def _ran(interval: StatusInterval, does: str, did: str, unit: str) -> str:
    where = f" on {interval.node}" if interval.node else ""
    if interval.ended_at is None:
        return f"Attempt {interval.attempt}: {does}{where}, from {unit} {interval.step:,}"
    reached = max(interval.reached or 0, interval.step, interval.ended_step)
    text = f"Attempt {interval.attempt}: {did} {duration(interval.seconds)}{where}"
    text += f", {unit}s {interval.step:,} to {reached:,}"
    if interval.ended_by in {Verb.CRASH, Verb.REAP}:
        word = "crashed" if interval.ended_by == Verb.CRASH else "was lost"
        goes_on = (
            f", resumed from {unit} {interval.ended_step:,}" if interval.ended_status == Status.QUEUED else ""
        )
        return f"{text}, {word}{goes_on}"
    return f"{text}, {'stopped for another' if interval.ended_status == Status.QUEUED else interval.word}"
