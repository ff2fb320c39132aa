"""Checkpoints with a file in the store, as an attempt would have left them."""

from __future__ import annotations

from pathlib import Path

import torch

from heimdall import codec
from training.models import Checkpoint, TrainingJob, checkpoint_storage
from training.store import checkpoints

WEIGHT = torch.arange(3.0)


def stored(
    job: TrainingJob,
    tmp_path: Path,
    *,
    step: int,
    epoch: int,
    parts: tuple[str, ...] = ("model", "optimizer"),
) -> Checkpoint:
    """A checkpoint with a file, as an attempt of this job would have stored it."""
    path = tmp_path / "staged.safetensors"
    info = codec.save(path, {name: {"weight": WEIGHT} for name in parts}, {"step": step})
    name = f"jobs/{job.pk}/a1/s{step}.safetensors"
    size = path.stat().st_size
    check = checkpoints.is_checkpoint(size, info.header_sha256)
    checkpoints.take(checkpoint_storage(), name, path, size=size, check=check)
    facts = {"size": size, "digest": info.digest, "header_sha256": info.header_sha256}
    row = Checkpoint.objects.create(
        job=job,
        attempt=1,
        step=step,
        epoch=epoch,
        kinds=["periodic"],
        file=name,
        generation=job.generation,
        **facts,
    )
    TrainingJob.objects.filter(pk=job.pk).update(latest_checkpoint=row, checkpoint=name, checkpoints_stored=1)
    job.refresh_from_db()
    return row
