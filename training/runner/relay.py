"""While there is a trainer: what goes up to the database and the store, and down to the trainer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import connection

from heimdall.errors import HeimdallError
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
    StepsDone,
    Stopped,
    StopTraining,
    TrainerSpec,
)
from training import services
from training.lifecycle import Stop, StopAt
from training.models import Attempt
from training.queue import commits
from training.runner.context import AttemptContext
from training.runner.grace import AWAY, aside
from training.runner.log_limit import LogLimit
from training.runner.news import News
from training.runner.storing import ENDINGS
from training.services import Wish
from training.store.checkpoints import StoredCheckpoint
from training.store.datasets import StoredShard

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

NOTHING_WISHED = Wish(Stop.NONE, "")
LISTEN_SECONDS = 0.1  # how long the loop waits for the trainer's next message
WISH_SECONDS = 0.25  # how old the known wish may get where no commit is heard
POLL_SECONDS = 0.004  # how often SQLite is asked whether something was committed
NEWS_SECONDS = 0.25  # how long news may wait for the next beat
LOG_TAIL_CHARACTERS = 8_000


class Relay:
    """Its trainer is started by who follows it; the numbered parts are the steps of that loop."""

    trainer: Trainer

    def __init__(self, context: AttemptContext, spec: TrainerSpec):
        self.context = context
        self.attempt = context.attempt
        self.storing = context.storing
        self.spec = spec
        self.news = News()
        self.log_tail = ""
        self.log_limit: LogLimit | None = None  # until something is printed
        self.wish = NOTHING_WISHED
        self.may_be_wished = False
        self.told = ""
        self.has_started = self.has_stepped = False
        self.stopped: Stopped | None = None  # the trainer waits at this place
        self.finished: Finished | None = None
        self.failed: Failed | None = None
        self.ending: StoredCheckpoint | None = None  # stored, and to be recorded by the landing
        self.exit_code: int | None = None
        self.beaten_at = self.heard_at = self.ask_again_at = 0.0
        self.is_unsure = False  # whether the last news were written: their answer was lost
        self.moved_at = self.stepped_at = self.listened_at = time.monotonic()
        self.step_seconds: float | None = None
        self.has_said_why_not = False  # that a bound keeps checkpoints out of the store

    # 1. What the trainer said.

    def listen(self) -> None:
        if self.news.are_full:
            # The database is away. What is said from now on waits in the pipes, and in the end the trainer waits too.
            time.sleep(LISTEN_SECONDS)
            return
        until = time.monotonic() + LISTEN_SECONDS
        if self.exit_code is not None:
            time.sleep(0.02)  # only the store is waited for
        message = self.trainer.receive(LISTEN_SECONDS)
        while message is not None:
            self._hear(message)
            message = self.trainer.receive(0) if time.monotonic() < until else None
        self.take_log()
        self.exit_code = self.trainer.exit_status()
        self.listened_at = time.monotonic()

    def take_log(self) -> None:
        log = self.trainer.read_log()
        if self.log_limit is None and log:
            self.log_limit = LogLimit(self.persist(services.num_log_characters, self.attempt.job))
        if self.log_limit is not None:
            self.news.add_log(self.log_limit.pass_on(log))
        self.log_tail = (self.log_tail + log)[-LOG_TAIL_CHARACTERS:]

    def take_rest_of_log(self) -> None:
        """At the end of the attempt, what was held back of it goes with the last report."""
        if self.log_limit is not None:
            self.news.add_log(self.log_limit.rest())

    def _hear(self, message: FromTrainer) -> None:
        match message:
            case Started():
                self.has_started = True
                self.persist(services.note_started, self.attempt, message)
                self.stepped_at = time.monotonic()
            case StepsDone():
                self.news.steps.extend(message.rows)
                self._measure_pace(len(message.rows))
            case EpochDone():
                self.news.epochs.append(message)
            case PhaseChanged():
                self.news.phase = message.phase
            case StagedShard():
                self.storing.add(message)
                self._measure_pace(1)
            case StagedCheckpoint():
                self._take_staged(message)
            case Stopped() if self.told:  # else it was on its way when the wish was withdrawn
                self.stopped = message
            case Finished():
                self.finished = message
            case Failed():
                self.failed = message
            case CheckpointFailed():
                said = f"A checkpoint ({', '.join(message.kinds)}) could not be written: {message.error}"
                self.persist(services.note, self.attempt, "checkpoint_failed", said)
                return  # no progress
        self.moved_at = time.monotonic()

    def _take_staged(self, staged: StagedCheckpoint) -> None:
        """On its way to the store, unless a bound is met; what the attempt ends with always is."""
        why_not = "" if ENDINGS & set(staged.kinds) else why_not_stored(self.attempt, staged.size)
        if not why_not:
            self.storing.add(staged)
            self.has_said_why_not = False
            return
        if self.has_said_why_not:  # one event, and not one for each
            Path(staged.path).unlink(missing_ok=True)
        else:
            self._note_left_out(staged, why_not)
            self.has_said_why_not = True
        self.trainer.send(FileStored(staged.path))

    def _measure_pace(self, steps: int) -> None:
        now = time.monotonic()
        pace = (now - self.stepped_at) / max(steps, 1)
        self.stepped_at = now
        self.step_seconds = pace if self.step_seconds is None else 0.8 * self.step_seconds + 0.2 * pace

    # 2. What was stored meanwhile.

    def take_stored(self) -> None:
        failures = self.storing.failures
        done = self.storing.advance()
        if self.storing.failures > failures and self.storing.failures & (self.storing.failures - 1) == 0:
            said = f"A checkpoint could not be stored yet (try {self.storing.failures}): {self.storing.error}"
            self.persist(services.note, self.attempt, "checkpoint_failed", said)
        if done is None:
            return
        staged, stored = done
        if isinstance(staged, StagedShard):
            assert isinstance(stored, StoredShard)  # a shard is never left out
            self.persist(services.record_shard, self.attempt, stored, total=staged.total)
            failpoint("recorded")
        else:
            assert not isinstance(stored, StoredShard)
            self._take_checkpoint(staged, stored)
        self.trainer.send(FileStored(staged.path))

    def _take_checkpoint(self, staged: StagedCheckpoint, stored: StoredCheckpoint | None) -> None:
        if stored is None:
            self._note_left_out(staged, "newer ones wait for the store")
        elif "final" in stored.kinds or ("pause" in stored.kinds and self.told):
            self.record_ending()  # an older one, whose pause was withdrawn
            self.ending = stored
        else:
            self._record(stored)
        self.context.has_stored = True

    def _note_left_out(self, staged: StagedCheckpoint, why: str) -> None:
        Path(staged.path).unlink(missing_ok=True)
        said = f"The checkpoint at step {staged.step} was left out: {why}."
        self.persist(services.note, self.attempt, "checkpoint_left_out", said)

    def _record(self, stored: StoredCheckpoint) -> None:
        self.flush()
        self.persist(services.record_checkpoint, self.attempt, stored)
        failpoint("recorded")
        self.storing.submit(aside, retire, self.attempt)

    def record_ending(self) -> None:
        if self.ending is not None:
            ending, self.ending = self.ending, None
            self._record(ending)

    # 3. The database hears the news and says what is wished.

    def beat(self) -> None:
        now = time.monotonic()
        if now < self.ask_again_at:
            return
        since = now - self.beaten_at
        try:
            if since >= settings.HEARTBEAT_SECONDS or (self.news and since >= self._patience()):
                self.send_news()
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

    def flush(self) -> None:
        while self.news:
            self.persist(self.send_news)

    def send_news(self) -> None:
        """All, or the first of many."""
        self.wish = services.beat(self.attempt, **self.take_news())
        self.news_are_written()

    def take_news(self) -> dict[str, Any]:
        """The news as the database is told them. Until it has answered, nobody knows whether they are written."""
        is_again, self.is_unsure = self.is_unsure, True
        pid = None if self.has_started else self.trainer.pid
        facts = {"trainer_pid": pid, "step_seconds": self.step_seconds, "is_again": is_again}
        return self.news.first_piece() | facts

    def news_are_written(self) -> None:
        self.is_unsure = False
        self.has_stepped = self.has_stepped or bool(self.news.steps)
        self.news = self.news.without_first_piece()

    def _patience(self) -> float:
        """How long news wait; the first step is told at once, and so is what is left of many."""
        is_first = bool(self.news.steps) and not self.has_stepped
        return 0.0 if is_first or self.news.are_many else NEWS_SECONDS

    def hear_commits(self, over: threading.Event) -> None:
        """In a thread of its own: what was committed may be a wish, so the loop is to look now."""
        listener = commits.listen_to(commits.JOBS, poll_seconds=POLL_SECONDS)
        try:
            while not over.is_set():
                try:
                    if listener.wait(0.2):
                        self.may_be_wished = True
                        self.trainer.nudge()
                except AWAY:
                    over.wait(1.0)
        finally:
            listener.close()

    # 5. The trainer hears the wish.

    def tell(self) -> None:
        asked = self.wanted()
        if asked == self.told:
            return
        if self.told and asked != StopAt.STEP:  # withdrawn, or asked again for later
            self.stopped = None
            self.trainer.send(GoOn())
            if self.ending is not None and "final" not in self.ending.kinds:
                self.record_ending()
        if asked:
            self.trainer.send(StopTraining(at=asked))
        self.told = asked

    def wanted(self) -> str:
        return StopAt.STEP if self.drains() else wanted(self.wish)

    def drains(self) -> bool:
        return self.context.grace.has_begun()

    def persist(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.context.persist(write, *args, **kwargs)


def wanted(wish: Wish) -> str:
    """The effective stop: nothing, at the epoch's end, or at the next step."""
    if wish.node_drains or wish.stop in (Stop.PREEMPT, Stop.CANCEL):
        return StopAt.STEP
    return str(wish.stop_at) if wish.stop is Stop.PAUSE else ""


def why_not_stored(attempt: Attempt, size: int) -> str:
    """What keeps a checkpoint out of the store. A database that is away keeps none."""
    try:
        return services.why_not_stored(attempt, size)
    except AWAY:
        return ""


def retire(attempt: Attempt) -> None:
    """Delete what the retention no longer keeps. A failure only leaves it for the next time."""
    try:
        services.retire_checkpoints(attempt.job)
    except (HeimdallError, *AWAY) as error:
        logger.warning("Job %s: old checkpoints stay for now: %s", attempt.job_id, error)
