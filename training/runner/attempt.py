"""One attempt from its claim on: what it starts from, its trainer, and what becomes of it where it cannot run."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from django.conf import settings

from heimdall.errors import UnknownRecipe
from heimdall.recipes import registry
from heimdall.site import logs
from heimdall.trainer.protocol import TrainerSpec
from training import services
from training.errors import BadCheckpoint, NoGoodCheckpoint, StaleAttempt, StorageUnavailable
from training.lifecycle import JobType, StopAt
from training.models import Attempt
from training.runner import start
from training.runner.context import AttemptContext
from training.runner.database_retry import DATABASE_AWAY, GraceIsOver, with_own_connection
from training.runner.endings import BadStart, TrainerSupervision
from training.runner.environments import (
    EnvironmentFailed,
    EnvironmentSearch,
    NoSuchEnvironment,
    ProgramEnvironment,
)
from training.runner.loop import NO_STOP, STOP_REQUEST_SECONDS, retire
from training.services import SecretsLost, StopRequest
from training.store import checkpoints, code, datasets
from training.store.code import BadCode
from training.store.datasets import BadDataset

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

CANNOT_RUN = (
    BadCheckpoint, NoGoodCheckpoint, BadDataset, UnknownRecipe, registry.BadRecipe, BadCode, SecretsLost,
    NoSuchEnvironment, EnvironmentFailed,
)  # fmt: skip
LONGEST_DELAY_SECONDS = 300.0  # until a job is claimed again that could not start


class StoppedEarly(Exception):
    """It is to stop, and nothing was executed yet."""

    def __init__(self, request: StopRequest = NO_STOP):
        super().__init__()
        self.request = request


class Supervision:
    """Holds one attempt. `run` returns when the attempt is over, whoever ended it."""

    def __init__(self, context: AttemptContext):
        self.context = context
        self.attempt, self.job = context.attempt, context.job
        self.retry_until_grace_ends = context.retry_until_grace_ends
        self._beaten_at = self._read_at = time.monotonic()
        self._search: EnvironmentSearch | None = None  # while one is looked for or built
        self.environment: ProgramEnvironment | None = None

    def run(self) -> None:
        with logs.about(job=self.job.pk, attempt=self.attempt.number):
            try:
                self._run()
            finally:
                self.context.storing.close()
                if self.environment is not None:
                    self.environment.close()

    def tidy_up(self) -> None:
        """What is left to do after the attempt: it holds up nobody, whenever and in whichever thread it is done."""
        self.context.remove_staging()
        if self.context.has_stored:
            retire(self.attempt)

    def _run(self) -> None:
        self.context.log("started")
        try:
            self._supervise()
        except StaleAttempt as error:
            self.context.log(f"dropped: {error}")
        except GraceIsOver:
            self.context.log("left without landing: the grace of the drain is over")
        except StoppedEarly as stopped:
            self._leave(stopped.request)
        except StorageUnavailable as error:
            self._give_back(str(error))
        except CANNOT_RUN as error:
            self._fail(error.code, str(error))
        except DATABASE_AWAY as error:
            # Where nothing could be tried again. The lease runs out; the job goes on from its last checkpoint.
            self.context.log(f"left without landing: the database does not answer: {error}")
        except OSError as error:
            # A full disk, no memory, too many processes: the job is good, and may run later or elsewhere.
            self._give_back(f"{self.attempt.node_name} cannot run it now: {error}.")
        except Exception:
            logger.exception("Job %s: the supervisor failed", self.job.pk)
            self._fail("internal_error", f"Heimdall itself failed.\n{traceback.format_exc()}")

    def _supervise(self) -> None:
        """Find what it starts from and follow its trainer; once more where that cannot be loaded."""
        self.context.staging.mkdir(parents=True, exist_ok=True)
        self.context.scratch.mkdir(parents=True, exist_ok=True)
        while True:
            checkpoint = self._fetch_start()
            self._bring_dataset()
            self._hold_until(lambda: not start.is_getting_ready())
            folder = self._bring_code()
            python = self._find_environment(folder)
            package = registry.get(self.job.recipe).package if folder is None else ""
            spec = self.retry_until_grace_ends(self._spec, package, folder, python, checkpoint)
            self._stop_early_in_a_drain()
            try:
                return self._follow(spec)
            except BadStart as error:
                self._set_aside(str(error))

    def _follow(self, spec: TrainerSpec) -> None:
        TrainerSupervision(self.context, spec).follow()

    # What it starts from.

    def _fetch_start(self) -> Path | None:
        """A verified local copy of the newest good checkpoint; None for a start at step 0."""
        if self.attempt.started_from is None and self.job.checkpoints_stored:
            raise NoGoodCheckpoint("Every checkpoint of this job failed its check; restart begins at step 0.")
        while self.attempt.started_from is not None:
            try:
                return self._wait_for(checkpoints.fetch, self.attempt.started_from, self.context.staging)
            except BadCheckpoint as error:
                self._set_aside(str(error))
        return None

    def _set_aside(self, reason: str) -> None:
        checkpoint = self.attempt.started_from
        if checkpoint is None:
            raise NoGoodCheckpoint(reason)
        self.retry_until_grace_ends(services.quarantine, self.attempt, checkpoint, reason)

    def _bring_dataset(self) -> None:
        """The dataset that a training reads, as a local folder beside its scratch files."""
        dataset = self.retry_until_grace_ends(lambda: self.job.dataset)
        if self.job.job_type == JobType.TRAINING and dataset is not None:
            folder = self.context.scratch / "datasets"
            self.retry_until_grace_ends(
                lambda: self._wait_for(with_own_connection, datasets.bring, dataset, folder)
            )

    def _bring_code(self) -> Path | None:
        """The code of a program as a folder; None for a recipe."""
        archive = self.retry_until_grace_ends(lambda: self.job.code)
        if archive is None:
            return None
        return self._wait_for(code.bring, archive, self.context.scratch / "code")

    def _find_environment(self, folder: Path | None) -> str:
        """The Python of another environment than the worker's own; what uv says while it builds it is logged."""
        if self.environment is not None or folder is None or not self.job.program["environment"]:
            return self.environment.python if self.environment is not None else ""
        self._search = EnvironmentSearch(self.job, folder)
        try:
            self.environment = self._wait_for(self._search.run)
        except BaseException:
            self._search.stop()
            raise
        finally:
            self._beat()
            self._search = None
        return self.environment.python

    def _spec(self, package: str, folder: Path | None, python: str, checkpoint: Path | None) -> TrainerSpec:
        return start.spec(
            self.attempt,
            package=package,
            folder=folder,
            python=python,
            checkpoint=checkpoint,
            staging=self.context.staging,
            scratch=self.context.scratch,
        )

    # While it waits for that, it keeps its lease and looks whether it is to stop.

    def _wait_for(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do slow work in a thread. Where a stop comes first, nobody waits for it any more."""
        future = self.context.storing.submit(work, *args, **kwargs)
        self._hold_until(future.done)
        return future.result()

    def _hold_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._stop_early_in_a_drain()
            request = self._read_stop_request()
            if request.stops_at == StopAt.STEP:
                raise StoppedEarly(request)
            time.sleep(0.01)

    def _read_stop_request(self) -> StopRequest:
        now = time.monotonic()
        if now - self._read_at < STOP_REQUEST_SECONDS:
            return NO_STOP
        self._read_at = now
        if now - self._beaten_at < settings.HEARTBEAT_SECONDS:
            return self.retry_until_grace_ends(services.read_stop_request, self.attempt)
        self._beaten_at = now
        return self._beat()

    def _beat(self) -> StopRequest:
        log = self._search.take_log() if self._search is not None else ""
        return self.retry_until_grace_ends(services.beat, self.attempt, services.Report(log=log))

    def _stop_early_in_a_drain(self) -> None:
        if self.context.grace.has_begun():
            raise StoppedEarly

    # What becomes of it where there is no trainer.

    def _leave(self, request: StopRequest) -> None:
        self._end(self.context.land_unstarted, request)

    def _give_back(self, reason: str) -> None:
        """Back into the queue for a while, which grows each time."""
        self._end(lambda: services.release(self.attempt, reason=reason, delay_seconds=self._delay()))

    def _fail(self, code: str, message: str) -> None:
        self._end(services.fail, self.attempt, code=code, message=message)

    def _end(self, write: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            self.retry_until_grace_ends(write, *args, **kwargs)
        except (StaleAttempt, GraceIsOver):
            self.context.log("dropped")

    def _delay(self) -> float:
        """Twice as long each time that it could not start."""
        earlier = Attempt.objects.filter(job=self.job, number__lt=self.attempt.number).order_by("-number")
        times = 0
        for attempt in earlier[:10]:
            if attempt.steps_executed or attempt.outcome != "land":
                break
            times += 1
        return min(5.0 * 2**times, LONGEST_DELAY_SECONDS)
