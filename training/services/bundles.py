"""A bundle that comes from elsewhere becomes a completed job with one checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from training import bundles, checkpoints
from training.bundles import BadBundle, Bundle
from training.lifecycle import Answer, JobType, Status
from training.models import Artifact, Checkpoint, Metric, TrainingJob, checkpoint_storage
from training.recipes import registry
from training.services.attempts import finite
from training.services.transition import Result, add_event, newest_of

MAX_STEPS = 2**53
NAME_LENGTH = 200
MAX_ARTIFACT_BYTES = 64 * 1024


def import_bundle(path: Path, *, by: Any) -> Result:
    """Take the file over: it is moved into the store. Raises BadBundle for what is none."""
    bundle = bundles.read(path)
    if registry.get(bundle.recipe).job_type != JobType.TRAINING:
        raise BadBundle(f"The recipe {bundle.recipe} trains no model.")
    facts = _facts(bundle)
    name = f"jobs/imported/{bundle.header_sha256[:32]}.safetensors"
    if Checkpoint.objects.filter(file=name).exists():
        known = Checkpoint.objects.get(file=name).job_id
        raise BadBundle(f"This bundle is here already: it is job {known}.")
    with checkpoints.unavailable("store", name):
        check = checkpoints.is_checkpoint(bundle.size, bundle.header_sha256)
        checkpoints.take(checkpoint_storage(), name, path, size=bundle.size, check=check)
    with transaction.atomic():
        job = _job(bundle, facts, by)
        Checkpoint.objects.create(
            job=job,
            attempt=0,
            step=facts["step"],
            epoch=facts["epoch"],
            kinds=[Checkpoint.Kind.BEST],
            file=name,
            size=bundle.size,
            digest=bundle.digest,
            header_sha256=bundle.header_sha256,
            val_loss=facts["val_loss"],
            pinned=True,
        )
        _show(job, bundle, facts)
        add_event(job, "import", f"Imported by {by} from a bundle.", by=by, data={"digest": bundle.digest})
    return Result(job, Answer.DONE, f"The bundle is job {job.pk}.")


def _facts(bundle: Bundle) -> dict[str, Any]:
    about = bundle.about
    facts = {name: about.get(name) for name in ("step", "epoch")}
    for name, value in facts.items():
        if type(value) is not int or not 0 <= value <= MAX_STEPS:
            raise BadBundle(f"The bundle does not say at which {name} it was taken.")
    if facts["epoch"] > bundle.config["epochs"]:
        raise BadBundle("The bundle is of an epoch beyond the last one of its config.")
    metrics = about.get("metrics")
    metrics = finite(metrics) if isinstance(metrics, dict) else {}
    numbers = {name: value for name, value in metrics.items() if value is None or type(value) in {int, float}}
    loss = about.get("val_loss")
    loss = float(loss) if type(loss) in {int, float} and math.isfinite(loss) else None  # type: ignore[arg-type]
    name = "".join(sign for sign in str(about.get("job_name") or "") if sign.isprintable()).strip()
    return facts | {
        "metrics": numbers,
        "val_loss": loss,
        "job_name": (name or "Imported model")[:NAME_LENGTH],
    }


def _job(bundle: Bundle, facts: dict[str, Any], by: Any) -> TrainingJob:
    environment = bundle.about.get("environment")
    job = TrainingJob.objects.create(
        job_name=facts["job_name"],
        description="Imported: its training took place elsewhere.",
        job_type=JobType.TRAINING,
        recipe=bundle.recipe,
        config=bundle.config,
        owner=by,
        status=Status.COMPLETED,
        completed_at=Now(),
        total_epochs=bundle.config["epochs"],
        current_epoch=facts["epoch"],
        current_step=facts["step"],
        best_epoch=facts["epoch"],
        best_val_loss=facts["val_loss"],
        learning_rate=facts["metrics"].get("learning_rate"),
        environment=environment if isinstance(environment, dict) else {},
        event_seq=1,
        **newest_of(facts["metrics"]),
    )
    job.refresh_from_db()
    return job


def _show(job: TrainingJob, bundle: Bundle, facts: dict[str, Any]) -> None:
    """The values of the epoch, and what the recipe showed of it."""
    where = {"job": job, "step": facts["step"], "epoch": facts["epoch"]}
    Metric.objects.create(**where, attempt=0, values={}, epoch_values=facts["metrics"])
    shown = bundle.about.get("artifact")
    if isinstance(shown, dict) and len(str(shown)) <= MAX_ARTIFACT_BYTES:
        Artifact.objects.create(**where, content=shown)
