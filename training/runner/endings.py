"""The ends of an attempt that has a trainer. The loop decides which comes first; each is written out here."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from django.conf import settings

from heimdall.failpoints import failpoint
from heimdall.trainer.exit_codes import CRASHED
from heimdall.trainer.protocol import Exit, Failed
from training import services
from training.lifecycle import Stop
from training.runner.database_retry import DATABASE_AWAY, GraceIsOver
from training.runner.loop import NO_STOP, STOP_REQUEST_SECONDS, SupervisorLoop
from training.services import Landing, LostMember
from training.store.checkpoints import StoredCheckpoint

EXIT_SECONDS = 5.0  # how long a trainer may take to leave when its work is done
SILENT_SECONDS = 4.0  # of a host that says twice a second that it lives
MOST_TRIES = 5  # to store what a trainer left behind that died or failed


class BadStart(Exception):
    """The trainer could not load the checkpoint it was to start from."""


class TrainerSupervision(SupervisorLoop):
    is_let_go = False  # then nobody is left who could go on
    why_killed = ""

    # It came to its end, or to a place to land at.

    def complete(self) -> bool:
        self.take_rest_of_log()
        self.report_all()
        self.retry_until_grace_ends(services.complete, self.attempt, self.ending)
        self._let_go("completed")
        return True

    def land(self) -> bool:
        """The trainer waits at the place of the stored checkpoint: land by the stop as it is now.

        It is let go as soon as nobody can withdraw the stop any more, and leaves while the landing is written.
        """
        self.take_rest_of_log()
        while self.unreported.needs_several_reports:  # the last go with the landing
            self.retry_until_grace_ends(self.report)
        stored = self._ending_of_this_stop()
        failpoint("before_landing")
        landing = self.retry_until_grace_ends(
            lambda: services.land(
                self.attempt,
                stored,
                report=self.next_report(),
                draining=self.host_drains() or self.stop_request.is_node_drained,
                final=self.exit_code is not None or self.is_let_go,  # then the trainer cannot go on
                reason=self.context.why_it_lands(self.stop_request),
                when_decided=self._release,
            )
        )
        self.unreported.mark_reported()
        failpoint("after_landing")
        if landing is Landing.GO_ON:
            self.stop_request = NO_STOP
            return False
        self._let_go(f"landed: {landing}")
        return True

    def _ending_of_this_stop(self) -> StoredCheckpoint | None:
        """A checkpoint on which nobody paused is none of a pause."""
        if self.ending is None or self.stop_request.stop is Stop.PAUSE:
            return self.ending
        staged = self.ending.staged
        kinds = tuple("drain" if kind == "pause" else kind for kind in staged.kinds)
        return replace(self.ending, staged=replace(staged, kinds=kinds))

    def leave_unstarted(self) -> bool:
        self._stop_at_once()
        self.retry_until_grace_ends(self.context.land_unstarted, self.stop_request)
        return True

    # It ends here. What it had staged is durable and counts.

    def cancel(self) -> bool:
        """No checkpoint is made for a cancelled job, but one that exists already is kept."""
        self._stop_at_once()
        if not self.storing.is_idle and not self.storing.failures:
            return self.give_up_after_grace()
        stored, self.ending = self.ending, None
        self.retry_until_grace_ends(services.land, self.attempt, stored, final=True)
        self.context.log("cancelled")
        return True

    def fail(self, failed: Failed) -> bool:
        if self._waits_for_the_store():
            return self.give_up_after_grace()
        self._wait_for_its_exit()
        if failed.code == "bad_checkpoint" and self.attempt.started_from is not None:
            raise BadStart(failed.error)
        self.record_ending()
        text = self.mask.hide(f"{failed.error}\n{failed.traceback}".strip())
        self.retry_until_grace_ends(services.fail, self.attempt, code=failed.code, message=text)
        self._let_go("failed")
        return True

    def crash(self, exit_code: int) -> bool:
        if self._waits_for_the_store():
            return self.give_up_after_grace()
        self._wait_for_its_exit()
        if self.attempt.rendezvous and exit_code == CRASHED and (lost := self._wait_for_a_lost_host()):
            return self.lose(lost)
        self.record_ending()
        detail = f"{self.why_killed}\n{self.log_tail}".strip()
        status = self.retry_until_grace_ends(services.crash, self.attempt, exit_code=exit_code, detail=detail)
        self.context.log(f"crashed with {exit_code}, now {status}")
        return True

    def lose(self, lost: LostMember) -> bool:
        """A host of several is lost, and with it the attempt. That is no crash of the job's; a failure is one."""
        self._stop_at_once()
        if lost.error_code:
            text = self.mask.hide(lost.why)
            self.retry_until_grace_ends(services.fail, self.attempt, code=lost.error_code, message=text)
        else:
            self.retry_until_grace_ends(services.reap, self.attempt, reason=lost.why, even_if_leased=True)
        self.context.log(f"lost a host: {lost.why.splitlines()[0]}")
        return True

    def kill_stalled(self) -> bool:
        """The next turns see how it died, or that it just came to its end."""
        self.why_killed = f"No progress for {settings.STALL_SECONDS:g} s: the trainer was killed."
        self._stop_at_once()
        return False

    def _wait_for_a_lost_host(self) -> LostMember | None:
        """Ranks here end where those of another host are gone, before that host can say so, or where it is silent
        because all of it is gone."""
        deadline = time.monotonic() + EXIT_SECONDS
        while time.monotonic() < deadline:
            with suppress(*DATABASE_AWAY):
                if lost := services.lost_member(self.attempt, silent_seconds=SILENT_SECONDS):
                    return lost
            self.beat()
            time.sleep(STOP_REQUEST_SECONDS)
        return None

    def _waits_for_the_store(self) -> bool:
        return not self.storing.is_idle and self.storing.failures < MOST_TRIES

    def give_up_after_grace(self) -> bool:
        """While draining, an upload may take only so long; then the job goes back to its last checkpoint."""
        if not self.context.grace.is_over():
            return False
        self._stop_at_once()
        reason = f"Its checkpoint was not stored within {settings.DRAIN_GRACE_SECONDS:g} s of the drain."
        services.land(self.attempt, draining=True, final=True, reason=reason)
        raise GraceIsOver

    # The trainer goes.

    def _stop_at_once(self) -> None:
        """Kill the trainer and take what it had still said."""
        self.trainer.kill()
        deadline = time.monotonic() + EXIT_SECONDS
        while self.exit_code is None and not self.unreported.is_full and time.monotonic() < deadline:
            self.listen()
        self.take_rest_of_log()
        self.report_all()

    def _wait_for_its_exit(self) -> None:
        """Of one that ends by itself: what it prints until then belongs to the log of this attempt."""
        self.trainer.wait(EXIT_SECONDS)
        self.take_log()
        self.take_rest_of_log()
        self.report_all()

    def _let_go(self, what: str) -> None:
        self.context.log(what)
        self._release()
        self.trainer.wait(EXIT_SECONDS)  # whoever is left then is killed

    def _release(self) -> None:
        if not self.is_let_go:
            self.is_let_go = True
            self.trainer.send(Exit())
