"""What drives a trainer by a command: any program at all, under a warden (warden.py).

The command needs neither torch nor a line about Heimdall. It is started in its folder, with the variables that its
user gave; its log is the trainer's log, and patterns read metrics from it. A stop of any kind, at a step or at an
epoch's end, asks it to leave now: it gets `pause_signal`, and after `grace_seconds` TERM and then KILL.

It counts as stopped with a checkpoint only where a new complete file stands in `checkpoint_folder` and the command is
gone, of itself and well (exit code 0, or by the signal that it was sent), or had not written for a second when it had
to be ended. The folder's files are then one checkpoint of ours. Else the job stands where the folder was last seen
complete, or at step 0, and an event says so. While it trains, what it saves is taken over now and then, so that a
crash goes on from there. A resume writes the files back, and adds `resume_arguments`.
"""

import contextlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from heimdall.attached import warden
from heimdall.attached.checkpoint_folder import CheckpointFolder, NotTaken
from heimdall.attached.log_rows import LogRows
from heimdall.attached.own_checkpoints import Kept, OwnCheckpoints
from heimdall.attached.program import Program
from heimdall.attached.started_command import (
    StartedCommand,
    command_environment,
    error_of_end,
    error_of_start,
    no_folder,
)
from heimdall.engine import environment
from heimdall.engine.control import StopRequests
from heimdall.engine.errors import Crashed, Refused, code_of
from heimdall.engine.other_job import WEIGHTS
from heimdall.engine.recipe_job import FAILED
from heimdall.engine.restore import restore
from heimdall.engine.session import CheckpointSettings, Send, Session
from heimdall.trainer.channel import Channel
from heimdall.trainer.exit_codes import CRASHED
from heimdall.trainer.protocol import CheckpointFailed, Failed, PhaseChanged, Started, TrainerSpec

CHECKPOINT_EVERY_MINUTES = 10.0
LISTEN_SECONDS = 0.1
TOO_MANY_ROWS = (
    "heimdall: the log has more than ten thousand lines with metrics a second; some of them are left out"
)
NO_MATCH = "heimdall: the metric patterns matched no line of the log, so that there are no metrics"
OWN_CHECKPOINTS = "a command goes on from its own checkpoints, in its own way"


def run(channel: Channel) -> int:
    """Follow the command that the spec names, and return the exit code. A failure is told."""
    requests = StopRequests()
    channel.listen(requests.receive)
    warden.become_subreaper()
    job = None
    try:
        job = CommandJob(channel.spec, send=channel.send, requests=requests)
        job.start()
        job.follow()
    except BaseException as error:
        if job is not None:
            with contextlib.suppress(Exception):
                job.session.send_last_rows()
        return _failed(error, channel)
    return 0


def _failed(error: BaseException, channel: Channel) -> int:
    code = code_of(error)
    if isinstance(error, Crashed):
        print(f"heimdall: {error}", flush=True)
        return CRASHED
    if code is None or not isinstance(error, Refused | MemoryError):
        traceback.print_exc(file=sys.stderr)
        return CRASHED
    channel.send(Failed(code, str(error), getattr(error, "last_lines", "")))
    return FAILED


