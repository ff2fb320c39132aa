"""How trainers are started in this process, and what one is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings

from heimdall.trainer.forkserver import WarmLauncher
from heimdall.trainer.launch import Launcher
from heimdall.trainer.protocol import TrainerSpec
from training import services
from training.models import Attempt, Checkpoint, TrainingJob

SWITCH_SECONDS = 0.0005  # how long a message may wait for the loop to give way to its thread

_launcher: Launcher | None = None  # of this process; None starts trainers cold


def warm_up() -> None:
    """Get this process ready: to start trainers quickly, where the settings ask for it. Returns at once."""
    global _launcher
    sys.setswitchinterval(SWITCH_SECONDS)
    if settings.START_METHOD == "warm" and _launcher is None:
        launcher = WarmLauncher()
        launcher.warm_up()
        _launcher = launcher


def launcher() -> Launcher | None:
    return _launcher


def is_getting_ready() -> bool:
    """Whether a start would have to wait now, for a fork server that is still importing."""
    return isinstance(_launcher, WarmLauncher) and _launcher.is_getting_ready()


def spec(
    attempt: Attempt, *, slot: int, package: str, checkpoint: Path | None, staging: Path, scratch: Path
) -> TrainerSpec:
    """What the trainer of this attempt is told. `checkpoint` is the local copy of what it starts from."""
    job, start = attempt.job, attempt.started_from
    return TrainerSpec(
        package=package,
        config=job.config,
        staging=str(staging),
        about={"job": job.pk, "attempt": attempt.number, "job_name": job.job_name},
        checkpoint=str(checkpoint) if checkpoint else None,
        carry=_carried(job, start),
        device=job.config.get("device", "auto"),
        gpu=_gpu_of(slot),
        threads=job.environment.get("threads"),
        pinned=job.environment,
        expected=_expected(start),
        scratch=str(scratch),
        finished=services.finished_shards(job),
        name_title=f"heimdall trainer job {job.pk}",
    )


def _gpu_of(slot: int) -> int | str | None:
    """A slot beyond the last GPU has none, and must not take another's. Where none is known, CUDA may find one."""
    if not settings.GPUS:
        return None
    return settings.GPUS[slot] if slot < len(settings.GPUS) else ""


def _carried(job: TrainingJob, start: Checkpoint | None) -> str:
    """What is carried over from another job's checkpoint; nothing from one of this job's own."""
    is_start = start is not None and Checkpoint.Kind.START in start.kinds
    return str(job.origin["carries"]) if is_start and job.origin else ""


def _expected(start: Checkpoint | None) -> dict[str, Any]:
    return {"step": start.step, "epoch": start.epoch, "digest": start.digest} if start else {}
