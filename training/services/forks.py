"""New jobs from others: clone (the same settings, from nothing) and fork (from a checkpoint, with some changed).

The new job gets a copy of the checkpoint's file, so that nothing that is done to its parent can touch it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction

from heimdall.errors import InvalidConfig, InvalidInput
from training import policy
from training.errors import NotFound
from training.fields import NAME_LENGTH
from training.lifecycle import JobType
from training.models import (
    Checkpoint,
    TrainingJob,
    checkpoint_storage,
)
from training.services import chain, limits, programs
from training.services.submitting import submit
from training.services.transition import Result
from training.store import checkpoints

TRAINING, WEIGHTS = "training", "weights"
CARRIES = (TRAINING, WEIGHTS)
# The shared settings that the state is made for: with another value it would not fit, or mean something else.
_BOUND_TO_STATE = {
    "batch_size": "the place in the data is counted in batches",
    "drop_last": "the place in the data is counted in batches",
    "grad_accumulation": "the schedule counts steps of that many batches",
    "validation_split": "the data would be divided anew",
    "seed": "the order of the data follows from it",
    "optimizer": "the moments are the other optimizer's",
    "precision": "the scaler's state belongs to it",
}


def clone(
    job: TrainingJob,
    *,
    by: Any,
    config: dict[str, Any] | None = None,
    program: dict[str, Any] | None = None,
    code: str = "",
    secrets: dict[str, str] | None = None,
    **about: Any,
) -> Result:
    """A new job with this one's settings, some of them changed, that begins from nothing. about: as in submit.

    program, code: in the place of this one's, where it runs a program.
    """
    policy.require(by, policy.SEE, job)
    if job.job_type == JobType.EXTERNAL:
        raise InvalidInput({"job": [f"Job {job.pk} is trained somewhere else: start another one there."]})
    usual = {"job_name": named_after(job, "copy"), "pool": job.pool}
    given = {name: value for name, value in about.items() if value is not None}
    what = _what_it_runs(job, by=by, program=program, code=code, secrets=secrets)
    return submit(by=by, config=job.config | (config or {}), parent=job, **what, **usual | given)


def fork(
    job: TrainingJob,
    *,
    by: Any,
    checkpoint: int | None = None,
    carry: str = TRAINING,
    config: dict[str, Any] | None = None,
    program: dict[str, Any] | None = None,
    code: str = "",
    secrets: dict[str, str] | None = None,
    job_name: str = "",
    description: str = "",
    team: Group | None = None,
    priority: int = 0,
    pool: str | None = None,
    tags: Any = (),
    on_made: Callable[[Result], object] = lambda result: None,
) -> Result:
    """A new job from a checkpoint of this one (without a number the newest good one), with some settings changed.

    carry=training: everything goes on, the counts too. carry=weights: the weights alone, from step 0.
    program, code: in the place of this one's, where it runs a program.
    `on_made` is called in the transaction that makes the job: where it raises, no job is made.
    """
    policy.require(by, policy.SEE, job)
    if carry not in CARRIES:
        raise InvalidInput({"carry": [f"{str(carry)[:60]!r} is neither 'training' nor 'weights'."]})
    if carry == WEIGHTS and programs.is_program(job):
        raise InvalidInput(
            {
                "carry": [
                    "A program takes its whole state: Heimdall does not know which of it are the weights."
                ]
            }
        )
    what = _what_it_runs(job, by=by, program=program, code=code, secrets=secrets)
    start = _start(job, checkpoint)
    wanted = job.config | (config if isinstance(config, dict) else {})
    if carry == TRAINING:
        _refuse_what_the_state_is_made_for(job, wanted, start)
    limits.require_room_in_store(by, start.size)
    copied = _copy(start, needs_optimizer=carry == TRAINING and not programs.is_program(job))
    try:
        with transaction.atomic():
            result = submit(
                by=by,
                job_name=job_name or named_after(job, "fork"),
                config=wanted,
                **what,
                description=description,
                team=team,
                priority=priority,
                pool=job.pool if pool is None else pool,
                tags=tags,
                parent=job,
            )
            _begin(result.job, job, start, carry, copied)
            forked = _result(result, job, start, carry)
            on_made(forked)
    except BaseException:
        checkpoints.delete_file(copied.name)
        raise
    return forked


def _what_it_runs(
    job: TrainingJob, *, by: Any, program: dict[str, Any] | None, code: str, secrets: dict[str, str] | None
) -> dict[str, Any]:
    """The recipe, or the program with its code. Secrets go along with those who gave them alone."""
    if not programs.is_program(job):
        if program is not None or code:
            raise InvalidInput({"program": [f"Job {job.pk} runs a recipe: submit a program as a new job."]})
        return {"recipe": job.recipe, "secrets": secrets}
    known = job.code.digest if job.code else ""
    return {
        "program": job.program if program is None else program,
        "code": code or known,
        "secrets": secrets,
        "kept_secrets": job.secrets if job.owner_id == by.pk else "",
    }


def _start(job: TrainingJob, pk: int | None) -> Checkpoint:
    if job.job_type != JobType.TRAINING:
        kind = (
            "that makes data" if job.job_type == JobType.SYNTHETIC_DATA else "that is trained somewhere else"
        )
        raise InvalidInput({"checkpoint": [f"A job {kind} has no checkpoint to begin from."]})
    found = Checkpoint.objects.filter(job=job, pk=pk).first() if pk is not None else job.latest_checkpoint
    if found is None:
        says = f"Job {job.pk} has no checkpoint{'' if pk is None else f' {pk}'} to begin from."
        raise InvalidInput({"checkpoint": [says]})
    if found.quarantined_at is not None:
        raise InvalidInput(
            {"checkpoint": [f"Checkpoint {found.pk} failed its check: {found.quarantine_reason}"]}
        )
    return found


def _refuse_what_the_state_is_made_for(job: TrainingJob, wanted: dict[str, Any], start: Checkpoint) -> None:
    refused = {
        name: [f"{name} cannot change here, because {why}. Leave it, or carry the weights alone."]
        for name, why in _BOUND_TO_STATE.items()
        if name in job.config and wanted.get(name) != job.config[name]
    }
    if bool(wanted.get("ema_decay")) != bool(job.config.get("ema_decay")):
        refused["ema_decay"] = [
            "An average of the weights cannot begin or end here. Carry the weights alone."
        ]
    epochs = wanted.get("epochs")
    if isinstance(epochs, int) and epochs <= start.epoch:
        refused["epochs"] = [
            f"The checkpoint has finished {start.epoch} epochs: take more than that, or carry the weights alone."
        ]
    if refused:
        raise InvalidConfig(refused)


def _result(submitted: Result, parent: TrainingJob, start: Checkpoint, carry: str) -> Result:
    new = submitted.job
    goes = "goes on from" if carry == TRAINING else "begins with the weights of"
    return Result(
        new,
        submitted.answer,
        f"Job {new.pk} is queued and {goes} step {start.step} of job {parent.pk}.",
        task_id=submitted.task_id,
        resumes_from={"epoch": new.current_epoch, "step": new.current_step},
    )


class _Copied(NamedTuple):
    name: str
    header_sha256: str


def _copy(start: Checkpoint, *, needs_optimizer: bool) -> _Copied:
    """The file under a new name in the store, read and checked on the way."""
    local = checkpoints.fetch(start, settings.SCRATCH_DIR)
    try:
        if needs_optimizer and "optimizer" not in checkpoints.parts_in(local):
            raise InvalidInput(
                {
                    "carry": [
                        "This is an imported model: it holds weights and no training. Carry the weights alone."
                    ]
                }
            )
        header_sha256 = checkpoints.header_sha256(local)  # the old row may not know it
        check = checkpoints.is_checkpoint(start.size, header_sha256)
        name = checkpoints.keep(checkpoint_storage(), _names(start), local, size=start.size, check=check)
        return _Copied(name, header_sha256)
    finally:
        local.unlink(missing_ok=True)


def _names(start: Checkpoint) -> Iterator[str]:
    while True:
        yield f"jobs/forked/s{start.step}-{start.digest[:24]}-{uuid.uuid4().hex[:12]}.safetensors"


def _begin(job: TrainingJob, parent: TrainingJob, start: Checkpoint, carry: str, copied: _Copied) -> None:
    """Put the new job where its state is. Its own row of the file is what it can always go back to."""
    if not Checkpoint.objects.filter(pk=start.pk).exists():
        raise NotFound(f"Checkpoint {start.pk} is gone by now.")
    goes_on = carry == TRAINING
    place = {"step": start.step, "epoch": start.epoch} if goes_on else {"step": 0, "epoch": 0}
    row = Checkpoint.objects.create(
        job=job,
        attempt=0,
        kinds=[Checkpoint.Kind.START],
        file=copied.name,
        size=start.size,
        digest=start.digest,
        header_sha256=copied.header_sha256,
        val_loss=start.val_loss if goes_on else None,
        **place,
    )
    chain.add_brought(job, row)
    origin = {
        "job": parent.pk,
        "checkpoint": start.pk,
        "step": start.step,
        "epoch": start.epoch,
        "digest": start.digest,
        "carries": carry,
        "start": row.pk,
    }
    TrainingJob.objects.filter(pk=job.pk).update(
        origin=origin,
        latest_checkpoint=row,
        checkpoint=copied.name,
        checkpoints_stored=1,
        current_step=place["step"],
        current_epoch=place["epoch"],
        environment=_kept_environment(parent, job) if goes_on else {},
    )
    job.refresh_from_db()


def _kept_environment(parent: TrainingJob, job: TrainingJob) -> dict[str, Any]:
    """What the training stands on goes on with it, so that other data or another machine is noticed."""
    renewed = {"device", "device_name"} if job.config.get("device") != parent.config.get("device") else set()
    if job.config.get("deterministic") != parent.config.get("deterministic"):
        renewed.add("deterministic")
    return {name: value for name, value in parent.environment.items() if name not in renewed}


def named_after(job: TrainingJob, what: str) -> str:
    return f"{job.job_name[: NAME_LENGTH - len(what) - 3]} ({what})"
