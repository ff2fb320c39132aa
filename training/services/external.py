"""Jobs that are trained somewhere else and only report here: begun, reported for, ended. Nobody here claims one.

Whoever reports may be cut off and say things again: a step is taken once, and so is each part of the log. The row of
the job is locked first, so of a report and a cancellation one comes before the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from heimdall.trainer.protocol import EpochDone
from training import fields, policy
from training.errors import LimitReached, TransitionRefused
from training.lifecycle import Answer, JobType, Status, Verb
from training.models import Attempt, Metric, TrainingJob
from training.services import limits, outbox, tokens
from training.services.column_values import index_config
from training.services.editing import index_tags
from training.services.leases import close_attempt
from training.services.reporting import Report, columns_of, num_log_characters, write_report
from training.services.storable import MAX_DETAIL_CHARACTERS, MAX_SENTENCE_CHARACTERS, finite, shortened
from training.services.transition import Raced, Result, add_event, move, read_job, write

MOST_ROWS = 500  # of one report
MOST_VALUES = 100  # of one row
MOST_ROWS_OF_A_JOB = 2_000_000
MOST_STEPS, MOST_EPOCHS = 2**53, 2**31 - 1
LONGEST_LOG = 256 * 1024  # of one report
SOURCE_LENGTH = 100
OUTCOMES = {"completed": Verb.COMPLETE, "failed": Verb.FAIL}
FAILURE = "reported_failure"
_TRIES = 20


@dataclass(frozen=True)
class OutsideReport:
    """What was done since the last report; `rows` in the order of their steps.

    A row has `step` and `values`, and may have `epoch`, `at` (Unix time) and, where it closes its epoch,
    `epoch_values`. `sent_at` is the reporter's clock as it sends: its times are moved by what that is off.
    """

    rows: Sequence[dict[str, Any]] = ()
    log: str = ""
    log_begins_at: int | None = None  # so many characters came before; without it the log goes on
    total_steps: int | None = None
    total_epochs: int | None = None
    phase: str | None = None
    sent_at: float | None = None


def begin_external(
    *,
    by: Any,
    job_name: str,
    config: dict[str, Any] | None = None,
    description: str = "",
    team: Group | None = None,
    tags: Any = (),
    source: str = "",
    environment: dict[str, Any] | None = None,
    total_epochs: int = 0,
    total_steps: int | None = None,
) -> Result:
    """A job that takes reports from now on. source: the machine that it is trained on, in words."""
    about = {
        "job_name": fields.clean_name(job_name),
        "description": fields.clean_description(description),
        "team": policy.clean_team(team, by),
        "tags": fields.clean_tags(tags),
        "config": registry.free_form(config or {}),
        "environment": registry.free_form(environment or {}),
        "total_epochs": total_epochs,
        "total_steps": total_steps,
    }
    place = (
        fields.clean_name(source, field="source", of="the machine", longest=SOURCE_LENGTH) if source else ""
    )
    with transaction.atomic():
        limits.require_room_in_queue(by)
        job = TrainingJob.objects.create(
            **about,
            owner=by,
            job_type=JobType.EXTERNAL,
            status=Status.RUNNING,
            attempt=1,
            event_seq=1,
            started_at=Now(),
            heard_at=Now(),
        )
        job.refresh_from_db()
        index_tags(job)
        index_config(job)
        Attempt.objects.create(job=job, number=1, node_name=place or "elsewhere")
        where = f"on {place}" if place else "somewhere else"
        event = add_event(job, "submit", f"Begun by {by}: it is trained {where} and reports here.", by=by)
        outbox.announce(job, event, Verb.SUBMIT)
    return Result(job, Answer.DONE, f"Job {job.pk} takes reports.")


def report_external(job: TrainingJob, told: OutsideReport, *, by: Any) -> tuple[TrainingJob, int]:
    """Write a report down: the job as it is then, and how many rows were new. A step is taken once.

    Raises TransitionRefused for a job that takes none (any more), and LimitReached for one that has too many.
    """
    _require_sense(told.rows)
    with transaction.atomic():
        seen = _reporting_job(job, by)
        attempt = Attempt.objects.get(job=seen, number=seen.attempt)
        new = _new_rows(told.rows, seen, attempt)
        times = _times(new, told.sent_at)
        report = Report(
            steps=[_as_trained(row, seen) for row in new],
            times=times,
            epochs=_epochs(told.rows, seen),
            log=_new_log(told, seen, attempt),
            phase=told.phase,
            step_seconds=_step_seconds(new, times),
        )
        totals = {"total_steps": told.total_steps, "total_epochs": told.total_epochs}
        # What was not said stays as it was, such as the training's loss beside an epoch's val_loss.
        of_steps = columns_of(replace(report, epochs=()), seen)
        changes = _said(of_steps) | _said(columns_of(report, seen)) | _said(totals)
        write(seen, changes | {"heard_at": Now()}, num_events=0)
        _keep_rows_of_epochs(report, seen)
        write_report(report, seen, attempt)
    return seen, len(new)


def _said(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value is not None}


def end_external(job: TrainingJob, *, by: Any, outcome: str, message: str = "") -> Result:
    """The training has ended where it is trained. Twice the same end is one."""
    verb = OUTCOMES[outcome]
    for _ in range(_TRIES):
        try:
            with transaction.atomic():
                seen = _external_job(job, by)
                if seen.status == outcome:
                    return Result(seen, Answer.ALREADY, f"Job {seen.pk} is {outcome} already.")
                _require_open(seen)
                return _end(seen, verb, by, message)
        except Raced:
            continue
    raise TransitionRefused(f"Job {job.pk} changes too fast; try again.")


def _end(job: TrainingJob, verb: Verb, by: Any, message: str) -> Result:
    changes: dict[str, Any] = {}
    sentence = "Completed, as it reported."
    if verb is Verb.FAIL:
        text = message.strip() or "It failed where it is trained, and did not say why."
        changes = {"error_code": FAILURE, "error_message": shortened(text, MAX_DETAIL_CHARACTERS)}
        sentence = f"Failed: {shortened(text.splitlines()[0], MAX_SENTENCE_CHARACTERS)}"
    move(job, verb, by=by, message=sentence, changes=changes)
    close_attempt(job, job.attempt, verb, detail=changes.get("error_message", ""))
    return Result(job, Answer.DONE, f"Job {job.pk} is {job.status}.")


def issue_token(job: TrainingJob, *, by: Any) -> str:
    """The value of a token that reports for this job and does nothing else, until the job is over."""
    with transaction.atomic():
        return tokens.issue_job_token(_reporting_job(job, by))


def _external_job(job: TrainingJob, by: Any) -> TrainingJob:
    seen = read_job(job.pk, lock=True)
    policy.require(by, policy.REPORT, seen)
    if seen.job_type != JobType.EXTERNAL:
        raise TransitionRefused(
            f"Job {seen.pk} is trained by a worker of this server, which reports for it. Begin a job of your own for "
            "what is trained somewhere else (POST /v1/training/jobs/external).",
            status=seen.status,
            stop=seen.stop,
            stop_at=seen.stop_at,
        )
    return seen


def _reporting_job(job: TrainingJob, by: Any) -> TrainingJob:
    seen = _external_job(job, by)
    _require_open(seen)
    return seen


def _require_open(seen: TrainingJob) -> None:
    if seen.status != Status.RUNNING:
        raise TransitionRefused(
            f"Job {seen.pk} is {seen.status}: nothing more is taken from it.", status=seen.status
        )


def _require_sense(rows: Sequence[dict[str, Any]]) -> None:
    """Steps that grow, and epochs that do not fall."""
    for number, (before, row) in enumerate(pairwise(rows), start=1):
        if row["step"] <= before["step"]:
            raise InvalidInput({f"rows.{number}.step": ["Give each step once, in the order of the steps."]})
        if row.get("epoch", 0) < before.get("epoch", 0):
            raise InvalidInput({f"rows.{number}.epoch": ["Epochs only grow with the steps."]})


def _new_rows(rows: Sequence[dict[str, Any]], job: TrainingJob, attempt: Attempt) -> list[dict[str, Any]]:
    """Without those of steps that were taken before: they are said again."""
    new = [row for row in rows if row["step"] > job.current_step]
    if attempt.steps_executed + len(new) > MOST_ROWS_OF_A_JOB:
        raise LimitReached(
            {"rows": [f"Job {job.pk} has {MOST_ROWS_OF_A_JOB:,} rows: report only every tenth step, say."]}
        )
    return new


def _as_trained(row: dict[str, Any], job: TrainingJob) -> dict[str, Any]:
    """As a trainer would say it."""
    return {**row.get("values", {}), "step": row["step"], "epoch": row.get("epoch", job.current_epoch)}


def _times(rows: Sequence[dict[str, Any]], sent_at: float | None) -> list[datetime]:
    """When each row was measured, by our clock and not by the reporter's; nothing lies in the future."""
    now = timezone.now().timestamp()
    off = 0.0 if sent_at is None else now - sent_at
    return [datetime.fromtimestamp(max(0.0, min(row.get("at", now) + off, now)), UTC) for row in rows]


