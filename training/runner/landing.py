"""An attempt in which there is a trainer, and its end, by whatever comes first."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace

from django.conf import settings

from heimdall.failpoints import failpoint
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import Exit, Failed, Finished, Stopped
from training import services
from training.lifecycle import JobType, Stop, StopAt
from training.runner import start
from training.runner.grace import GraceIsOver
from training.runner.relay import NOTHING_WISHED, Relay
from training.services import Landing
from training.store.checkpoints import StoredCheckpoint

EXIT_SECONDS = 5.0  # how long a trainer may take to leave when its work is done
LEAST_START_SECONDS = 300.0  # that a trainer may take to build everything
MOST_TRIES = 5  # to store what a trainer left behind that died or failed


class BadStart(Exception):
    """The trainer could not load the checkpoint it was to start from."""


class Training(Relay):
    is_let_go = False  # then nobody is left who could go on
    why_killed = ""

    def follow(self) -> None:
        """Supervise the trainer to its end. Whatever happens, it does not outlive this call."""
        self.trainer = Trainer.start(self.spec, launcher=start.launcher())
        self.storing.when_done = self.trainer.nudge
        over = threading.Event()
        try:
            with suppress(RuntimeError):  # no further thread: wishes are read a little later
                threading.Thread(target=self.hear_commits, args=(over,), name="ear", daemon=True).start()
            while not self.turn():
                pass
        finally:
            over.set()
            self.storing.when_done = lambda: None
            self.trainer.kill()
            self.trainer.close()

    def turn(self) -> bool:
        """One turn of the loop; True when the attempt is over."""
        # 1. What the trainer said.
        self.listen()
        # 2. What was stored meanwhile becomes the job's checkpoint.
        self.take_stored()
        # 3. The database hears the news and says what is wished.
        self.beat()
        # 4. The end, by whatever comes first.
        if self._is_over():
            return True
        # 5. The trainer hears the wish.
        self.tell()
        return False

    def _is_over(self) -> bool:
        if self.failed is not None:
            return self._fail(self.failed)
        if self.finished is not None and (self._stands_at(self.finished) or self._has_all_shards()):
            return self._complete()
        if self.wish.stop is Stop.CANCEL and (self.finished is None or self.storing.failures):
            return self._cancel()
        if self.finished is not None:
            return self._mind_the_grace()
        if self.wanted() and self._has_landing_place():
            return self._land()
        if self.wanted() == StopAt.STEP and not self.has_started:
            return self._leave()
        if self.exit_code is not None:
            return self._crash(self.exit_code)
        if self._is_stalled():
            return self._end_stalled()
        return self._mind_the_grace()

    def _has_landing_place(self) -> bool:
        return self.stopped is not None and (self._stands_at(self.stopped) or self._has_all_shards())

    def _stands_at(self, place: Finished | Stopped) -> bool:
        """Whether the checkpoint of this very place is stored: the one of a withdrawn pause may come later."""
        kind = "final" if isinstance(place, Finished) else "pause"
        return self.ending is not None and self.ending.step == place.step and kind in self.ending.kinds

    def _has_all_shards(self) -> bool:
        """Synthetic data has no checkpoint: what was made is recorded."""
        return self.attempt.job.job_type == JobType.SYNTHETIC_DATA and self.storing.is_idle

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

    # It came to its end, or to a place to land at.

    def _complete(self) -> bool:
        self.take_rest_of_log()
        self.flush()
        self.persist(services.complete, self.attempt, self.ending)
        self._let_go("completed")
        return True

    def _land(self) -> bool:
        """The trainer waits at the place of the stored checkpoint: land by the stop as it is now.

        It is let go as soon as nobody can withdraw the stop any more, and leaves while the landing is written.
        """
        self.take_rest_of_log()
        while self.news.are_many:  # the last go with the landing
            self.persist(self.send_news)
        stored = self._named_by_its_stop()
        failpoint("before_landing")
        landing = self.persist(
            lambda: services.land(
                self.attempt,
                stored,
                news=services.News(**self.take_news()),
                draining=self.drains() or self.wish.node_drains,
                final=self.exit_code is not None or self.is_let_go,  # then the trainer cannot go on
                reason=self.context.why_it_lands(self.wish),
                when_decided=self._release,
            )
        )
        self.news_are_written()
        failpoint("after_landing")
        if landing is Landing.GO_ON:
            self.wish = NOTHING_WISHED
            return False
        self._let_go(f"landed: {landing}")
        return True

    def _named_by_its_stop(self) -> StoredCheckpoint | None:
        """A checkpoint on which nobody paused is none of a pause."""
        if self.ending is None or self.wish.stop is Stop.PAUSE:
            return self.ending
        kinds = ("drain" if kind == "pause" else kind for kind in self.ending.kinds)
        return replace(self.ending, kinds=tuple(kinds))

    def _leave(self) -> bool:
        self._stop_at_once()
        self.persist(self.context.land_unstarted, self.wish)
        return True

    # It ends here. What it had staged is durable and counts.

    def _cancel(self) -> bool:
        """No checkpoint is made for a cancelled job, but one that exists already is kept."""
        self._stop_at_once()
        if not self.storing.is_idle and not self.storing.failures:
            return self._mind_the_grace()
        stored, self.ending = self.ending, None
        self.persist(services.land, self.attempt, stored, final=True)
        self.context.log("cancelled")
        return True

    def _fail(self, failed: Failed) -> bool:
        if self._waits_for_the_store():
            return self._mind_the_grace()
        self._hear_out()
        if failed.code == "bad_checkpoint" and self.attempt.started_from is not None:
            raise BadStart(failed.error)
        self.record_ending()
        text = f"{failed.error}\n{failed.traceback}".strip()
        self.persist(services.fail, self.attempt, code=failed.code, message=text)
        self._let_go("failed")
        return True

    def _crash(self, exit_code: int) -> bool:
        if self._waits_for_the_store():
            return self._mind_the_grace()
        self._hear_out()
        self.record_ending()
        detail = f"{self.why_killed}\n{self.log_tail}".strip()
        status = self.persist(services.crash, self.attempt, exit_code=exit_code, detail=detail)
        self.context.log(f"crashed with {exit_code}, now {status}")
        return True

    def _end_stalled(self) -> bool:
        """The next turns see how it died, or that it just came to its end."""
        self.why_killed = f"No progress for {settings.STALL_SECONDS:g} s: the trainer was killed."
        self._stop_at_once()
        return False

    def _waits_for_the_store(self) -> bool:
        return not self.storing.is_idle and self.storing.failures < MOST_TRIES

    def _mind_the_grace(self) -> bool:
        """While draining, an upload may take only so long; then the job goes back to its last checkpoint."""
        if not self.context.grace.is_over():
            return False
        self._stop_at_once()
        reason = f"Its checkpoint was not stored within {settings.DRAIN_GRACE_SECONDS:g} s of the drain."
        services.land(self.attempt, draining=True, final=True, reason=reason)
        raise GraceIsOver

    # The trainer goes.

    def _stop_at_once(self) -> None:
        """Kill the trainer and hear what it had still said."""
        self.trainer.kill()
        deadline = time.monotonic() + EXIT_SECONDS
        while self.exit_code is None and not self.news.are_full and time.monotonic() < deadline:
            self.listen()
        self.take_rest_of_log()
        self.flush()

    def _hear_out(self) -> None:
        """Of one that ends by itself: what it prints until then belongs to the log of this attempt."""
        self.trainer.wait(EXIT_SECONDS)
        self.take_log()
        self.take_rest_of_log()
        self.flush()

    def _let_go(self, what: str) -> None:
        self.context.log(what)
        self._release()
        self.trainer.wait(EXIT_SECONDS)  # whoever is left then is killed

    def _release(self) -> None:
        if not self.is_let_go:
            self.is_let_go = True
            self.trainer.send(Exit())
