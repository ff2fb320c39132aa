"""What people and programs ask for. Each verb checks who, checks from where, writes once and leaves an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from heimdall.errors import InvalidInput
from training import lifecycle, policy
from training.errors import TransitionRefused
from training.lifecycle import RULES, Answer, JobType, Rule, Status, Stop, StopAt, Verb
from training.models import (
    TrainingJob,
)
from training.policy import System
from training.services.deleting import apply_delete
from training.services.leases import close_attempt
from training.services.resuming import apply_restart, apply_resume
from training.services.transition import Raced, Result, move, read_job

SCHEDULER = System("scheduler")
_TRIES = 20  # a verb that loses this many races in a row gives up


def pause(job: TrainingJob, *, by: Any, at: str = "epoch") -> Result:
    """Ask a running job to pause, or pause a queued one at once. Raises InvalidInput for another `at`."""
    if at not in {StopAt.EPOCH, StopAt.STEP}:
        raise InvalidInput({"at": [f"{at!r} is neither 'epoch' nor 'step'."]})
    return _ask(Verb.PAUSE, job, by, lambda seen, rule: _pause(seen, by, StopAt(at)))


def resume(job: TrainingJob, *, by: Any, checkpoint: int | None = None) -> Result:
    """Queue a stopped job from its newest good checkpoint, or withdraw a pause that has not landed yet.

    From an older checkpoint (its number) what came after it is given up; the newer checkpoints stay for a while.
    """
    return _ask(Verb.RESUME, job, by, lambda seen, rule: apply_resume(seen, rule, by, checkpoint))


def restart(job: TrainingJob, *, by: Any) -> Result:
    """Queue a failed or cancelled job at step 0. Its checkpoints stay for the retention time."""
    return _ask(Verb.RESTART, job, by, lambda seen, rule: apply_restart(seen, by))


def cancel(job: TrainingJob, *, by: Any) -> Result:
    return _ask(Verb.CANCEL, job, by, lambda seen, rule: _cancel(seen, rule, by))


def discard(job: TrainingJob, *, by: Any) -> Result:
    """Give a paused job up. Its checkpoints stay for the retention time."""
    return _ask(Verb.DISCARD, job, by, lambda seen, rule: _discard(seen, by))


def delete(job: TrainingJob, *, by: Any) -> Result:
    """Remove a finished job with its history and its files. That somebody did so stays known."""
    return _ask(Verb.DELETE, job, by, lambda seen, rule: apply_delete(seen, by))


VERBS: dict[str, Callable[..., Result]] = {
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "cancel": cancel,
    "discard": discard,
    "delete": delete,
}


def preempt(job: TrainingJob, *, for_job: TrainingJob) -> bool:
    """Ask a running job to make room for one that goes first; False where it changed meanwhile."""
    why = "has a higher priority"
    if for_job.priority <= job.priority:
        why = f"waited for {for_job.fewest_devices} slots before"
    return _preempt(job, f"Makes room for job {for_job.pk}, which {why}.")


def resize(job: TrainingJob, *, ranks: int) -> bool:
    """Have an elastic job stop at its next step, to go on with so many ranks; False where it changed meanwhile."""
    return _preempt(job, f"Goes on with {ranks} rank{'s' if ranks > 1 else ''} in the place of {job.ranks}.")


def _preempt(job: TrainingJob, message: str) -> bool:
    if (Verb.PREEMPT, job.status, job.stop) not in RULES:
        return False
    try:
        with transaction.atomic():
            move(job, Verb.PREEMPT, by=SCHEDULER, message=message, stop_at=StopAt.STEP)
    except Raced:
        return False
    return True


def _ask(verb: Verb, job: TrainingJob, by: Any, act: Callable[[TrainingJob, Rule], Result]) -> Result:
    """Decide on the job as it is now; when somebody else was faster, read again and decide again."""
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                # A dataset that is just being deleted decides whether a job that wrote it goes on.
                seen = read_job(job.pk, lock=job.job_type == JobType.SYNTHETIC_DATA)
                policy.require(by, verb, seen)
                rule = _allowed(verb, seen, by)
                if not rule.writes:
                    return Result(seen, Answer.ALREADY, f"Job {seen.pk} is {_words(seen)} already.")
                return act(seen, rule)
        except Raced:
            continue
    raise TransitionRefused(f"Job {job.pk} changes too fast; try again.")


def _allowed(verb: Verb, job: TrainingJob, by: Any) -> Rule:
    status, stop = Status(job.status), Stop(job.stop)
    sentence = lifecycle.refusal(verb, status, stop, job.facts)
    if sentence:
        possible = (
            other for other in lifecycle.offered(status, stop, job.facts) if policy.may(by, other, job)
        )
        raise TransitionRefused(
            sentence, status=status, stop=stop, stop_at=job.stop_at, verbs=tuple(possible)
        )
    return lifecycle.RULES[verb, status, stop]


def _pause(job: TrainingJob, by: Any, at: StopAt) -> Result:
    if job.status == Status.QUEUED:
        move(job, Verb.PAUSE, by=by, message="Paused while queued.", changes={"not_before": None})
        return Result(job, Answer.DONE, f"Job {job.pk} is paused.")
    if (job.stop, job.stop_at) == (Stop.PAUSE, StopAt.STEP):
        at = StopAt.STEP  # a request may be strengthened, never weakened
    when = _when(job, at)
    if (job.stop, job.stop_at) != (Stop.PAUSE, at):
        move(job, Verb.PAUSE, by=by, message=f"Asked to pause {when}.", stop_at=at)
    return Result(job, Answer.NOTED, f"Job {job.pk} will pause {when}.")


def _when(job: TrainingJob, at: StopAt) -> str:
    """A command has neither steps nor epochs that Heimdall could wait for: it is sent its signal."""
    if job.program and job.program["kind"] == "command":
        return "now: it is asked to save and leave"
    return "at the next step" if at is StopAt.STEP else f"at the end of epoch {job.current_epoch + 1}"


def _cancel(job: TrainingJob, rule: Rule, by: Any) -> Result:
    if job.job_type == JobType.EXTERNAL:
        return _stop_listening(job, by)
    if rule.to_status == Status.CANCELLED:
        move(job, Verb.CANCEL, by=by, message="Cancelled while queued.")
        return Result(job, Answer.DONE, f"Job {job.pk} is cancelled.")
    move(job, Verb.CANCEL, by=by, message="Asked to cancel.", stop_at=StopAt.STEP)
    return Result(job, Answer.NOTED, f"Job {job.pk} will be cancelled at its next step.")


def _stop_listening(job: TrainingJob, by: Any) -> Result:
    """No worker is to be waited for: what is asked for is so at once."""
    move(job, Verb.CANCEL, by=by, message="Asked to cancel.", stop_at=StopAt.STEP)
    move(job, Verb.LAND, by=by, message="Cancelled: nothing more is taken from it.")
    close_attempt(job, job.attempt, Verb.LAND)
    sentence = f"Job {job.pk} is cancelled: nothing more is taken from it. Its training goes on where it is."
    return Result(job, Answer.DONE, sentence)


def _discard(job: TrainingJob, by: Any) -> Result:
    move(job, Verb.DISCARD, by=by, message="Discarded while paused.")
    return Result(job, Answer.DONE, f"Job {job.pk} is given up; its checkpoints stay for a while.")


def _words(job: TrainingJob) -> str:
    return lifecycle.describe(Status(job.status), Stop(job.stop))
