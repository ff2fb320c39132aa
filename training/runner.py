"""One attempt, from its claim to its landing: the only file that knows both the database's side and the trainer's.

The trainer never waits for the database or the store: its messages are drained by a thread, files are stored by
another, and the loop below joins the two worlds a few times a second. It imports no torch.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection
from setproctitle import setproctitle

from heimdall import logs
from training import checkpoints, datasets, host, services, wakeups
from training.checkpoints import StoredCheckpoint
from training.datasets import BadDataset, StoredShard
from training.engine.failpoints import failpoint
from training.engine.forkserver import WarmLauncher
from training.engine.process import Launcher, Message, Trainer, TrainerSpec
from training.errors import BadCheckpoint, HeimdallError, NoGoodCheckpoint, StaleAttempt, StorageUnavailable
from training.lifecycle import JobType, Stop
from training.models import Attempt, Checkpoint, Node, TrainingJob
from training.recipes import registry
from training.services import Landing, Wish

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

LISTEN_SECONDS = 0.1  # how long the loop waits for the trainer's next message
WISH_SECONDS = 0.25  # how old the known wish may get where no commit is heard
SWITCH_SECONDS = 0.0005  # how long a message may wait for the loop to give way to its thread
EAR_SECONDS = 0.004  # how often SQLite is asked whether something was committed
NEWS_SECONDS = 0.25  # how long news may wait for the next beat
EXIT_SECONDS = 5.0  # how long a trainer may take to leave when its work is done
LONGEST_DELAY_SECONDS = 300.0
LOG_TAIL_CHARACTERS = 8_000
LEAST_START_SECONDS = 300.0  # that a trainer may take to build everything
MOST_TRIES = 5  # to store what a dead trainer left behind
ENDINGS = frozenset({"pause", "final"})  # kinds of checkpoints that an attempt ends with
AWAY = (OperationalError, InterfaceError, InternalError)  # the last: cut off in a transaction, or read-only


_launcher: Launcher | None = None  # of this process; None starts trainers cold


def warm_up() -> None:
    """Get this process ready: to start trainers quickly, where the settings ask for it. Returns at once."""
    global _launcher
    sys.setswitchinterval(SWITCH_SECONDS)
    if settings.START_METHOD == "warm" and _launcher is None:
        launcher = WarmLauncher()
        launcher.warm_up()
        _launcher = launcher


class Found(StrEnum):
    """What there was for a process that was woken."""

    WORK = "work"
    NOTHING = "nothing"
    NO_SLOT = "no slot"


def run_jobs() -> Found:
    """Take the best queued job, and the next, until none waits."""
    found = Found.NOTHING
    with host.orders.at_work():
        while not host.orders.must_leave():
            node = Node.objects.get(name=settings.NODE_NAME)
            with host.free_slot() as slot:
                if slot is None:
                    return Found.NO_SLOT
                last = _run_in(node, slot)
            if last is not None:
                found = Found.WORK
                last.tidy_up()
            # One that came while the slot was held woke somebody who found no slot.
            if not services.jobs_for(node).exists():
                break
    return found


def _run_in(node: Node, slot: int) -> Supervision | None:
    """Run jobs in a slot of the node, which was just read.

    Returns the attempt that still has to be tidied up after: the slot need not wait for that.
    """
    pid, last = os.getpid(), None
    while not host.orders.must_leave():
        born_at = _born_at(pid)
        attempt = services.claim(node, slot=slot, pid=pid, pid_started_at=born_at, is_just_read=last is None)
        if attempt is None:
            break
        if last is not None:
            threading.Thread(target=_aside, args=(last.tidy_up,), name="tidy").start()
        setproctitle(f"heimdall supervisor slot {slot} job {attempt.job_id}")
        last = Supervision(attempt, slot)
        last.run()
        setproctitle(f"heimdall supervisor slot {slot}")
    return last


@lru_cache(maxsize=1)
def _born_at(pid: int) -> float:
    """When this process started: asked once, not while a job waits."""
    return host.started_at(pid)


class GraceIsOver(Exception):
    """The host drains, and the attempt could not land in time."""


class BadStart(Exception):
    """The trainer could not load the checkpoint it was to start from."""


@dataclass
class News:
    """What the trainer said and the database does not know yet."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    phase: str | None = None
    log: str = ""

    def __bool__(self) -> bool:
        return bool(self.steps or self.epochs or self.log or self.phase is not None)


