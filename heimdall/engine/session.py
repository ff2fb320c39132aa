"""One attempt under a supervisor: the side of it that every driver has in common.

A driver is what trains: a recipe's loop (recipe_job.py), or a script's own. It says *when* something is, and the
session does what follows from it: restores, sends rows, makes checkpoints, and answers the supervisor. There is no
other writer of checkpoints. A driver is written in these steps:

    session = Session(channel.spec, send=channel.send, requests=requests)
    build everything                          # a model, an optimizer, ...: what implements Resumable
    session.restore(trained)                  # from the spec's checkpoint; nothing where there is none
    session.start(trained, started, load=...) # says what was found; from here on a checkpoint can be made
    after each optimizer step:  session.step_finished()
    after each epoch:           session.epoch_finished(EpochDone(...), kinds, goes_on=...)
    between two steps:          session.requested says "" (go on), STEP (stop here) or EPOCH (stop at its end)
    to stop:                    session.stop() makes the checkpoint, says so, and waits: True means go on training
                                after all (the request was withdrawn), False means end the process
    at the end:                 session.finish(reason) makes the last checkpoint and waits until the process may end

All of it happens on the training's thread. Nothing here draws from a random generator or changes what is trained:
where a step ends, the state is what the parts hold, and the next batch has not been asked for.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from heimdall import codec
from heimdall.codec import encoding
from heimdall.codec.errors import CannotEncode
from heimdall.engine.control import STEP, StopRequests
from heimdall.engine.errors import Crashed, Refused
from heimdall.engine.leave_out import with_faults
from heimdall.engine.next_hash import NextHash
from heimdall.engine.restore import restore
from heimdall.engine.resume_check import ResumeCheck, say_not_tried, why_not
from heimdall.engine.snapshot import NOTHING_KEPT, Announcer, KeptTensors, Stager, Ticket, state_of
from heimdall.failpoints import failpoint
from heimdall.recipes.base import Part
from heimdall.trainer.protocol import (
    CheckpointFailed,
    EpochDone,
    Finished,
    FromTrainer,
    PhaseChanged,
    Started,
    StepsDone,
    Stopped,
    TrainerSpec,
)

Send = Callable[[FromTrainer], None]

ROWS_SECONDS = 0.1
RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
REMEDY = "Bring the recipe back as it was and resume, or start a new job."


class Resumable(Protocol):
    """What a session asks of whatever is trained."""

    @property
    def parts(self) -> Mapping[str, Part]:
        """All that must survive, in the order in which it is loaded: the generators last."""

    @property
    def place(self) -> dict[str, int]:
        """{"step": finished steps, "epoch": finished epochs} of the whole job."""

    @property
    def samples(self) -> int | None:
        """Finished training samples of the whole job; None where nobody counts them."""

    def take_rows(self) -> list[dict[str, Any]]:
        """The rows of the steps since the last call."""


@dataclass(frozen=True)
class CheckpointSettings:
    every_minutes: float = 0.0
    """0: none by the clock."""
    try_resume: bool = True
    """Whether a resume is tried after the first step."""


class NextCheckpoint:
    """When the next checkpoint is due by the clock, what it will be made for, and the loss that belongs to it."""

    def __init__(self, every_minutes: float) -> None:
        self._seconds = every_minutes * 60
        self._kinds: list[str] = []
        self._closed: tuple[int, float | None] = (-1, None)
        self.postpone()

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self.due_at

    @property
    def kinds(self) -> list[str]:
        return self._kinds

    def postpone(self) -> None:
        self.due_at = time.monotonic() + self._seconds if self._seconds else float("inf")

    def epoch_closed(self, step: int, val_loss: float | None, kinds: Iterable[str] = ()) -> None:
        """The validation loss is that of the state after this step."""
        self._closed, self._kinds = (step, val_loss), list(kinds)

    def val_loss_at(self, step: int) -> float | None:
        closed_step, val_loss = self._closed
        return val_loss if closed_step == step else None

    def take_kinds(self, *more: str) -> list[str]:
        kinds, self._kinds = [*self._kinds, *more], []
        return kinds


class Session:
    def __init__(self, spec: TrainerSpec, *, send: Send, requests: StopRequests) -> None:
        self.spec = spec
        self._send = send
        self._requests = requests
        self._announcer = Announcer(send)
        requests.on_stored = self._announcer.stored
        self._stager = Stager(Path(spec.staging), finished=self._written)
        self._trained: Resumable | None = None
        requests.rest_after = spec.rest_after_epoch
        self._environment: dict[str, Any] = {}
        self._more_about: dict[str, Any] = {}
        self.total_steps = 0
        """Of the whole training, as far as the driver knows it by now."""
        self.loaded_about: dict[str, Any] = {}
        """What the header of the checkpoint says that was restored."""
        self._next = NextCheckpoint(0)
        is_alone = spec.ranks == 1 and spec.world_size <= 1  # several would have to meet for it
        self._next_hash = NextHash(spec.hash_seconds if is_alone else 0.0, spec.hash_at if is_alone else ())
        self._write_error: BaseException | None = None
        self._phase = ""
        self._has_skipped = False
        self._is_first_step = True
        self._rows_at = 0.0
        self._load_again: Callable[[Any], None] | None = None
        self._check: ResumeCheck | None = None

    # The beginning.

    def restore(
        self,
        trained: Resumable,
        *,
        load: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
        is_new_count: bool = False,
        own: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        """Load the spec's checkpoint into the parts. `own` takes out of it what is this process's.

        `load` gets the loaded parts and the file's `about`, where another job's state is taken over; `is_new_count`
        says that its counts are left behind.
        """
        if self.spec.checkpoint is None:
            return
        loaded, about = self._read(self.spec.checkpoint)
        self.loaded_about = about
        if own is not None:
            loaded = own(loaded)
        if load is None:
            self._restore_own(trained, loaded)
        else:
            load(loaded, about)
        for name, found in trained.place.items():
            if self.spec.expected.get(name, found) != found:
                wanted = self.spec.expected[name]
                raise Refused("bad_checkpoint", f"The checkpoint is of {name} {found}, not {wanted}.")
        self._stager.newest = (self.spec.expected.get("digest", ""), self.spec.expected.get("step", 0))
        if not is_new_count:
            self._next.epoch_closed(trained.place["step"], about.get("val_loss"))

    def start(
        self,
        trained: Resumable,
        started: Started,
        *,
        settings: CheckpointSettings = CheckpointSettings(),
        load_again: Callable[[Any], None] | None = None,
        more_about: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what was found. `more_about` stands in the header of each checkpoint. `load_again` builds everything
        once more and loads a state into that: what it raises as Refused after the first step is known then, and not
        at the first resume."""
        self._trained, self._environment = trained, started.environment
        self._more_about = dict(more_about or {})
        closed, self._next = self._next, NextCheckpoint(settings.every_minutes)
        step = trained.place["step"]
        self._next.epoch_closed(step, closed.val_loss_at(step))
        _refuse_what_cannot_be_saved(state_of(trained.parts))
        is_resumed = self.spec.checkpoint is not None and not self.spec.carry
        self._is_first_step = not is_resumed
        self._load_again = load_again if settings.try_resume else None
        self._send(started)

    # What a driver says while it trains.

    @property
    def requested(self) -> str:
        """What the supervisor wants: "" (go on), STEP or EPOCH."""
        if self._is_at_its_end():
            return STEP
        if self._trained is not None:
            self._requests.rest_if_due(self._of.place["epoch"])
        return self._requests.poll()

    def requested_of_all(self) -> str:
        """At the beginning and the end of an epoch, which all ranks of a training reach."""
        return self.requested

    def _is_at_its_end(self) -> bool:
        """Whether the spec says to go no further than here."""
        until = self.spec.until_step
        if until is None or self._trained is None:
            return False
        place = self._of.place
        return place["step"] >= until and place["epoch"] >= self.spec.until_epoch

    def has_nothing_due(self) -> bool:
        """Whether a step that is over asks for nothing: no rows to send, no checkpoint, no stop. Cheap enough for
        each of many thousand steps a second; where it is false, `step_finished` and `requested` say the rest."""
        now = time.monotonic()
        return (
            now < self._rows_at
            and now < self._next.due_at
            and now < self._next_hash.due_at
            and not self._requests.is_any
            and not self._is_first_step
            and self.spec.until_step is None
        )

    @property
    def is_exiting(self) -> bool:
        """Whether the process is to end, with nothing more said."""
        return self._requests.is_exiting

    def phase(self, name: str) -> None:
        if name != self._phase:
            self._phase = name
            self._send(PhaseChanged(name))

    def step_finished(self) -> None:
        if self._is_first_step:
            self._is_first_step = False
            self._look_at_first_step()
        if time.monotonic() >= self._rows_at:
            self.send_rows()
        if self._next.is_due and self._stager.has_room:
            self.checkpoint(["periodic"])
        elif (self._next_hash.places and self._next_hash.is_asked_for(self._of.place)) or (
            self._next_hash.is_due and self._stager.has_room
        ):
            self._hash_state()

    def epoch_finished(self, message: EpochDone, kinds: list[str], *, goes_on: bool) -> None:
        """`kinds`: what a checkpoint is to be made for. Where the training does not go on, the same file serves the
        pause or the end too."""
        self.send_rows()
        self._send(message)
        self._next.epoch_closed(message.step, message.values.get("val_loss"), kinds)
        if self._next_hash.is_asked_for(self._of.place):
            self._hash_state()
        if goes_on and self._next.kinds:
            self.checkpoint(self._next.take_kinds())

    def send_rows(self) -> None:
        self._rows_at = time.monotonic() + ROWS_SECONDS
        rows = self._of.take_rows()
        if rows:
            self._send(StepsDone(rows, self.total_steps))
        if self._write_error is not None:
            raise self._write_error
        if self._check is not None and self._check.is_over:
            check, self._check = self._check, None
            if check.refusal is not None:
                raise check.refusal

    def send_last_rows(self) -> None:
        """What was finished before a failure is not lost by it."""
        rows = self._of.take_rows() if self._trained is not None else []
        if rows:
            self._send(StepsDone(rows, self.total_steps))

    # Checkpoints.

    def checkpoint(self, kinds: list[str]) -> None:
        """Stage a checkpoint while the training goes on; leave it out if too many are not stored yet."""
        self._next.postpone()
        if not self._announcer.has_room and "best" not in kinds:
            self._say_skipped(kinds)
            return
        self._has_skipped = False
        self.send_rows()  # a training that is killed goes on from here: these steps are not made again
        self._stager.write(self._snapshot(kinds))

    def _say_skipped(self, kinds: list[str]) -> None:
        if not self._has_skipped:
            self._report_failure(f"{self._announcer.waiting} checkpoints wait to be stored", kinds)
        self._has_skipped = True

    def _hash_state(self) -> None:
        """A link of the chain without a file. The hashing goes on beside the training."""
        self._next_hash.postpone()
        trained = self._of
        about: dict[str, Any] = {"kinds": [], "val_loss": None, "about": {}} | trained.place
        ticket = self._stager.snapshot(trained.parts, samples=trained.samples, is_stored=False, **about)
        self._stager.write(ticket)

    def stop(self) -> bool:
        """Stop here as asked. True: the request was withdrawn, train on. False: end the process."""
        self.send_rows()
        if self.is_exiting:
            return False
        if self._stage_surely("pause"):
            failpoint("stopping")
            self._send(Stopped(**self._of.place))
            if self._is_at_its_end():
                self._requests.wait_for_exit()
            elif not self._requests.wait_for_answer():
                return False
        self._next.postpone()
        return not self.is_exiting

    def finish(self, reason: str) -> None:
        """The training is over; come back when the process may end."""
        self.send_rows()
        if self._check is not None:
            self._check.close()
        if not self.is_exiting and self._stage_surely("final"):
            failpoint("finishing")
            self._send(Finished(**self._of.place, reason=reason))
            self._requests.wait_for_exit()

    def _stage_surely(self, kind: str) -> bool:
        """Stage the checkpoint on which the end rests; try until it is durable, or not wanted any more."""
        ticket = self._snapshot(self._next.take_kinds(kind))
        ticket.is_needed = True
        try:
            for attempt in range(1_000_000):
                self._stager.write(ticket)
                while not self._stager.wait(ticket, 0.5):
                    if self.is_exiting:
                        return False
                if ticket.error is None:
                    return True
                if self._write_error is not None:
                    raise self._write_error
                self._requests.wait_for_change(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                if self.is_exiting or (kind == "pause" and not self.requested):
                    return False
            raise AssertionError("the disk has been full for months")
        finally:
            self._stager.release(ticket)

    def _snapshot(self, kinds: list[str]) -> Ticket:
        trained = self._of
        place: dict[str, Any] = dict(trained.place)
        val_loss = self._next.val_loss_at(place["step"])
        about = (
            self.spec.about
            | self._more_about
            | {
                "recipe": self.spec.package,
                "config": self.spec.config,
                "environment": self._environment,
                "kinds": kinds,
                "val_loss": val_loss,
                "created_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                **place,
            }
        )
        parts, kept = self._saved_parts()
        return self._stager.snapshot(
            parts, kept=kept, kinds=kinds, val_loss=val_loss, about=about, samples=trained.samples, **place
        )

    def _saved_parts(self) -> tuple[Mapping[str, Part], KeptTensors]:
        """What goes into the file, and what of it need not be copied."""
        return self._of.parts, NOTHING_KEPT

    def _written(self, ticket: Ticket) -> None:
        """Called on the writing thread."""
        if ticket.error is None and not ticket.is_stored:
            self._announcer.announce_hash(ticket)
            self._next_hash.postpone(time.perf_counter() - ticket.started_at)
        elif ticket.error is None:
            self._next_hash.postpone()  # a checkpoint is a link, too
            self._announcer.announce(ticket)
            failpoint("staged")
        elif isinstance(ticket.error, OSError | MemoryError):
            if ticket.is_stored:
                self._report_failure(str(ticket.error), ticket.kinds)
        else:
            self._write_error = ticket.error
        if not ticket.is_needed:
            self._stager.release(ticket)

    def _report_failure(self, error: str, kinds: list[str]) -> None:
        self._send(CheckpointFailed(error, tuple(kinds)))

    # What is known early.

    def _look_at_first_step(self) -> None:
        """Optimizers make their state at the first step: now it is known whether it can be saved and loaded."""
        state = state_of(self._of.parts)
        _refuse_what_cannot_be_saved(state)
        if self._load_again is None:
            return
        reason = why_not(state)
        if reason:
            say_not_tried(reason)
        else:
            self._check = ResumeCheck(state, self._load_again)

    # Reading.

    def _read(self, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return codec.load(path, digest=self.spec.expected.get("digest"))
        except OSError as error:
            # Unreadable is not bad.
            raise Crashed(f"the checkpoint cannot be read: {error}") from error
        except codec.InvalidCheckpoint as error:
            raise Refused("bad_checkpoint", f"The checkpoint is damaged: {error}.") from error

    def _restore_own(self, trained: Resumable, loaded: dict[str, Any]) -> None:
        try:
            restore(trained.parts, with_faults(trained.parts, loaded, self.spec.leave_out))
        except Refused as error:
            raise Refused(error.code, f"{error} {REMEDY}") from error

    @property
    def _of(self) -> Resumable:
        assert self._trained is not None, "start() comes first"
        return self._trained


def _refuse_what_cannot_be_saved(state: Mapping[str, Any]) -> None:
    try:
        encoding.check(state)
    except CannotEncode as error:
        raise Refused("cannot_be_saved", f"No checkpoint of this training can be made: {error}.") from error