def _step_seconds(rows: Sequence[dict[str, Any]], times: Sequence[datetime]) -> float | None:
    if len(rows) < 2:
        return None
    seconds = (times[-1] - times[0]).total_seconds() / (rows[-1]["step"] - rows[0]["step"])
    return seconds if seconds > 0 else None


def _epochs(rows: Sequence[dict[str, Any]], job: TrainingJob) -> list[EpochDone]:
    """The epochs that these rows close, with the best of all so far: the one with the strictly lowest val_loss."""
    newest, best_epoch, best_loss = job.current_epoch, job.best_epoch, job.best_val_loss
    found = []
    for row in rows:
        epoch = row.get("epoch", 0)
        if "epoch_values" not in row or epoch <= newest:
            continue
        newest, loss = epoch, finite(row["epoch_values"].get("val_loss"))
        is_best = isinstance(loss, int | float) and (best_loss is None or loss < best_loss)
        if is_best:
            best_epoch, best_loss = epoch, loss
        found.append(EpochDone(row["step"], epoch, row["epoch_values"], best_epoch, best_loss, is_best))
    return found


def _keep_rows_of_epochs(report: Report, job: TrainingJob) -> None:
    """An epoch is often closed by a step that was reported before, or that had no values of its own."""
    steps = {row["step"] for row in report.steps}
    rows = [
        Metric(job=job, step=one.step, epoch=one.epoch, attempt=job.attempt)
        for one in report.epochs
        if one.step not in steps
    ]
    Metric.objects.bulk_create(rows, ignore_conflicts=True)


def _new_log(told: OutsideReport, job: TrainingJob, attempt: Attempt) -> str:
    """What of the log is new. Where some of it never came, the log says so; beyond the limit nothing is kept."""
    taken = attempt.log_characters
    begins_at = taken if told.log_begins_at is None else told.log_begins_at
    ends_at = begins_at + len(told.log)
    if not told.log or ends_at <= taken:
        return ""
    Attempt.objects.filter(pk=attempt.pk).update(log_characters=ends_at)
    gap = f"\n... {begins_at - taken} characters never came ...\n" if begins_at > taken else ""
    text = gap + told.log[max(taken - begins_at, 0) :]
    room = int(settings.LOG_MB * 1e6) - num_log_characters(job)
    return text if len(text) <= room else ""
