"""Bundles: a trained model to take away. One safetensors file with its weights and normalisation, and in its header
the recipe, the config, the epoch's values, the data's fingerprint and the digests.

It is made of a checkpoint's own bytes, each under its check, without torch. A bundle is read by the same tools as a
checkpoint; what it lacks is what only a resume needs.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from heimdall import codec
from heimdall.errors import HeimdallError, InvalidInput
from heimdall.recipes import registry
from training.errors import BadCheckpoint
from training.models import Artifact, Checkpoint, Metric, PublicCertificate, TrainingJob
from training.store import checkpoints

FORMAT = 1
MAX_ABOUT_BYTES = 1024 * 1024
MODEL = "model"
# Where the weights stand in a checkpoint: the averaged ones are what was validated.
_MODELS = (("ema", "model"), ("model",))


class BadBundle(HeimdallError):
    """The file is no bundle, is damaged, or is of a recipe that is not here."""

    code = "bad_bundle"


@dataclass(frozen=True)
class Bundle:
    """What a checked file says of itself."""

    about: dict[str, Any]
    recipe: str
    config: dict[str, Any]
    digest: str
    header_sha256: str
    size: int


def best_checkpoint(job: TrainingJob) -> Checkpoint | None:
    """The one with the lowest validation loss; without validation the newest."""
    good = Checkpoint.objects.filter(job=job, generation=job.generation, quarantined_at=None)
    validated = good.filter(val_loss__isnull=False).order_by("val_loss", "step").first()
    return validated or good.order_by("-step", "-id").first()


def write(checkpoint: Checkpoint, folder: Path) -> Path:
    """The bundle of a checkpoint as a new file in the folder, which the caller removes."""
    if not checkpoint.job.recipe:
        raise BadBundle(
            f"Job {checkpoint.job_id} runs a program, and a bundle is of a recipe: download its checkpoint and its "
            "code instead."
        )
    source = checkpoints.fetch(checkpoint, folder)
    target = folder / f"bundle-{checkpoint.pk}-{uuid.uuid4().hex[:8]}.safetensors"
    try:
        about = _about(checkpoint, codec.read_about(source))
        for place in _MODELS:
            try:
                codec.extract(source, target, parts={MODEL: place} | _own_parts(source), about=about)
                return target
            except KeyError:
                continue  # no average of the weights
        raise BadCheckpoint(f"Checkpoint {checkpoint.pk} holds no model.")
    except codec.InvalidCheckpoint as error:
        raise BadCheckpoint(f"Checkpoint {checkpoint.pk}: {error}") from error
    finally:
        source.unlink(missing_ok=True)


def name_of(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.job.recipe}-job-{checkpoint.job_id}-step-{checkpoint.step}.bundle.safetensors"


def read(path: Path) -> Bundle:
    """Check a file in full. Raises BadBundle with a sentence."""
    try:
        info = codec.verify(path.resolve())
    except codec.InvalidCheckpoint as error:
        raise BadBundle(f"This is no bundle of Heimdall, or it is damaged: {error}.") from error
    about = info.about
    if about.get("bundle") != FORMAT:
        found = "a checkpoint" if "bundle" not in about else "a bundle of another format"
        raise BadBundle(f"This is {found}, not a bundle of format {FORMAT}.")
    if len(json.dumps(about)) > MAX_ABOUT_BYTES or "\\u0000" in json.dumps(about):
        raise BadBundle("The bundle's header holds what no bundle says of itself.")
    recipe, config = _recipe_of(about)
    return Bundle(about, recipe, config, info.digest, info.header_sha256, info.size)


def _recipe_of(about: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The recipe here that the bundle is of, and its config as this recipe has it."""
    name, package, config = about.get("recipe_name"), about.get("recipe"), about.get("config")
    if name not in registry.names() or registry.get(name).package != package:
        raise BadBundle(f"The bundle is of the recipe {str(package)[:200]}, which is not here.")
    try:
        return name, registry.validate(name, config if isinstance(config, dict) else {})
    except InvalidInput as error:
        raise BadBundle(
            f"The bundle's settings do not fit the recipe {name} that is here: {error}"
        ) from error


def _about(checkpoint: Checkpoint, about: dict[str, Any]) -> dict[str, Any]:
    job = checkpoint.job
    row = Metric.objects.filter(job=job, step=checkpoint.step, epoch_values__isnull=False).first()
    shown = Artifact.objects.filter(job=job, step=checkpoint.step).first()
    kept = ("recipe", "config", "environment", "step", "epoch", "created_at")
    return {name: about.get(name) for name in kept} | {
        "bundle": FORMAT,
        "recipe_name": job.recipe,
        "job_name": job.job_name,
        "description": job.description,
        "val_loss": checkpoint.val_loss,
        "metrics": row.epoch_values if row else {},
        "artifact": shown.content if shown else None,
        "dataset": _dataset(job),
        "checkpoint": {"digest": checkpoint.digest, "header_sha256": checkpoint.header_sha256},
        "certificate": _certificate(job),
    }


def _certificate(job: TrainingJob) -> str | None:
    """Where everybody finds it, as long as its owner wishes."""
    token = PublicCertificate.objects.filter(job=job).values_list("token", flat=True).first()
    return f"{settings.PUBLIC_URL}/certificates/{token}.json" if token else None


def _dataset(job: TrainingJob) -> dict[str, Any] | None:
    if job.dataset is None:
        return None
    return {
        "name": job.dataset.name,
        "fingerprint": job.dataset.fingerprint,
        "samples": job.dataset.samples,
        "config": job.dataset.config,
    }


def _own_parts(source: Path) -> dict[str, tuple[str, ...]]:
    """The recipe's own parts, such as the scene that a localization network is for."""
    return {name: (name,) for name in codec.part_names(source) if name.startswith("recipe_")}
