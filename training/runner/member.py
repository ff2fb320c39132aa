"""What a host does for a job of several hosts that another one leads: it offers slots, then follows its own ranks.

The leader holds the attempt: it alone renews the lease, reports, stores, lands. A member says that it lives, passes
on what its ranks print, and ends them when the attempt is over; where they end by themselves it says so, and the
leader ends the attempt.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from heimdall.errors import HeimdallError
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import Failed, TrainerSpec
from training import host, services
from training.errors import BadCheckpoint, NoGoodCheckpoint, StaleAttempt
from training.models import Attempt, GangMember
from training.runner import start
from training.runner.attempt import CANNOT_RUN, Supervision
from training.runner.context import AttemptContext
from training.runner.database_retry import DATABASE_AWAY, GraceIsOver
from training.runner.log_limit import LogLimit
from training.runner.loop import NO_STOP
from training.runner.secret_mask import SecretMask
from training.services import StopRequest, Supervisor

LOOK_SECONDS = 0.5  # between two looks at an offer, and at an attempt
LOG_SECONDS = 1.0


def wait_for_others(member: GangMember, who: Supervisor) -> Attempt | GangMember | None:
    """The attempt that this host leads or belongs to; None where the others did not come in time."""
    until = time.monotonic() + services.OFFER_SECONDS
    while time.monotonic() < until and not host.stop_signals.must_leave():
        seen = services.look(member, who)
        if seen is None:
            break
        if isinstance(seen, Attempt) or seen.attempt_id is not None:
            return seen
        time.sleep(LOOK_SECONDS)
    return None if services.withdraw(member) else services.look(member, who)


class MemberSupervision(Supervision):
    """Holds one host's part of an attempt. `run` returns when the attempt is over."""

    def __init__(self, member: GangMember, context: AttemptContext):
        super().__init__(context)
        self.member = member
        self._trainer: Trainer | None = None
        self._mask = SecretMask(services.opened(self.job.secrets).values())
        self._log_limit = LogLimit(services.num_log_characters(self.job))
        self._unwritten_log, self._logged_at = "", 0.0
        self._has_said_it_leaves = self._is_lost = False

    def tidy_up(self) -> None:
        self.context.remove_staging()

    def _run(self) -> None:
        self.context.log(f"is joined by {self.member.node.name}")
        try:
            self._supervise()
            self._wait_for_the_end()
        except (StaleAttempt, GraceIsOver):
            self.context.log("is over")
        except CANNOT_RUN as error:
            self._lose_and_wait(str(error), error_code=error.code)
        except DATABASE_AWAY as error:
            self.context.log(f"left: the database does not answer: {error}")
        except (HeimdallError, OSError) as error:
            self._lose_and_wait(f"it cannot run it now: {error}")

    def _lose_and_wait(self, why: str, *, error_code: str = "") -> None:
        with suppress(StaleAttempt, GraceIsOver):
            self._lose(why, error_code=error_code)
            self._wait_for_the_end()

    def _fetch_start(self) -> Path | None:
        """What the leader found good is good; a copy that arrives damaged ends the attempt."""
        try:
            return super()._fetch_start()
        except (BadCheckpoint, NoGoodCheckpoint) as error:
            raise OSError(str(error)) from error

    def _set_aside(self, reason: str) -> None:
        raise OSError(reason)

    def _follow(self, spec: TrainerSpec) -> None:
        trainer = self._trainer = Trainer.start(spec, launcher=start.launcher(spec))
        try:
            while self._turn(trainer):
                pass
        finally:  # what counts was stored by the leader
            trainer.kill()
            trainer.close()

    def _turn(self, trainer: Trainer) -> bool:
        """1. what its ranks say  2. that it lives, and whether the attempt still does  3. whether its ranks do."""
        message = trainer.receive(0.1)
        self._unwritten_log += self._log_limit.pass_on(self._mask.pass_on(trainer.read_log()))
        self._read_stop_request()
        if isinstance(message, Failed):
            is_its_copy = message.code == "bad_checkpoint"  # of the checkpoint, which the leader could read
            code = "" if is_its_copy else message.code
            return self._lose(f"{message.error}\n{message.traceback}".strip(), error_code=code)
        status = trainer.exit_status()
        if status:
            return self._lose(f"its ranks ended ({services.how_it_died(status)}).")
        return True  # also where they have done all: the leader says when the attempt is over

    def _spec(self, package: str, folder: Path | None, python: str, checkpoint: Path | None) -> TrainerSpec:
        return start.spec(
            self.attempt,
            member=self.member,
            package=package,
            folder=folder,
            python=python,
            checkpoint=checkpoint,
            staging=self.context.staging,
            scratch=self.context.scratch,
        )

    # It keeps no lease: it says that it lives.

    def _read_stop_request(self) -> StopRequest:
        now = time.monotonic()
        if now - self._read_at < LOOK_SECONDS:
            return NO_STOP
        self._read_at = now
        with suppress(*DATABASE_AWAY):  # for as long as the leader waits for a word
            services.beat_member(self.member)
            if host.stop_signals.must_land() and not self._has_said_it_leaves:
                services.leave_gang(self.member)
                self._has_said_it_leaves = True
            if self._unwritten_log and now - self._logged_at >= LOG_SECONDS:
                log, self._unwritten_log, self._logged_at = self._unwritten_log, "", now
                services.add_member_log(self.member, log)
        return NO_STOP

    def _beat(self) -> StopRequest:
        """With what an environment says that is being built."""
        self._unwritten_log += self._search.take_log() if self._search is not None else ""
        return self._read_stop_request()

    def _stop_early_in_a_drain(self) -> None:
        """The leader lands: this host leaves with the end of the attempt, or when its grace is over."""
        if self.context.grace.is_over():
            raise GraceIsOver

    def _wait_for_the_end(self) -> None:
        """Its slots are held for the attempt until that is over, or this host's grace is."""
        while True:
            self._stop_early_in_a_drain()
            self._read_stop_request()
            time.sleep(LOOK_SECONDS)

    def _lose(self, why: str, *, error_code: str = "") -> bool:
        if not self._is_lost:
            self._is_lost = True
            self.retry_until_grace_ends(
                services.lose_member, self.member, self._mask.hide(why), error_code=error_code
            )
            self.context.log(f"cannot go on: {why}")
        return False


def part_of(member: GangMember, slot: int) -> MemberSupervision:
    assert member.attempt is not None
    context = AttemptContext(member.attempt, slot, name=host.folder().name)
    return MemberSupervision(member, context)
