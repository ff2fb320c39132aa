"""A bundle that comes from elsewhere becomes a completed job with one checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from heimdall.recipes import registry
from training.lifecycle import Answer, JobType, Status
from training.models import Artifact, Checkpoint, Metric, TrainingJob, checkpoint_storage
from training.services import chain
from training.services.column_values import index_config, note_values
from training.services.rollback import newest_of
from training.services.storable import finite, storable
from training.services.transition import Result, add_event
from training.store import bundles, checkpoints
from training.store.bundles import BadBundle, Bundle

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
    _refuse_twice(name)
    with checkpoints.unavailable("store", name):
        check = checkpoints.is_checkpoint(bundle.size, bundle.header_sha256)
        checkpoints.take(checkpoint_storage(), name, path, size=bundle.size, check=check)
    try:
        with transaction.atomic():
            job = _job(bundle, facts, by)
            _row(job, bundle, facts, name)
            _show(job, facts)
            add_event(
                job, "import", f"Imported by {by} from a bundle.", by=by, data={"digest": bundle.digest}
            )
    except IntegrityError:
        _refuse_twice(name)  # somebody else brought it in meanwhile
        raise
    return Result(job, Answer.DONE, f"The bundle is job {job.pk}.")


def _refuse_twice(name: str) -> None:
    known = Checkpoint.objects.filter(file=name).values_list("job_id", flat=True).first()
    if known is not None:
        raise BadBundle(f"This bundle is here already: it is job {known}.")


def _facts(bundle: Bundle) -> dict[str, Any]:
    """What the header says, as far as it is what a header says: it may come from anybody."""
    about = bundle.about
    facts = {name: about.get(name) for name in ("step", "epoch")}
    for name, value in facts.items():
        if type(value) is not int or not 0 <= value <= MAX_STEPS:
            raise BadBundle(f"The bundle does not say at which {name} it was taken.")
    if facts["epoch"] > bundle.config["epochs"]:
        raise BadBundle("The bundle is of an epoch beyond the last one of its config.")
    metrics = about.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    name = "".join(sign for sign in str(about.get("job_name") or "") if sign.isprintable()).strip()
    noted = {part: about[part] for part in ("environment", "artifact") if isinstance(about.get(part), dict)}
    return facts | {
        "metrics": {
            storable(name): _number(value)
            for name, value in metrics.items()
            if value is None or type(value) in {int, float}
        },
        "val_loss": _number(about.get("val_loss")),
        "job_name": (name or "Imported model")[:NAME_LENGTH],
        "environment": finite(noted.get("environment", {})),
        "artifact": finite(noted.get("artifact")),
    }


def _number(value: Any) -> float | None:
    """None for what is no number, or none that a database holds."""
    return value if type(value) in {int, float} and abs(value) <= sys.float_info.max else None


def _job(bundle: Bundle, facts: dict[str, Any], by: Any) -> TrainingJob:
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
        environment=facts["environment"],
        event_seq=1,
        **newest_of(facts["metrics"]),
    )
    job.refresh_from_db()
    index_config(job)
    note_values(job, [facts["metrics"]])
    return job


def _row(job: TrainingJob, bundle: Bundle, facts: dict[str, Any], name: str) -> None:
    row = Checkpoint.objects.create(
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
    chain.add_brought(job, row)


def _show(job: TrainingJob, facts: dict[str, Any]) -> None:
    """The values of the epoch, and what the recipe showed of it."""
    where = {"job": job, "step": facts["step"], "epoch": facts["epoch"]}
    Metric.objects.create(**where, attempt=0, values={}, epoch_values=facts["metrics"])
    shown = facts["artifact"]
    if shown is not None and len(str(shown)) <= MAX_ARTIFACT_BYTES:
        Artifact.objects.create(**where, content=shown)
