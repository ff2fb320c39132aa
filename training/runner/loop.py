"""The loop that follows one trainer, from top to bottom: `turn` names its five steps, and each has its part below.

The trainer never waits for the database or the store: its messages are drained by a thread, files are stored by
another, and this loop joins the two worlds a few times a second. What each end does stands in endings.py.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.db import connection

from heimdall.failpoints import failpoint
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import (
    CheckpointFailed,
    EpochDone,
    Failed,
    FileStored,
    Finished,
    FromTrainer,
    GoOn,
    PhaseChanged,
    StagedCheckpoint,
    StagedShard,
    Started,
    StateHashed,
    StepsDone,
    Stopped,
    StopTraining,
    TrainerSpec,
    as_hashed,
)
from training import services
from training.lifecycle import JobType, Stop, StopAt
from training.queue import commits
from training.runner import start
from training.runner.context import AttemptContext
from training.runner.database_retry import DATABASE_AWAY, with_own_connection
from training.runner.known_failures import KnownFailures
from training.runner.log_limit import LogLimit
from training.runner.report_buffer import ReportBuffer
from training.runner.secret_mask import SecretMask
from training.runner.store_limits import retire, why_not_stored
from training.runner.storing import ENDINGS, LeftOut
from training.services import LostMember, StopRequest
from training.store.checkpoints import StoredCheckpoint
from training.store.datasets import StoredShard

logger = logging.getLogger(__name__)

NO_STOP = StopRequest(Stop.NONE, "")
LISTEN_SECONDS = 0.1  # how long the loop waits for the trainer's next message
STOP_REQUEST_SECONDS = 0.25  # how old the known stop request may get where no commit is noticed
POLL_SECONDS = 0.004  # how often SQLite is asked whether something was committed
SILENT_HEARTBEATS = 3  # of another host, after which it is lost
LONG_SECONDS = 3_600.0
LOG_TAIL_CHARACTERS = 8_000
LEAST_START_SECONDS = 300.0  # that a trainer may take to build everything


class SupervisorLoop(ABC):
    """Follows one trainer from its start to the end of its attempt."""

    trainer: Trainer

    def __init__(self, context: AttemptContext, spec: TrainerSpec):
        self.context = context
        self.attempt = context.attempt
        self.storing = context.storing
        self.retry_until_grace_ends = context.retry_until_grace_ends
        self.spec = spec
        # 1. What the trainer said.
        self.has_started = False
        self.stopped: Stopped | None = None  # the trainer waits at this place
        self.finished: Finished | None = None
        self.failed: Failed | None = None
        self.exit_code: int | None = None
        self.mask = SecretMask(services.opened(self.attempt.job.secrets).values())
        self.log_tail = ""
        self.log_limit: LogLimit | None = None  # until something is printed
        self.moved_at = self.listened_at = time.monotonic()
        # 2. What was stored.
        self.ending: StoredCheckpoint | None = None  # to be recorded together with the landing
        self.has_noted_left_out = False  # that a limit keeps checkpoints out of the store
        self.unwritten, self.unstored = KnownFailures(), KnownFailures()
        # 3. What the database knows and asks for.
        self.unreported = ReportBuffer()
        self.stop_request = NO_STOP
        self.may_have_new_stop = False  # something was committed
        self.beaten_at = self.stop_read_at = self.ask_again_at = self.hosts_seen_at = 0.0
        self.hosts_known_since = time.monotonic()
        # 5. What the trainer was asked for.
        self.stop_sent = ""

    def follow(self) -> None:
        """Supervise the trainer to its end. Whatever happens, it does not outlive this call."""
        self.trainer = Trainer.start(self.spec, launcher=start.launcher(self.spec))
        self.storing.when_done = self.trainer.nudge
        over = threading.Event()
        try:
            with suppress(RuntimeError):  # no further thread: stop requests are read a little later
                threading.Thread(
                    target=self._watch_commits, args=(over,), name="commits", daemon=True
                ).start()
            while not self.turn():
                pass
        finally:
            over.set()
            self.storing.when_done = lambda: None
            self.trainer.kill()
            self.trainer.close()

    def turn(self) -> bool:
        """One turn of the loop; True when the attempt is over."""
        # 1. What the trainer says is taken.
        self.listen()
        # 2. What was stored meanwhile becomes the job's checkpoint.
        self.take_stored()
        # 3. The database gets a report and says whether the job is to stop.
        self.beat()
        # 4. The attempt ends, by whatever comes first.
        if self.is_over():
            return True
        # 5. The trainer is told to stop, or to go on.
        self.send_stop_request()
        return False

    # 1. What the trainer says is taken.

    def listen(self) -> None:
        if self.unreported.is_full:
            # The database is away. What is said from now on waits in the pipes, and in the end the trainer waits too.
            time.sleep(LISTEN_SECONDS)
            return
        until = time.monotonic() + LISTEN_SECONDS
        if self.exit_code is not None:
            time.sleep(0.02)  # only the store is waited for
        message = self.trainer.receive(LISTEN_SECONDS)
        while message is not None:
            self._take(message)
            message = self.trainer.receive(0) if time.monotonic() < until else None
        self.take_log()
        self.exit_code = self.trainer.exit_status()
        self.listened_at = time.monotonic()

    def _take(self, message: FromTrainer) -> None:
        match message:
            case Started():
                self.has_started = True
                self.retry_until_grace_ends(services.note_started, self.attempt, message)
                self.unreported.start_clock()
            case StepsDone():
                self.unreported.add_steps(message.rows)
                self.unreported.total_steps = message.total_steps or self.unreported.total_steps
            case EpochDone():
                self.unreported.epochs.append(message)
            case StateHashed():
                self.unreported.hashed.append(message)
            case PhaseChanged():
                self.unreported.phase = message.phase
            case StagedShard():
                self.storing.add(message)
                self.unreported.measure_pace(1)
            case StagedCheckpoint():
                self._take_staged(message)
            case Stopped() if self.stop_sent:  # else it was on its way when the stop was withdrawn
                self.stopped = message
            case Stopped() if self._rests_at_rung(message):
                self.stopped = message
                self.stop_request = self.retry_until_grace_ends(services.rest_at_rung, self.attempt)
            case Finished():
                self.finished = message
            case Failed():
                self.failed = message
            case CheckpointFailed():
                self._note_unwritten(message)
                return  # no progress
        self.moved_at = time.monotonic()

    def _rests_at_rung(self, place: Stopped | StagedCheckpoint) -> bool:
        """Whether it stands, by itself, where the sweep that it belongs to wants it to rest."""
        return self.spec.rest_after_epoch is not None and place.epoch >= self.spec.rest_after_epoch

    def _take_staged(self, staged: StagedCheckpoint) -> None:
        """On its way to the store, unless a limit is met; what the attempt ends with always is."""
        self.unwritten.forget()
        why_not = "" if ENDINGS & set(staged.kinds) else why_not_stored(self.attempt, staged.size)
        if not why_not:
            self.storing.add(staged)
            self.has_noted_left_out = False
            return
        Path(staged.path).unlink(missing_ok=True)
        self.unreported.hashed.append(as_hashed(staged))
        if not self.has_noted_left_out:  # one event, and not one for each
            self._note_left_out(staged, why_not)
            self.has_noted_left_out = True
        self.trainer.send(FileStored(staged.path))

    def take_log(self) -> None:
        self._pass_log_on(self.mask.pass_on(self.trainer.read_log()))

    def _pass_log_on(self, log: str) -> None:
        if self.log_limit is None and log:
            num_written = self.retry_until_grace_ends(services.num_log_characters, self.attempt.job)
            self.log_limit = LogLimit(num_written)
        if self.log_limit is not None:
            self.unreported.add_log(self.log_limit.pass_on(log))
        self.log_tail = (self.log_tail + log)[-LOG_TAIL_CHARACTERS:]

    def take_rest_of_log(self) -> None:
        """At the end of the attempt, what was held back of it goes with the last report."""
        if rest := self.mask.rest():
            self._pass_log_on(rest)
        if self.log_limit is not None:
            self.unreported.add_log(self.log_limit.rest())

    # 2. What was stored meanwhile becomes the job's checkpoint.

    def take_stored(self) -> None:
        failures = self.storing.failures
        done = self.storing.advance()
        if self.storing.failures > failures and self.unstored.is_new(self.storing.error):
            sentence = f"A checkpoint could not be stored yet, and is tried again: {self.storing.error}"
            self._note("checkpoint_failed", sentence)
        if done is None:
            return
        if not isinstance(done, LeftOut):
            self.unstored.forget()
        match done:
            case StoredShard():
                self.retry_until_grace_ends(services.record_shard, self.attempt, done)
                failpoint("recorded")
            case LeftOut():
                Path(done.staged.path).unlink(missing_ok=True)
                self.unreported.hashed.append(as_hashed(done.staged))
                self._note_left_out(done.staged, "newer ones wait for the store")
                self.context.has_stored = True
            case StoredCheckpoint():
                self._take_checkpoint(done)
                self.context.has_stored = True
        self.trainer.send(FileStored(done.staged.path))

    def _take_checkpoint(self, stored: StoredCheckpoint) -> None:
        kinds = stored.staged.kinds
        is_pause = "pause" in kinds and (self.stop_sent or self._rests_at_rung(stored.staged))
        if "final" in kinds or is_pause:
            self.record_ending()  # an older one, whose pause was withdrawn
            self.ending = stored
        else:
            self._record(stored)

    def _record(self, stored: StoredCheckpoint) -> None:
        self.report_all()
        self.retry_until_grace_ends(services.record_checkpoint, self.attempt, stored)
        failpoint("recorded")
        self.storing.submit(with_own_connection, retire, self.attempt)

    def record_ending(self) -> None:
        if self.ending is not None:
            ending, self.ending = self.ending, None
            self._record(ending)

    def _note_unwritten(self, failed: CheckpointFailed) -> None:
        if self.unwritten.is_new(failed.error, failed.kinds):
            kinds = ", ".join(failed.kinds)
            self._note("checkpoint_failed", f"A checkpoint ({kinds}) could not be written: {failed.error}")

    def _note_left_out(self, staged: StagedCheckpoint, why: str) -> None:
        self._note("checkpoint_left_out", f"The checkpoint at step {staged.step} was left out: {why}.")

    def _note(self, kind: str, sentence: str) -> None:
        self.retry_until_grace_ends(services.note, self.attempt, kind, sentence)

    # 3. The database gets a report and says whether the job is to stop.

    def beat(self) -> None:
        now = time.monotonic()
        if now < self.ask_again_at:
            return
        since = now - self.beaten_at
        try:
            if since >= settings.HEARTBEAT_SECONDS or self.unreported.is_due(since):
                self.report()
                self.beaten_at = self.stop_read_at = time.monotonic()
            elif self.may_have_new_stop or now - self.stop_read_at >= STOP_REQUEST_SECONDS:
                self.may_have_new_stop = False  # before the read: what is committed meanwhile is read again
                self.stop_request = services.read_stop_request(self.attempt)
                self.stop_read_at = time.monotonic()
        except DATABASE_AWAY as error:
            # The training goes on; its report is kept and sent at once when the database answers: the lease runs out.
            logger.warning("Job %s: the database does not answer: %s", self.attempt.job_id, error)
            connection.close()
            self.ask_again_at = time.monotonic() + STOP_REQUEST_SECONDS

    def report(self) -> None:
        """All that is unreported, or the first of much."""
        self.stop_request = services.beat(self.attempt, self.next_report())
        self.unreported.mark_reported()

    def report_all(self) -> None:
        while self.unreported:
            self.retry_until_grace_ends(self.report)

    def next_report(self) -> services.Report:
        return self.unreported.next_report(None if self.has_started else self.trainer.pid)

    def _watch_commits(self, over: threading.Event) -> None:
        """In a thread of its own: what was committed may be a stop request, so the loop is to look now."""
        listener = commits.listen_to(commits.JOBS, poll_seconds=POLL_SECONDS)
        try:
            while not over.is_set():
                try:
                    if listener.wait(0.2):
                        self.may_have_new_stop = True
                        self.trainer.nudge()
                except DATABASE_AWAY:
                    over.wait(1.0)
        finally:
            listener.close()

    # 4. The attempt ends, by whatever comes first.

    def is_over(self) -> bool:
        if self.failed is not None:
            return self.fail(self.failed)
        if self.exit_code is None and (lost := self.lost_host()):
            return self.lose(lost)
        if self.finished is not None and (self._is_stored(self.finished) or self._has_all_shards()):
            return self.complete()
        if self.stop_request.stop is Stop.CANCEL and (self.finished is None or self.storing.failures):
            return self.cancel()
        if self.finished is not None:
            return self.give_up_after_grace()
        if self.effective_stop() and self._can_land():
            return self.land()
        if self.effective_stop() == StopAt.STEP and not self.has_started:
            return self.leave_unstarted()
        if self.exit_code is not None:
            return self.crash(self.exit_code)
        if self._is_stalled():
            return self.kill_stalled()
        return self.give_up_after_grace()

    def lost_host(self) -> LostMember | None:
        """Another host of the job that cannot go on."""
        now = time.monotonic()
        if not self.attempt.rendezvous or now - self.hosts_seen_at < STOP_REQUEST_SECONDS:
            return None
        # While the database does not answer, no host can say that it lives.
        silent = SILENT_HEARTBEATS * settings.HEARTBEAT_SECONDS
        is_known = now - self.hosts_known_since > silent
        try:
            lost = services.lost_member(self.attempt, silent_seconds=silent if is_known else LONG_SECONDS)
        except DATABASE_AWAY:
            self.hosts_known_since, lost = now, None
        self.hosts_seen_at = now
        return lost

    def _can_land(self) -> bool:
        return self.stopped is not None and (self._is_stored(self.stopped) or self._has_all_shards())

    def _is_stored(self, place: Finished | Stopped) -> bool:
        """Whether the checkpoint of this very place is: the one of a withdrawn pause may come later."""
        if self.ending is None:
            return False
        kind, staged = "final" if isinstance(place, Finished) else "pause", self.ending.staged
        return staged.step == place.step and kind in staged.kinds

    def _has_all_shards(self) -> bool:
        """Synthetic data has no checkpoint: what was made is recorded."""
        return self.attempt.job.job_type == JobType.SYNTHETIC_DATA and self.storing.is_idle

    def _is_stalled(self) -> bool:
        if self.stopped is not None or self.exit_code is not None:
            return False
        if self.attempt.job.job_type == JobType.SYNTHETIC_DATA and self.storing.failures:
            return False  # it waits for the store
        limit = settings.STALL_SECONDS
        if not self.has_started:  # importing and building say nothing; on a busy machine that takes a while
            limit = max(limit, LEAST_START_SECONDS)
        return self.listened_at - self.moved_at > limit  # not what was spent waiting for the database

    # What is_over calls. Each returns whether the attempt is over now.

    @abstractmethod
    def complete(self) -> bool: ...

    @abstractmethod
    def land(self) -> bool: ...

    @abstractmethod
    def leave_unstarted(self) -> bool: ...

    @abstractmethod
    def cancel(self) -> bool: ...

    @abstractmethod
    def fail(self, failed: Failed) -> bool: ...

    @abstractmethod
    def crash(self, exit_code: int) -> bool: ...

    @abstractmethod
    def lose(self, lost: LostMember) -> bool: ...

    @abstractmethod
    def kill_stalled(self) -> bool: ...

    @abstractmethod
    def give_up_after_grace(self) -> bool: ...

    # 5. The trainer is told to stop, or to go on.

    def send_stop_request(self) -> None:
        wanted = self.effective_stop()
        if wanted == self.stop_sent and (wanted or self.stopped is None):
            return
        has_stopped = self.stop_sent or self.stopped is not None
        if has_stopped and wanted != StopAt.STEP:  # withdrawn, or asked again for later
            self.stopped = None
            self.trainer.send(GoOn())
            if self.ending is not None and "final" not in self.ending.staged.kinds:
                self.record_ending()
        if wanted:
            self.trainer.send(StopTraining(at=wanted))
        self.stop_sent = wanted

    def effective_stop(self) -> str:
        """A drain of this host stops at the next step, whatever the job is asked for."""
        return StopAt.STEP if self.host_drains() else self.stop_request.stops_at

    def host_drains(self) -> bool:
        return self.context.grace.has_begun()