class CommandJob:
    """A command under a supervisor; what the session sees trained."""

    def __init__(self, spec: TrainerSpec, *, send: Send, requests: StopRequests) -> None:
        self.session = Session(spec, send=send, requests=requests)
        self._spec, self._send = spec, send
        self._program = Program.model_validate(spec.program.get("program", {}))
        self._working_folder = Path(spec.folder) / self._program.directory
        patterns = map(re.compile, self._program.metric_patterns)
        self._rows = LogRows({group for pattern in patterns for group in pattern.groupindex})
        minutes = float(spec.config.get("checkpoint_every_minutes", CHECKPOINT_EVERY_MINUTES))
        self._own = OwnCheckpoints(self._checkpoint_folder(), self._program, every_minutes=minutes)
        self._is_asked_to_leave = False
        self._has_said_why_not = self._has_said_too_much = False

    def start(self) -> None:
        """Write back what is to be resumed, and say where the job stands."""
        carry, is_resumed = self._spec.carry, self._spec.checkpoint is not None
        self.session.restore(self, load=self._begin_with if carry else None, is_new_count=carry == WEIGHTS)
        self._own.begin(self._rows.state_dict(), has_checkpoint=is_resumed)
        self.session.start(self, self._started(), settings=CheckpointSettings(try_resume=False))

    def follow(self) -> None:
        """Until the command has ended by itself, or the supervisor lets the process go."""
        while True:
            ended = self._followed_once()
            if self.session.is_exiting:
                return
            self._rows.close_row()
            if not self._is_asked_to_leave:
                self._take_the_end(ended)
                self.session.finish("command")
                return
            self._take_what_it_left(ended)
            if not self.session.stop():
                return
            self._is_asked_to_leave = False  # the stop was withdrawn: start it once more
            self._own.put_back(self._rows.state_dict())

    # What the session asks.

    @property
    def parts(self) -> Mapping[str, Any]:
        return {"log": self._rows} | self._own.parts

    @property
    def place(self) -> dict[str, int]:
        return {"step": self._rows.step, "epoch": self._rows.epoch}

    @property
    def samples(self) -> int | None:
        return None

    def take_rows(self) -> list[dict[str, Any]]:
        rows = self._rows.take_rows()
        if self._rows.left_out and not self._has_said_too_much:
            self._has_said_too_much = True
            print(TOO_MANY_ROWS, flush=True)
        return rows

    # The beginning.

    def _checkpoint_folder(self) -> CheckpointFolder | None:
        if not self._program.checkpoint_folder:
            return None
        if not self._working_folder.is_dir():
            raise no_folder(self._program, "there is none")
        path = self._working_folder / self._program.checkpoint_folder
        return CheckpointFolder(path, root=self._working_folder)

    def _begin_with(self, loaded: dict[str, Any], about: dict[str, Any]) -> None:
        """Another job's checkpoint: its files, and for a training that goes on its counts, too."""
        restore(self.parts, loaded)
        if self._spec.carry == WEIGHTS:
            self._rows.load_state_dict(LogRows().state_dict())

    def _started(self) -> Started:
        has_cuda = self._spec.device != "cpu" and torch.cuda.is_available()
        found = environment.describe(
            torch.device("cpu"),  # nothing is asked of the GPU here: that would take memory of it
            threads=self._spec.threads or torch.get_num_threads(),
            precision="as the command says",
            deterministic=False,
            fingerprint="",
            recipe_digest=str(self._spec.program.get("code", "")),
        )
        return Started(
            **self.place,
            total_steps=0,
            environment=found | {"device": "cuda" if has_cuda else "cpu"},
            approximate=[OWN_CHECKPOINTS] if self._spec.checkpoint is not None else [],
        )

    # While it runs.

    def _followed_once(self) -> dict[str, Any]:
        """Start the command and follow it to its end. Whatever happens, nothing of it outlives this call."""
        command = StartedCommand(self._order())
        try:
            while True:
                for message in command.receive(LISTEN_SECONDS):
                    if "ended" in message:
                        return message
                    self._take(message)
                self.session.send_rows()
                if self.session.is_exiting:
                    return {}
                if self._is_asked_to_leave:
                    continue
                if self.session.requested:
                    self._is_asked_to_leave = True
                    self._own.remember()
                    command.stop(self._pause_signal, self._program.grace_seconds)
                elif (kept := self._own.due(self._rows.state_dict())) is not None:
                    self._take_over(kept)
        finally:
            command.close()

    def _order(self) -> dict[str, Any]:
        resumed = self._program.resume_arguments if self._own.are_there() else []
        given = self._program.variables | dict(self._spec.program.get("secrets", {}))
        python = str(self._spec.program.get("python", "")) or sys.executable
        return {
            "command": [*self._program.command, *resumed],
            "folder": str(self._working_folder),
            "environment": command_environment(os.environ, given, python=python),
            "patterns": self._program.metric_patterns,
        }

    def _take(self, message: dict[str, Any]) -> None:
        if "refused" in message:
            raise error_of_start(self._program, message, self._working_folder)
        for match in message.get("matches", ()):
            self._rows.add(match)
        if "sign" in message:
            self._send(PhaseChanged("training"))  # so that nobody takes it for stalled

    @property
    def _pause_signal(self) -> signal.Signals:
        return signal.Signals[f"SIG{self._program.pause_signal}"]

    def _take_over(self, kept: Kept) -> None:
        try:
            with self._standing_at(kept.place):
                self._own.take_over(kept, lambda: self.session.checkpoint(["periodic"]))
        except NotTaken as error:
            if not self._has_said_why_not:
                self._has_said_why_not = True
                self._say_not_kept(f"{error}", "periodic")

    @contextlib.contextmanager
    def _standing_at(self, place: dict[str, Any]) -> Iterator[None]:
        """A checkpoint is of the place at which its files were written; the log is further by now."""
        now, rows = self._rows, LogRows()
        rows.load_state_dict(place)  # without rows: there are none to send of another place
        self._rows = rows
        try:
            yield
        finally:
            self._rows = now

    # The end.

    def _take_the_end(self, ended: dict[str, Any]) -> None:
        """It has ended by itself: well, or not."""
        if ended["ended"]:
            self.session.send_rows()
            raise error_of_end(ended["ended"], ended["tail"])
        if self._program.metric_patterns and not self._rows.has_found:
            print(NO_MATCH, flush=True)
        try:
            self._own.take_all()
        except NotTaken as error:
            self._say_not_kept(f"{error}", "final")

    def _take_what_it_left(self, ended: dict[str, Any]) -> None:
        """Hold what the checkpoint of the stop is made of, and stand where that was."""
        try:
            self._own.take_new(ended, self._pause_signal)
        except NotTaken as error:
            self.session.send_rows()
            place = self._own.take_last(f"{error}")
            self._rows.load_state_dict(place or LogRows().state_dict())
            begins = f"the job stands at step {self._rows.step}"
            self._say_not_kept(
                f"{error}; {begins if place else 'nothing is kept, and it begins again at step 0'}", "pause"
            )

    def _say_not_kept(self, why: str, kind: str) -> None:
        print(f"heimdall: {why}", flush=True)
        self._send(CheckpointFailed(why, (kind,)))
