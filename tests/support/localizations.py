"""A localization that was really trained, if only for a moment, and its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heimdall import codec
from heimdall.recipes import registry
from tests.recipes.in_process import train
from tests.support.staged import staged_as
from training import services
from training.models import TrainingJob
from training.store import checkpoints

TINY = {
    "epochs": 1, "batch_size": 64, "samples": 300, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "dropout": 0.0, "validation_split": 0.3, "checkpoint_every_minutes": 0.0,
}  # fmt: skip


def trained_parts(folder: Path) -> tuple[dict[str, Any], Any]:
    """The state at the end, and what the epoch reported."""
    run = train("localization", TINY, folder)
    return run.parts, run.of("epoch")[-1]


def completed_localization(
    owner: Any, node: Any, trained: tuple[dict[str, Any], Any], folder: Path
) -> TrainingJob:
    """A job that has completed, with a checkpoint of what was trained."""
    parts, epoch = trained
    job = services.submit(by=owner, job_name="where", recipe="localization", config=TINY).job
    attempt = services.claim(node, slot=0, pid=1)
    rows = [{"step": epoch.step, "epoch": 1, "loss": 1.0}]
    services.beat(attempt, services.Report(steps=rows, epochs=[epoch]))
    about = {
        "recipe": registry.get("localization").package,
        "config": job.config,
        "step": epoch.step,
        "epoch": 1,
    }
    saved = codec.save(folder / "staged", parts, about)
    staged = staged_as(saved, step=epoch.step, epoch=1, kinds=("best", "final"), val_loss=-1.5)
    services.complete(attempt, checkpoints.store(staged, job_id=job.pk, attempt=attempt.number))
    job.refresh_from_db()
    return job