class Supervision:
    """Holds one attempt. `run` returns when the attempt is over, whoever ended it."""

    def __init__(self, attempt: Attempt, slot: int):
        self.attempt = attempt
        self.job = attempt.job
        self.slot = slot
        self.staging = settings.STAGING_DIR / f"{attempt.job_id}-a{attempt.number}"
        self.scratch = settings.SCRATCH_DIR / str(attempt.job_id)
        self.storing = Storing(attempt)
        self.landed_by: float | None = None
        self.has_stored = False

    def run(self) -> None:
        with logs.about(job=self.job.pk, attempt=self.attempt.number):
            self._run()

    def tidy_up(self) -> None:
        """What is left to do after the attempt: it holds up nobody, whenever and in whichever thread it is done."""
        shutil.rmtree(self.staging, ignore_errors=True)
        if self.has_stored:
            _retire(self.attempt)

    def _run(self) -> None:
        self._log("started")
        try:
            self.staging.mkdir(parents=True, exist_ok=True)
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._supervise()
        except StaleAttempt as error:
            self._log(f"dropped: {error}")
        except GraceIsOver:
            self._log("left without landing: the grace of the drain is over")
        except AWAY as error:
            # Where nothing could be tried again. The lease runs out; the job goes on from its last checkpoint.
            self._log(f"left without landing: the database does not answer: {error}")
        except OSError as error:
            # A full disk, no memory, too many processes: the job is good, and may run later or elsewhere.
            self._give_back(f"{self.attempt.node_name} cannot run it now: {error}.")
        except Exception:
            logger.exception("Job %s: the supervisor failed", self.job.pk)
            self._fail("internal_error", f"Heimdall itself failed.\n{traceback.format_exc()}")
        finally:
            self.storing.close()

    def _supervise(self) -> None:
        while True:
            try:
                start = self._fetch_start()
            except NoGoodCheckpoint as error:
                return self._fail(error.code, str(error))
            except StorageUnavailable as error:
                return self._give_back(str(error))
            self._wait_until_trainers_start()
            if self._lands_before_it_starts():
                return None
            try:
                self._bring_dataset()
            except BadDataset as error:
                return self._fail(error.code, str(error))
            except StorageUnavailable as error:
                return self._give_back(str(error))
            try:
                package = registry.get(self.job.recipe).package
            except HeimdallError as error:
                return self._fail(error.code, str(error))
            try:
                return Training(self, self.persist(self._spec, package, start)).follow()
            except BadStart as error:
                try:
                    self._set_aside(str(error))
                except NoGoodCheckpoint as none_left:
                    return self._fail(none_left.code, str(none_left))

    def _fetch_start(self) -> Path | None:
        """A verified local copy of the newest good checkpoint; None for a start at step 0."""
        if self.attempt.started_from is None and self.job.checkpoints_stored:
            raise NoGoodCheckpoint("Every checkpoint of this job failed its check; restart begins at step 0.")
        while self.attempt.started_from is not None:
            try:
                return self._wait_for(checkpoints.fetch, self.attempt.started_from, self.staging)
            except BadCheckpoint as error:
                self._set_aside(str(error))
        return None

    def _bring_dataset(self) -> None:
        """The dataset that a training reads, as a local folder beside its scratch files."""
        dataset = self.persist(lambda: self.job.dataset)
        if self.job.job_type == JobType.TRAINING and dataset is not None:
            self._wait_for(datasets.bring, dataset, self.scratch / "datasets")

    def _set_aside(self, reason: str) -> None:
        checkpoint = self.attempt.started_from
        if checkpoint is None:
            raise NoGoodCheckpoint(reason)
        self.persist(services.quarantine, self.attempt, checkpoint, reason)

    def _wait_for(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do slow work in a thread, and keep the lease meanwhile."""
        future = self.storing.submit(work, *args, **kwargs)
        self._hold_until(future.done)
        return future.result()

    def _wait_until_trainers_start(self) -> None:
        """A fork server that is still importing must not cost the lease."""
        if isinstance(_launcher, WarmLauncher):
            getting_ready = _launcher.is_getting_ready
            self._hold_until(lambda: self.must_land() or not getting_ready())

    def _hold_until(self, is_so: Callable[[], bool]) -> None:
        """Keep the lease until something is so."""
        beaten_at = time.monotonic()
        while not is_so():
            if time.monotonic() - beaten_at > settings.HEARTBEAT_SECONDS:
                self.persist(services.beat, self.attempt)
                beaten_at = time.monotonic()
            if self.must_land() and time.monotonic() > (self.landed_by or 0):
                raise GraceIsOver
            time.sleep(0.01)

    def _lands_before_it_starts(self) -> bool:
        draining = self.must_land()
        return draining and self.persist(services.land, self.attempt, draining=True) is not Landing.GO_ON

    def _spec(self, package: str, start: Path | None) -> TrainerSpec:
        job, checkpoint = self.job, self.attempt.started_from
        expected = (
            {"step": checkpoint.step, "epoch": checkpoint.epoch, "digest": checkpoint.digest}
            if checkpoint
            else {}
        )
        return TrainerSpec(
            package=package,
            config=job.config,
            staging=str(self.staging),
            about={"job": job.pk, "attempt": self.attempt.number, "job_name": job.job_name},
            checkpoint=str(start) if start else None,
            carry=_carried(job, checkpoint),
            device=job.config.get("device", "auto"),
            gpu=_gpu_of(self.slot),
            threads=job.environment.get("threads"),
            pinned=job.environment,
            expected=expected,
            scratch=str(self.scratch),
            finished=services.finished_shards(job),
            name_title=f"heimdall trainer job {job.pk}",
        )

    def must_land(self) -> bool:
        """Whether the host drains. The grace counts from the first time that it is seen."""
        if not host.orders.must_land():
            return False
        if self.landed_by is None:
            self.landed_by = time.monotonic() + settings.DRAIN_GRACE_SECONDS
        return True

    def persist(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write to the database under this attempt, however long that takes. Only a drain sets a limit."""
        delay = 0.1
        while True:
            try:
                return write(*args, **kwargs)
            except AWAY as error:
                logger.warning("Job %s: the database does not answer: %s", self.job.pk, error)
                connection.close()
            if self.must_land() and time.monotonic() > (self.landed_by or 0):
                raise GraceIsOver
            time.sleep(delay)
            delay = min(2 * delay, 2.0)

    def _give_back(self, reason: str) -> None:
        """Back into the queue for a while, which grows each time."""
        try:
            delay = self.persist(self._delay)
            self.persist(services.release, self.attempt, reason=reason, delay_seconds=delay)
        except (StaleAttempt, GraceIsOver):
            self._log("dropped")

    def _fail(self, code: str, message: str) -> None:
        try:
            self.persist(services.fail, self.attempt, code=code, message=message)
        except (StaleAttempt, GraceIsOver):
            self._log("dropped")

    def _delay(self) -> float:
        """Twice as long each time that the checkpoint could not be read."""
        earlier = Attempt.objects.filter(job=self.job, number__lt=self.attempt.number).order_by("-number")
        times = 0
        for attempt in earlier[:10]:
            if attempt.steps_executed or attempt.outcome != "land":
                break
            times += 1
        return min(5.0 * 2**times, LONGEST_DELAY_SECONDS)

    def _log(self, what: str) -> None:
        logger.info(
            "Attempt %d of job %d %s",
            self.attempt.number,
            self.job.pk,
            what,
            extra={"verb": what},
        )


class Storing:
    """Moves staged files and shards into their stores, one after the other, in a thread: it holds up nothing."""

    def __init__(self, attempt: Attempt):
        self._attempt = attempt
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storing")
        self._waiting: deque[Message] = deque()
        self._future: Future[StoredCheckpoint | StoredShard] | None = None
        self._retry_at = 0.0
        self.failures = 0
        self.error = ""
        self.when_done: Callable[[], None] = lambda: None
        """Called, in any thread, when there is something to advance."""

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def add(self, staged: Message) -> None:
        self._waiting.append(staged)

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._thread.submit(work, *args, **kwargs)

    def advance(self) -> tuple[Message, StoredCheckpoint | StoredShard | None] | None:
        """A file that is done with: stored, or (None) left out because a newer one exists. Never waits."""
        if self._future is not None and self._future.done():
            future, self._future = self._future, None
            try:
                stored = future.result()
            except StorageUnavailable as error:
                self.failures += 1
                self.error = str(error)
                self._retry_at = time.monotonic() + min(0.5 * 2 ** min(self.failures, 6), 30.0)
            else:
                self.failures, self.error = 0, ""
                return self._waiting.popleft(), stored
        if (left_out := self._to_be_left_out()) is not None:
            self._waiting.remove(left_out)
            return left_out, None
        if self._future is None and self._waiting and time.monotonic() >= self._retry_at:
            self._future = self.submit(_store, self._waiting[0], self._attempt)
            self._future.add_done_callback(lambda _: self.when_done())
        return None

    def _to_be_left_out(self) -> Message | None:
        """The checkpoint that goes, where more wait than the staging folder may hold, or an end waits behind it.

        The oldest, and a best one only after all others; never the newest, the newest that ends the attempt (one
        before it was withdrawn), or the one that is just being stored.
        """
        staged = [message for message in self._waiting if message["kind"] == "staged"]
        endings = [message for message in staged if ENDINGS & set(message["kinds"])]
        is_full = len(staged) > settings.STAGING_MAX_FILES or _gigabytes(staged) > settings.STAGING_MAX_GB
        if not is_full and not (endings and self.failures):
            return None
        kept = [*staged[-1:], *endings[-1:], *([self._waiting[0]] if self._future else [])]
        may_go = [message for message in staged if message not in kept]
        return min(may_go, key=lambda message: "best" in message["kinds"], default=None)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _gpu_of(slot: int) -> int | str | None:
    """A slot beyond the last GPU has none, and must not take another's. Where none is known, CUDA may find one."""
    if not settings.GPUS:
        return None
    return settings.GPUS[slot] if slot < len(settings.GPUS) else ""


def _carried(job: TrainingJob, start: Checkpoint | None) -> str:
    """What is carried over from another job's checkpoint; nothing from one of this job's own."""
    is_start = start is not None and Checkpoint.Kind.START in start.kinds
    return str(job.origin["carries"]) if is_start and job.origin else ""


def _gigabytes(staged: list[Message]) -> float:
    return sum(message["size"] for message in staged) / 1e9


def _store(message: Message, attempt: Attempt) -> StoredCheckpoint | StoredShard:
    failpoint("before_upload")
    stored: StoredCheckpoint | StoredShard
    if message["kind"] == "progress":
        name = attempt.job.dataset.name if attempt.job.dataset else str(attempt.job_id)
        stored = datasets.store(
            Path(message["at"]), message["shard"], dataset=name, job_id=attempt.job_id, attempt=attempt.number
        )
    else:
        began = time.monotonic()
        stored = checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)
        stored = replace(stored, seconds=time.monotonic() - began)
    failpoint("after_upload")
    return stored


