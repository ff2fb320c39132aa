"""How trainers are started in this process, and what one is told."""

from __future__ import annotations

import hashlib
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings

from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.launch import IMPORTABLE, Launcher
from heimdall.trainer.protocol import RECIPE_DRIVER, TrainerSpec
from heimdall.trainer.warm import WarmLauncher
from training import services
from training.models import Attempt, Checkpoint, GangMember, TrainingJob

SWITCH_SECONDS = 0.0005  # how long a message may wait for the loop to give way to its thread

DRIVERS = {"script": "heimdall.attached.script", "command": "heimdall.attached.command"}


_launcher: Launcher | None = None  # of this process; None starts trainers cold
_zygote: socket.socket | None = None  # leads to the host's, where there is one


def use_zygote(fd: int) -> None:
    """Fork servers of this process, and of its forks, come from the zygote that this end of a socket leads to."""
    global _zygote
    _zygote = socket.socket(fileno=fd)
    _zygote.set_inheritable(False)
    _zygote.setblocking(False)


def warm_up() -> None:
    """Get this process ready: to start trainers quickly, where the settings ask for it. Returns at once."""
    global _launcher
    sys.setswitchinterval(SWITCH_SECONDS)
    if settings.START_METHOD == "warm" and _launcher is None:
        launcher = WarmLauncher(zygote=_zygote)
        launcher.warm_up()
        _launcher = launcher


def launcher(spec: TrainerSpec) -> Launcher | None:
    """How the trainer is started: a script in another environment has another interpreter, which is never warm. A
    command has its own process anyway, and finds the other one on its PATH."""
    python = spec.program.get("python", "")
    is_script = spec.driver == DRIVERS["script"]
    return ColdLauncher(python=python) if python and is_script else _launcher


def is_getting_ready() -> bool:
    """Whether a start would have to wait now, for a fork server that is still importing."""
    return isinstance(_launcher, WarmLauncher) and _launcher.is_getting_ready()


def spec(
    attempt: Attempt,
    *,
    package: str,
    folder: Path | None,
    python: str,
    checkpoint: Path | None,
    staging: Path,
    scratch: Path,
    member: GangMember | None = None,
) -> TrainerSpec:
    """What the trainer of this attempt is told; with a member, that of its host.

    `checkpoint` is the local copy of what it starts from, `folder` the code of a program, `python` the interpreter of
    its environment (empty: the worker's own).
    """
    job, start = attempt.job, attempt.started_from
    slots = member.slots if member else attempt.slots
    plain = spec_of(job, start, slots=slots, package=package, folder=folder, python=python, scratch=scratch)
    is_command = plain.driver == DRIVERS["command"]
    return replace(
        plain,
        staging=str(staging),
        about={"job": job.pk, "attempt": attempt.number, "job_name": job.job_name},
        checkpoint=str(checkpoint) if checkpoint else None,
        expected=_expected(start),
        finished=services.finished_shards(job),
        rest_after_epoch=services.next_rung_of(job),
        ranks=1 if is_command else len(slots),  # a command is one process, and sees all of its GPUs
        rank_offset=member.first_rank if member else 0,
        world_size=attempt.ranks if attempt.rendezvous else 0,
        rendezvous=attempt.rendezvous,
        hash_seconds=0.0 if is_command else settings.HASH_SECONDS,
        name_title=f"heimdall trainer job {job.pk}",
    )


def spec_of(
    job: TrainingJob,
    start: Checkpoint | None,
    *,
    slots: list[int],
    package: str,
    folder: Path | None,
    python: str,
    scratch: Path,
) -> TrainerSpec:
    """What every trainer of this job is told, whatever it is trained for."""
    return TrainerSpec(
        package=package,
        program=_program(job, python),
        folder=str(folder) if folder else "",
        driver=DRIVERS[job.program["kind"]] if job.program else RECIPE_DRIVER,
        config=job.config,
        staging="",
        carry=_carried(job, start),
        device=_device(job),
        gpus=_gpus_of(slots),
        threads=job.environment.get("threads"),
        pinned=job.environment,
        scratch=str(scratch),
    )


def _program(job: TrainingJob, python: str) -> dict[str, Any]:
    """The program as its driver is told of it: its secrets are variables there, and nowhere else."""
    if not job.program:
        return {}
    variables = job.program["variables"] | services.opened(job.secrets)
    own = {}
    if services.is_check(job):  # a program of ours: it imports heimdall, and signs what it found
        variables |= {"PYTHONPATH": IMPORTABLE}
        own = {"HEIMDALL_CHECK_WORD": services.check_word(job)}
    code = _told_of(job.code.digest) if job.code else ""
    return {"program": job.program | {"variables": variables}, "secrets": own, "code": code, "python": python}


def _told_of(code: str) -> str:
    """What a trainer, and so the file of a checkpoint, is told of the code: who knows its own digest may run it, and
    look at it that way, and files of checkpoints go to other people."""
    return hashlib.sha256(f"heimdall: the code {code}".encode()).hexdigest()


def _device(job: TrainingJob) -> str:
    """A program's config may say anything of a device."""
    device = job.config.get("device", "auto")
    return device if device in ("cpu", "cuda") else "auto"


def _gpus_of(slots: list[int]) -> list[int | str | None]:
    """Of each rank. Without a driver that would be asked, each rank finds its own by its place among them."""
    return [_gpu_of(slot) for slot in slots]


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
