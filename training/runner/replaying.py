"""What an idle slot does: a stretch of a training is trained again, in a process of its own, until a job comes.

Nothing of it is a job's: it has no attempt and no lease on a job, and what its trainer saves is compared and thrown
away. Where a job waits, or the host drains, it is dropped at once and waits for another time.
"""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from setproctitle import setproctitle

from heimdall.check.rehearsal import Interrupted, Rehearsal
from heimdall.check.replaying import Point, ReplayResult, Stretch, replay
from heimdall.errors import HeimdallError
from heimdall.recipes import registry
from heimdall.trainer.protocol import TrainerSpec
from training import host, services
from training.errors import StorageUnavailable
from training.models import Checkpoint, Metric, Node, Replay, TrainingJob
from training.runner import start
from training.runner.database_retry import DATABASE_AWAY
from training.runner.environments import EnvironmentSearch, ProgramEnvironment
from training.store import checkpoints, code, datasets

logger = logging.getLogger(__name__)
LOOK_SECONDS = 0.25  # how often it is seen whether a job waits


def replay_one(node: Node, slot: int) -> bool:
    """Train one waiting stretch again, if there is one for this slot. Whether it came to an end."""
    found = services.claim_replay(node, slot)
    if found is None:
        return False
    setproctitle(f"heimdall supervisor slot {slot} replay of job {found.job_id}")
    folder = settings.SCRATCH_DIR / f"replay-{found.pk}-{uuid.uuid4().hex[:8]}"
    try:
        return _Replaying(found, node, slot, folder).run()
    except DATABASE_AWAY as error:
        logger.warning("Replay %s is left: the database does not answer: %s", found.pk, error)
        return False  # its lease runs out
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        setproctitle(f"heimdall supervisor slot {slot}")


class _Replaying:
    def __init__(self, row: Replay, node: Node, slot: int, folder: Path) -> None:
        self._row, self._node, self._slot, self._folder = row, node, slot, folder
        self._job: TrainingJob = row.job
        self._looked_at = self._beaten_at = time.monotonic()
        self._environment: ProgramEnvironment | None = None

    def run(self) -> bool:
        try:
            result = self._result()
        except Interrupted:
            services.give_replay_back(self._row)
            return False
        except StorageUnavailable as error:
            logger.warning("Replay %s waits: %s", self._row.pk, error)
            services.give_replay_back(self._row)
            return False
        except (HeimdallError, OSError) as error:
            result = ReplayResult("failed", str(error))
        finally:
            if self._environment is not None:
                self._environment.close()
        self._finish(result)
        return True

    def _result(self) -> ReplayResult:
        if self._row.from_step and self._row.start is None:
            return ReplayResult("failed", f"The state at step {self._row.from_step} is no longer kept.")
        self._folder.mkdir(parents=True)
        stretch = self._stretch()
        spec = self._spec(stretch)
        rehearsal = Rehearsal(
            spec, self._folder, launcher=start.launcher(spec), is_interrupted=self._is_interrupted
        )
        return replay(rehearsal, stretch)

    def _stretch(self) -> Stretch:
        row, first = self._row, self._row.start
        points = [
            Point(one["link"], one["step"], one["epoch"], one["recorded"], self._file_at(one["link"]))
            for one in row.points
        ]
        rows, epochs = _recorded(self._job, row.from_step, row.to_step)
        return Stretch(
            start=checkpoints.fetch(first, self._folder) if first else None,
            step=first.step if first else 0,
            epoch=first.epoch if first else 0,
            digest=first.digest if first else "",
            points=points,
            rows=rows,
            epochs=epochs,
            environment=self._job.environment,
        )

    def _file_at(self, link: int) -> Path | None:
        """The recorded state at the end, where it is kept: it says which tensor differs."""
        if link != self._row.points[-1]["link"]:
            return None
        kept = Checkpoint.objects.filter(job=self._job, link__number=link, quarantined_at=None).first()
        return checkpoints.fetch(kept, self._folder) if kept else None

    def _spec(self, stretch: Stretch) -> TrainerSpec:
        job, scratch = self._job, self._folder / "scratch"
        scratch.mkdir()
        if job.dataset is not None:
            datasets.bring(job.dataset, scratch / "datasets")
        folder = code.bring(job.code, scratch / "code") if job.code else None
        spec = start.spec_of(
            job,
            self._row.start,
            slots=[self._slot],
            package="" if folder else registry.get(job.recipe).package,
            folder=folder,
            python=self._python(folder),
            scratch=scratch,
        )
        title = f"heimdall replay of job {job.pk}"
        return replace(
            spec, name_title=title, about={"job": job.pk, "replay": self._row.pk}, **stretch.spec_fields
        )

    def _python(self, folder: Path | None) -> str:
        if folder is None or not self._job.program["environment"]:
            return ""
        self._environment = EnvironmentSearch(self._job, folder).run()
        return self._environment.python

    def _is_interrupted(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = now
        if host.stop_signals.must_leave() or services.has_work_for(self._node):
            return True
        if now - self._beaten_at >= settings.HEARTBEAT_SECONDS:
            self._beaten_at = now
            return not services.keep_replay(self._row)
        return False

    def _finish(self, result: ReplayResult) -> None:
        found = [*result.found, *[""] * len(self._row.points)]
        points = [one | {"found": digest} for one, digest in zip(self._row.points, found, strict=False)]
        services.finish_replay(
            self._row,
            state=result.outcome,
            reason=result.reason,
            points=points,
            first_step=result.first_step,
            first_value=result.first_value[:200],
            first_tensor=result.first_tensor[:500],
            steps_compared=result.steps_compared,
            environment=result.environment,
            seconds=result.seconds,
        )


def _recorded(job: TrainingJob, begin: int, end: int) -> tuple[dict[int, Any], dict[int, Any]]:
    """Step -> values, and epoch -> values, as they were written down when they were trained first."""
    rows: dict[int, Any] = {}
    epochs: dict[int, Any] = {}
    found = Metric.objects.filter(job=job, step__gte=begin, step__lte=end)
    for step, epoch, values, closed in found.values_list(
        "step", "epoch", "values", "epoch_values"
    ).iterator():
        if step > begin:
            rows[step] = values
        if closed is not None:
            epochs[epoch] = closed
    return rows, epochs