class Training:
    """The part of an attempt in which there is a trainer."""

    def __init__(self, supervision: Supervision, spec: TrainerSpec):
        self.supervision = supervision
        self.attempt = supervision.attempt
        self.storing = supervision.storing
        self.spec = spec
        self.news = News()
        self.log_tail = ""
        self.wish = Wish(Stop.NONE, "")
        self.may_be_wished = False
        self.told = ""
        self.has_started = self.has_stepped = False
        self.stopped: Message | None = None  # the trainer waits at this place
        self.finished: Message | None = None
        self.failed: Message | None = None
        self.ending: StoredCheckpoint | None = None  # stored, and to be recorded by the landing
        self.exit_code: int | None = None
        self.is_let_go = False
        self.beaten_at = self.heard_at = self.ask_again_at = 0.0
        self.is_unsure = False  # whether the last news were written: their answer was lost
        self.moved_at = self.stepped_at = self.listened_at = time.monotonic()
        self.step_seconds: float | None = None

    def follow(self) -> None:
        """Supervise the trainer to its end. Whatever happens, it does not outlive this call."""
        self.trainer = Trainer.start(self.spec, launcher=_launcher)
        self.storing.when_done = self.trainer.nudge
        over = threading.Event()
        try:
            with suppress(RuntimeError):  # no further thread: wishes are read a little later
                threading.Thread(target=self._hear_commits, args=(over,), name="ear", daemon=True).start()
            while not self._turn():
                pass
        finally:
            over.set()
            self.storing.when_done = lambda: None
            self.trainer.kill()
            self.trainer.close()

    def _turn(self) -> bool:
        """One turn of the loop; True when the attempt is over."""
        # 1. What the trainer said.
        self._listen()
        # 2. What was stored meanwhile becomes the job's checkpoint.
        self._take_stored()
        # 3. The database hears the news and says what is wished.
        self._beat()
        # 4. The end, by whatever comes first.
        if self._is_over():
            return True
        # 5. The trainer hears the wish.
        self._tell()
        return False

    def _hear_commits(self, over: threading.Event) -> None:
        """In a thread of its own: what was committed may be a wish, so the loop is to look now."""
        ear = wakeups.ear(wakeups.JOBS, every_seconds=EAR_SECONDS)
        try:
            while not over.is_set():
                try:
                    if ear.wait(0.2):
                        self.may_be_wished = True
                        self.trainer.nudge()
                except AWAY:
                    over.wait(1.0)
        finally:
            ear.close()

    # 1. What the trainer said.

    def _listen(self) -> None:
        until = time.monotonic() + LISTEN_SECONDS
        if self.exit_code is not None:
            time.sleep(0.02)  # only the store is waited for
        message = self.trainer.receive(LISTEN_SECONDS)
        while message is not None:
            self._hear(message)
            message = self.trainer.receive(0) if time.monotonic() < until else None
        log = self.trainer.read_log()
        self.news.log += log
        self.log_tail = (self.log_tail + log)[-LOG_TAIL_CHARACTERS:]
        self.exit_code = self.trainer.exit_status()
        self.listened_at = time.monotonic()

    def _hear(self, message: Message) -> None:
        match message["kind"]:
            case "started":
                self.has_started = True
                self._persist(services.note_started, self.attempt, message)
                self.stepped_at = time.monotonic()
            case "steps":
                self.news.steps.extend(message["rows"])
                self._measure_pace(len(message["rows"]))
            case "epoch":
                self.news.epochs.append(message)
            case "phase":
                self.news.phase = message["phase"]
            case "progress":
                self.storing.add(message)
                self._measure_pace(1)
            case "staged":
                self.storing.add(message)
            case "stopped" if self.told:  # else it was on its way when the wish was withdrawn
                self.stopped = message
            case "finished":
                self.finished = message
            case "failed":
                self.failed = message
            case "checkpoint_failed":
                kinds = ", ".join(message.get("kinds", []))
                said = f"A checkpoint ({kinds}) could not be written: {message['error']}"
                self._persist(services.note, self.attempt, "checkpoint_failed", said)
                return  # no progress
        self.moved_at = time.monotonic()

    def _measure_pace(self, steps: int) -> None:
        now = time.monotonic()
        pace = (now - self.stepped_at) / max(steps, 1)
        self.stepped_at = now
        self.step_seconds = pace if self.step_seconds is None else 0.8 * self.step_seconds + 0.2 * pace

    # 2. What was stored meanwhile.

    def _take_stored(self) -> None:
        failures = self.storing.failures
        done = self.storing.advance()
        if self.storing.failures > failures and self.storing.failures & (self.storing.failures - 1) == 0:
            said = f"A checkpoint could not be stored yet (try {self.storing.failures}): {self.storing.error}"
            self._persist(services.note, self.attempt, "checkpoint_failed", said)
        if done is None:
            return
        staged, stored = done
        if isinstance(stored, StoredShard):
            self._persist(services.record_shard, self.attempt, stored, total=staged["total"])
            failpoint("recorded")
            self.trainer.send({"kind": "stored", "path": staged["at"]})
            return
        if stored is None:
            Path(staged["path"]).unlink(missing_ok=True)
            said = f"The checkpoint at step {staged['step']} was left out: newer ones wait for the store."
            self._persist(services.note, self.attempt, "checkpoint_left_out", said)
        elif "final" in stored.kinds or ("pause" in stored.kinds and self.told):
            self._record_ending()  # an older one, whose pause was withdrawn
            self.ending = stored
        else:
            self._record(stored)
        self.supervision.has_stored = True
        self.trainer.send({"kind": "stored", "path": staged["path"]})

    def _record(self, stored: StoredCheckpoint) -> None:
        self._flush()
        self._persist(services.record_checkpoint, self.attempt, stored)
        failpoint("recorded")
        self.storing.submit(_aside, _retire, self.attempt)

    def _record_ending(self) -> None:
        if self.ending is not None:
            ending, self.ending = self.ending, None
            self._record(ending)

    # 3. The database hears the news and says what is wished.

    def _beat(self) -> None:
        now = time.monotonic()
        if now < self.ask_again_at:
            return
        since = now - self.beaten_at
        try:
            if since >= settings.HEARTBEAT_SECONDS or (self.news and since >= self._patience()):
                self.wish = self._send_news()
                self.beaten_at = self.heard_at = time.monotonic()
            elif self.may_be_wished or now - self.heard_at >= WISH_SECONDS:
                self.may_be_wished = False  # before the read: what is committed meanwhile is heard again
                self.wish = services.wish(self.attempt)
                self.heard_at = time.monotonic()
        except AWAY as error:
            # The training goes on; the news are kept and sent later, at once when it answers: the lease runs out.
            logger.warning("Job %s: the database does not answer: %s", self.attempt.job_id, error)
            connection.close()
            self.ask_again_at = time.monotonic() + WISH_SECONDS

    def _patience(self) -> float:
        """How long news wait; the first step is told at once."""
        return 0.0 if self.news.steps and not self.has_stepped else NEWS_SECONDS

    def _send_news(self) -> Wish:
        wish = services.beat(self.attempt, **self._take_news())
        self._news_are_written()
        return wish

    def _take_news(self) -> dict[str, Any]:
        """The news as the database is told them. Until it has answered, nobody knows whether they are written."""
        is_again, self.is_unsure = self.is_unsure, True
        pid = None if self.has_started else self.trainer.pid
        facts = {"trainer_pid": pid, "step_seconds": self.step_seconds, "is_again": is_again}
        return vars(self.news) | facts

    def _news_are_written(self) -> None:
        self.is_unsure = False
        self.has_stepped = self.has_stepped or bool(self.news.steps)
        self.news = News()

    def _flush(self) -> None:
        if self.news:
            self.wish = self._persist(self._send_news)

    # 4. The end, by whatever comes first.

    def _is_over(self) -> bool:
        if self.failed is not None:
            return self._fail(self.failed)
        if self.finished is not None and (self._stands_at(self.finished) or self._has_all_shards()):
            return self._complete()
        if self.wish.stop is Stop.CANCEL and (self.finished is None or self.storing.failures):
            return self._cancel()
        if self.finished is not None:
            return self._mind_the_grace()
        if self._wanted() and self._has_landing_place():
            return self._land()
        if self._wanted() == "step" and not self.has_started:
            return self._leave()
        if self.exit_code is not None:
            return self._crash(self.exit_code, self.log_tail)
        if self._is_stalled():
            return self._end_stalled()
        return self._mind_the_grace()

    def _has_landing_place(self) -> bool:
        return self.stopped is not None and (self._stands_at(self.stopped) or self._has_all_shards())

    def _stands_at(self, place: Message) -> bool:
        """Whether the checkpoint of this very place is stored: the one of a withdrawn pause may come later."""
        kind = "final" if place["kind"] == "finished" else "pause"
        return self.ending is not None and self.ending.step == place["step"] and kind in self.ending.kinds

    def _has_all_shards(self) -> bool:
        """Synthetic data has no checkpoint: what was made is recorded."""
        return self.attempt.job.job_type == JobType.SYNTHETIC_DATA and self.storing.is_idle

    def _complete(self) -> bool:
        self._flush()
        self._persist(services.complete, self.attempt, self.ending)
        self._let_go("completed")
        return True

    def _fail(self, message: Message) -> bool:
        self._flush()
        if message["code"] == "bad_checkpoint" and self.attempt.started_from is not None:
            raise BadStart(message["error"])
        text = f"{message['error']}\n{message.get('traceback', '')}".strip()
        self._persist(services.fail, self.attempt, code=message["code"], message=text)
        self._let_go("failed")
        return True

    def _cancel(self) -> bool:
        """No checkpoint is made for a cancelled job, but one that exists already is kept."""
        if not self.storing.is_idle and not self.storing.failures:
            return self._mind_the_grace()
        self._stop_at_once()
        stored, self.ending = self.ending, None
        self._persist(services.land, self.attempt, stored, final=True)
        self.supervision._log("cancelled")
        return True

    def _land(self) -> bool:
        """The trainer waits at the place of the stored checkpoint: land by the stop as it is now.

        It is let go as soon as nobody can withdraw the stop any more, and leaves while the landing is written.
        """
        stored = self.ending
        if stored is not None and self.wish.stop is not Stop.PAUSE:
            stored = replace(
                stored, kinds=tuple("drain" if kind == "pause" else kind for kind in stored.kinds)
            )
        failpoint("before_landing")
        landing = self._persist(
            lambda: services.land(
                self.attempt,
                stored,
                news=services.News(**self._take_news()),
                draining=self._is_draining() or self.wish.node_drains,
                final=self.exit_code is not None or self.is_let_go,  # then the trainer cannot go on
                reason=self._why_it_landed(),
                when_decided=self._release,
            )
        )
        self._news_are_written()
        failpoint("after_landing")
        if landing is Landing.GO_ON:
            self.wish = Wish(Stop.NONE, "")
            return False
        self._let_go(f"landed: {landing}")
        return True

    def _leave(self) -> bool:
        """Nothing was executed yet: there is nothing to store."""
        self._stop_at_once()
        landing = self._persist(
            services.land,
            self.attempt,
            draining=self._is_draining(),
            final=True,
            reason=self._why_it_landed(),
        )
        self.supervision._log(f"landed before its first step: {landing}")
        return True

    def _why_it_landed(self) -> str:
        """Said to people beside where the job went."""
        if self.wish.node_drains:
            return f"Node {self.attempt.node_name} was drained."
        return f"The worker of {self.attempt.node_name} stops." if self._is_draining() else ""

    def _crash(self, exit_code: int, detail: str) -> bool:
        """The trainer died. What it had staged is durable and counts."""
        if not self.storing.is_idle and self.storing.failures < MOST_TRIES:
            return self._mind_the_grace()
        self._flush()
        self._record_ending()
        status = self._persist(services.crash, self.attempt, exit_code=exit_code, detail=detail)
        self.supervision._log(f"crashed with {exit_code}, now {status}")
        return True

    def _end_stalled(self) -> bool:
        seconds = settings.STALL_SECONDS
        self._stop_at_once()
        return self._crash(
            -9, f"No progress for {seconds:g} s: the trainer was killed.\n{self.log_tail}".strip()
        )

    def _is_stalled(self) -> bool:
        if self.stopped is not None or self.exit_code is not None:
            return False
        if self.attempt.job.job_type == JobType.SYNTHETIC_DATA and self.storing.failures:
            return False  # it waits for the store
        # Importing and building say nothing; on a busy machine that takes a while.
        limit = (
            settings.STALL_SECONDS if self.has_started else max(settings.STALL_SECONDS, LEAST_START_SECONDS)
        )
        return self.listened_at - self.moved_at > limit  # not what was spent waiting for the database

    def _mind_the_grace(self) -> bool:
        """While draining, an upload may take only so long; then the job goes back to its last checkpoint."""
        if not self._is_draining() or time.monotonic() < (self.supervision.landed_by or 0):
            return False
        self._stop_at_once()
        reason = f"Its checkpoint was not stored within {settings.DRAIN_GRACE_SECONDS:g} s of the drain."
        services.land(self.attempt, draining=True, final=True, reason=reason)
        raise GraceIsOver

    def _stop_at_once(self) -> None:
        """Kill the trainer and hear what it had still said."""
        self.trainer.kill()
        deadline = time.monotonic() + EXIT_SECONDS
        while self.exit_code is None and time.monotonic() < deadline:
            self._listen()
        self._flush()

    def _let_go(self, what: str) -> None:
        self.supervision._log(what)
        self._release()
        self.trainer.wait(EXIT_SECONDS)  # whoever is left then is killed

    def _release(self) -> None:
        if not self.is_let_go:
            self.is_let_go = True
            self.trainer.send({"kind": "exit"})

    # 5. The trainer hears the wish.

    def _tell(self) -> None:
        wanted = self._wanted()
        if wanted == self.told:
            return
        if self.told and wanted != "step":  # withdrawn, or asked again for later
            self.stopped = None
            self.trainer.send({"kind": "go_on"})
            if self.ending is not None and "final" not in self.ending.kinds:
                self._record_ending()
        if wanted:
            self.trainer.send({"kind": "stop", "at": wanted})
        self.told = wanted

    def _wanted(self) -> str:
        """The effective stop: nothing, at the epoch's end, or at the next step."""
        if self._is_draining() or self.wish.node_drains or self.wish.stop is Stop.PREEMPT:
            return "step"
        if self.wish.stop is Stop.CANCEL and self.attempt.job.job_type == JobType.SYNTHETIC_DATA:
            return "step"  # else it makes one shard after the other while what it made is being stored
        return str(self.wish.stop_at) if self.wish.stop is Stop.PAUSE else ""

    def _is_draining(self) -> bool:
        return self.supervision.must_land()

    def _persist(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.supervision.persist(write, *args, **kwargs)


def _retire(attempt: Attempt) -> None:
    """Delete what the retention no longer keeps. A failure only leaves it for the next time."""
    try:
        services.retire_checkpoints(attempt.job)
    except (HeimdallError, *AWAY) as error:
        logger.warning("Job %s: old checkpoints stay for now: %s", attempt.job_id, error)


def _aside(work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do it in a thread that speaks to the database now and perhaps never again."""
    try:
        work(*args, **kwargs)
    finally:
        connection.close()
