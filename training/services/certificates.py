"""The certificate of a job, as it is now: made anew each time that it is asked for, and signed."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from django.utils import timezone

from heimdall import __version__
from heimdall.certificate.document import statement_of
from heimdall.certificate.envelope import signed
from heimdall.certificate.weights import model_tensors
from training import policy
from training.errors import BadCheckpoint, NotFound, StorageUnavailable
from training.models import Attempt, ChainLink, Checkpoint, ExactnessCheck, PublicCertificate, TrainingJob
from training.services import chain, replays
from training.services.exactness import subject_of
from training.services.signing import signing_key
from training.services.transition import hold
from training.store import checkpoints

logger = logging.getLogger(__name__)
_OF_ATTEMPT = ("number", "started_step", "ended_step", "steps_executed", "outcome")


def certificate(job: TrainingJob) -> bytes:
    """The signed document. Raises NotFound where the job has no state to speak of."""
    key = signing_key()
    return signed(statement(job, issuer={"key": key.public, "software": f"heimdall {__version__}"}), key)


def statement(job: TrainingJob, *, issuer: dict[str, Any]) -> dict[str, Any]:
    links = chain.links_of(job)
    if not links:
        raise NotFound(
            f"Job {job.pk} has no certificate: it has no checkpoint whose origin was written down."
        )
    attempts = list(Attempt.objects.filter(job=job).order_by("number"))
    return statement_of(
        job=_about(job),
        issuer=issuer,
        issued_at=timezone.now().isoformat(timespec="seconds").replace("+00:00", "Z"),
        attempts=[_attempt(one) for one in attempts],
        environments=[one.environment for one in attempts],
        chain=links,
        head=replays.head_of(job, links),
        replays=replays.facts_of(job),
        check=_check(job),
        files=_files(job),
        weights=_weights(job),
    )


def name_of(job: TrainingJob) -> str:
    return f"job-{job.pk}-certificate.json"


def publish(job: TrainingJob, *, by: Any) -> PublicCertificate:
    """Give the badge and the certificate an address that everybody may open who knows it."""
    policy.require(by, policy.EDIT, job)
    hold(job)
    made = {"token": secrets.token_urlsafe(24), "user": by}
    return PublicCertificate.objects.get_or_create(job=job, defaults=made)[0]


def unpublish(job: TrainingJob, *, by: Any) -> None:
    policy.require(by, policy.EDIT, job)
    PublicCertificate.objects.filter(job=job).delete()


def published(token: str) -> TrainingJob:
    found = PublicCertificate.objects.select_related("job").filter(token=token).first()
    if found is None:
        raise NotFound("There is no certificate at this address, or none any more.")
    return found.job


def _about(job: TrainingJob) -> dict[str, Any]:
    program = {name: value for name, value in job.program.items() if name not in ("variables", "secrets")}
    return {
        "number": job.pk,
        "name": job.job_name,
        "recipe": job.recipe,
        "program": program or None,
        "config": job.config,
        "status": job.status,
        "generation": job.generation,
        "steps": job.current_step,
        "epochs": job.current_epoch,
        "origin": job.origin,
        "data": job.dataset.fingerprint if job.dataset else "",
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    facts = {name: getattr(attempt, name) for name in _OF_ATTEMPT}
    facts["started_at"] = attempt.started_at.isoformat()
    facts["ended_at"] = attempt.ended_at.isoformat() if attempt.ended_at else None
    return facts


def _check(job: TrainingJob) -> dict[str, Any] | None:
    """The newest check of this very script, with the restores that it broke on purpose."""
    if not job.program or job.code is None or job.program["kind"] != "script":
        return None
    done = ExactnessCheck.objects.filter(subject=subject_of(job.program, job.code)).exclude(verdict="")
    places = [(job.environment.get("device_name"), job.environment.get("torch"))]
    found = next((one for one in done if (one.device_name, one.torch) in places), None)
    if found is None:
        return None
    names = ("verdict", "reason", "steps", "stops", "controls", "environment")
    return {name: found.result.get(name) for name in names} | {"verdict": found.verdict}


def _files(job: TrainingJob) -> list[dict[str, Any]]:
    rows = Checkpoint.objects.filter(job=job, quarantined_at=None, link__isnull=False)
    return [
        {
            "name": f"job-{job.pk}/step-{row.step}-{row.header_sha256[:12]}.safetensors",
            "digest": row.digest,
            "header_sha256": row.header_sha256,
        }
        for row in rows
    ]


def _weights(job: TrainingJob) -> dict[str, str]:
    """The model's tensors where the job stands. Without them the certificate still speaks of whole checkpoints."""
    head = job.latest_checkpoint
    if head is None or not ChainLink.objects.filter(checkpoint=head).exists():
        return {}
    try:
        return model_tensors(checkpoints.tensor_hashes(head))
    except (StorageUnavailable, BadCheckpoint) as error:
        logger.warning("Job %s: its certificate names no weights: %s", job.pk, error)
        return {}
