"""The chain of a job's states: a link for each that was stored or hashed, written with what it belongs to."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from heimdall.certificate.chain import Link, digest_of_environment
from heimdall.trainer.protocol import StagedCheckpoint, StateHashed
from training.models import Attempt, ChainLink, Checkpoint, TrainingJob


def add_stored(job: TrainingJob, attempt: Attempt, staged: StagedCheckpoint, row: Checkpoint) -> None:
    """Under the lock of the job's row, as all of these are: the next number is nobody else's."""
    _add(job, attempt, staged, row)


def add_hashed(job: TrainingJob, attempt: Attempt, state: StateHashed) -> None:
    """A report that is sent again brings it a second time."""
    known = ChainLink.objects.filter(job=job, attempt=attempt.number, step=state.step, digest=state.digest)
    if not known.exists():
        _add(job, attempt, state, None)


def add_brought(job: TrainingJob, row: Checkpoint) -> None:
    """A state that the job begins with and did not train itself."""
    _write(
        job,
        row,
        attempt=0,
        step=row.step,
        epoch=row.epoch,
        digest=row.digest,
        header_sha256=row.header_sha256,
    )


def links_of(job: TrainingJob) -> list[Link]:
    """As the certificate has them."""
    names = list(Link.__dataclass_fields__)
    rows = ChainLink.objects.filter(job=job).order_by("number").values(*names)
    return [Link(**row) for row in rows.iterator(chunk_size=2_000)]


def _add(
    job: TrainingJob, attempt: Attempt, state: StagedCheckpoint | StateHashed, row: Checkpoint | None
) -> None:
    environment = attempt.environment
    _write(
        job,
        row,
        attempt=attempt.number,
        step=state.step,
        epoch=state.epoch,
        samples=state.samples,
        digest=state.digest,
        header_sha256=row.header_sha256 if row else "",
        came_from=state.came_from,
        came_from_step=state.came_from_step,
        code=str(environment.get("recipe_digest", "")),
        data=str(environment.get("data_fingerprint", "")),
        environment=digest_of_environment(environment),
    )


def _write(job: TrainingJob, row: Checkpoint | None, **facts: Any) -> None:
    newest = ChainLink.objects.filter(job=job).order_by("-number").values_list("number", "seal").first()
    number, before = newest or (0, "")
    plain = {"samples": None, "came_from": "", "came_from_step": 0, "code": "", "data": "", "environment": ""}
    link = Link(number=number + 1, generation=job.generation, before=before, **(plain | facts)).sealed()
    ChainLink.objects.create(job=job, checkpoint=row, **asdict(link))
