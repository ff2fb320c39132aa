"""A completed localization job says where transmitters are, from reports of receivers.

The network needs torch, which no process of this app loads: each request has a process of its own for as long as it
lasts. It reads the reports and writes an answer a line; nothing of the job changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from heimdall.errors import InvalidInput
from heimdall.recipes import registry
from training import policy
from training.errors import BadCheckpoint, LocatorBusy, TransitionRefused
from training.lifecycle import Status
from training.models import Checkpoint, TrainingJob
from training.services.submitting import submit
from training.services.transition import Result
from training.store import bundles, checkpoints

RECIPE, DATASET_RECIPE = "localization", "rf_dataset"
_TRAINING = {"batch_size": 512, "learning_rate": 0.002}
"""With which the trainings of docs/localization.md were made."""
MODULE = f"heimdall.recipes.{RECIPE}.locating"
AT_ONCE = 2
"""Processes of one web process: each takes some 400 MB and a core."""
MOST_SECONDS = 300
MOST_REPORT_BYTES = 16_000_000
"""Of a file: 100 000 lines with every column have some 12 MB."""
_places = threading.BoundedSemaphore(AT_ONCE)


def can_locate(job: TrainingJob) -> bool:
    """Whether the job has a network that can be asked."""
    return (
        job.recipe == RECIPE and job.status == Status.COMPLETED and bundles.best_checkpoint(job) is not None
    )


def locate(job: TrainingJob, *, by: Any, reports: bytes) -> LocatorProcess:
    """The answers to reports in CSV or JSON, one after the other. Whoever asks closes it.

    Raises InvalidInput for reports that cannot be read, naming line and field.
    """
    return LocatorProcess(best_network(job, by=by), reports)


def suggest_config(job: TrainingJob, *, by: Any, reports: bytes) -> dict[str, Any]:
    """The settings of a training for the receivers that these reports name."""
    process = LocatorProcess(best_network(job, by=by), reports, "--config")
    process.close()
    found: dict[str, Any] = process.first["config"]
    return found


def train_for(
    *, by: Any, name: str, scene: dict[str, Any], samples: int, epochs: int, team: Any = None
) -> tuple[Result, Result]:
    """Queue a dataset of this scene and a training on it, which waits until the dataset is there.

    scene: as suggest_config gives it. Both jobs are queued, or none.
    """
    with transaction.atomic():
        made = submit(
            by=by,
            job_name=f"{name}, data",
            recipe=DATASET_RECIPE,
            config=scene | {"samples": samples},
            team=team,
        )
        assert made.job.dataset is not None
        config = _TRAINING | {"dataset": made.job.dataset.name, "samples": samples, "epochs": epochs}
        return made, submit(by=by, job_name=name, recipe=RECIPE, config=config, team=team)


def best_network(job: TrainingJob, *, by: Any) -> Checkpoint:
    policy.require(by, policy.SEE, job)
    if job.recipe != RECIPE or registry.get(RECIPE).job_type != job.job_type:
        raise InvalidInput({"job": [f"Job {job.pk} is of the recipe {job.recipe}, which locates nothing."]})
    if job.status != Status.COMPLETED:
        raise TransitionRefused(
            f"Job {job.pk} is {job.status}; it can be asked where transmitters are once it is completed.",
            status=job.status,
        )
    found = bundles.best_checkpoint(job)
    if found is None:
        raise TransitionRefused(f"Job {job.pk} has no good checkpoint left.", status=job.status)
    return found


class LocatorProcess:
    """A process that answers: its first line is read at once, the answers as they are asked for."""

    def __init__(self, checkpoint: Checkpoint, reports: bytes, *options: str) -> None:
        if not _places.acquire(blocking=False):
            raise LocatorBusy(f"{AT_ONCE} others are being located now. Ask again in a few seconds.")
        self.checkpoint = checkpoint
        self._closed = False
        self._held = [_places]
        self._path: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._path = checkpoints.fetch(checkpoint, settings.SCRATCH_DIR)
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
            self._start(reports, options)
            self.first = self._first_line()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each answer; InterruptedError where the process ended before the last one."""
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer == {"end": True}:
                return
            yield answer
        raise InterruptedError(f"The process that locates ended early: {self._last_words()}")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._process is not None:
            self._timer.cancel()
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()  # type: ignore[union-attr]
            self._errors.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._give_place_back()

    def give_up(self) -> None:
        """The time is over. Who reads too slowly, or not at all, keeps nobody else waiting."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._give_place_back()

    def _give_place_back(self) -> None:
        """Once, whichever thread comes first."""
        with suppress(IndexError):
            self._held.pop().release()

    def _start(self, reports: bytes, options: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, *options, str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
        )
        self._timer = threading.Timer(MOST_SECONDS, self.give_up)
        self._timer.daemon = True
        self._timer.start()
        assert self._process.stdin is not None
        try:
            with self._process.stdin as pipe:
                pipe.write(reports)
        except BrokenPipeError:
            pass  # it ended before it read them; its last words say why

    def _first_line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BadCheckpoint(f"The network cannot be asked: {self._last_words()}")
        found: dict[str, Any] = json.loads(line)
        if "refused" in found:
            raise InvalidInput(found["refused"])
        return found

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def _environment() -> dict[str, str]:
    """No secret of this app, one thread, and the same package whatever folder this was started in."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    folder = str(Path(registry.__file__).parents[2])
    return kept | {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
