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
import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from heimdall.attached import warden
from heimdall.attached.checkpoint_folder import CheckpointFolder, NotTaken, Signature
from heimdall.attached.log_rows import LogRows
from heimdall.attached.program import Program
from heimdall.engine import environment
from heimdall.engine.control import StopRequests
from heimdall.engine.errors import Crashed, Refused, code_of
from heimdall.engine.other_job import WEIGHTS
from heimdall.engine.recipe_job import CRASHED, FAILED
from heimdall.engine.restore import restore
from heimdall.engine.session import CheckpointSettings, Send, Session
from heimdall.trainer.channel import Channel
from heimdall.trainer.pipes import write_all
from heimdall.trainer.protocol import CheckpointFailed, Failed, PhaseChanged, Started, TrainerSpec

CHECKPOINT_EVERY_MINUTES = 10.0
LISTEN_SECONDS = 0.1
LOOK_SECONDS = 0.5  # between two looks into the checkpoint folder
SETTLED_SECONDS = 2.0  # what did not change for so long is complete
STILL_SECONDS = 1.0  # before a command had to be ended
OWN_CHECKPOINTS = "a command goes on from its own checkpoints, in its own way"

# Of the worker's environment a command is given these alone.
PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|(?i:\w+_proxy)|SSL_CERT_\w+|"
    r"REQUESTS_CA_BUNDLE|CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|HOME|PATH)|NVIDIA_\w+|(OMP|MKL)_NUM_THREADS|"
    r"XDG_CACHE_HOME|HF_HOME|TORCH_HOME"
)


class CommandFailed(Refused):
    """The command could not be started, or says that it failed."""

    def __init__(self, code: str, sentence: str, last_lines: str = "") -> None:
        super().__init__(code, sentence)
        self.last_lines = last_lines


@dataclass(frozen=True)
class Kept:
    """What the checkpoint folder held when it was last seen complete, and where the log was then."""

    files: dict[str, Signature]
    place: dict[str, Any]


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
        self._folder = self._checkpoint_folder()
        self._kept: Kept | None = None
        self._seen: dict[str, Signature] = {}
        self._seen_place: dict[str, Any] = {}
        self._seen_at = self._look_at = 0.0
        self._before_stop: dict[str, Signature] | None = None
        self._taken: dict[str, Signature] = {}  # what the newest checkpoint was made of
        self._has_checkpoint = spec.checkpoint is not None
        self._has_said_why_not = False
        minutes = float(spec.config.get("checkpoint_every_minutes", CHECKPOINT_EVERY_MINUTES))
        self._every_seconds = minutes * 60 if minutes else float("inf")
        self._taken_at = time.monotonic()

    def start(self) -> None:
        """Write back what is to be resumed, and say where the job stands."""
        carry = self._spec.carry
        self.session.restore(self, load=self._begin_with if carry else None, is_new_count=carry == WEIGHTS)
        if self._folder is not None:
            self._folder.drop()
            self._seen = self._taken = self._folder.look()
            if self._spec.checkpoint is not None and self._seen:
                self._kept = Kept(self._seen, self._rows.state_dict())
        self.session.start(self, self._started(), settings=CheckpointSettings(try_resume=False))

    def follow(self) -> None:
        """Until the command has ended by itself, or the supervisor lets the process go."""
        while True:
            ended = self._followed_once()
            if self.session.is_exiting:
                return
            self._rows.close_row()
            if self._before_stop is None:
                self._take_the_end(ended)
                self.session.finish("command")
                return
            self._take_what_it_left(ended)
            if not self.session.stop():
                return
            self._begin_again()

    # What the session asks.

    @property
    def parts(self) -> Mapping[str, Any]:
        return {"log": self._rows} | ({"files": self._folder} if self._folder is not None else {})

    @property
    def place(self) -> dict[str, int]:
        return {"step": self._rows.step, "epoch": self._rows.epoch}

    def take_rows(self) -> list[dict[str, Any]]:
        return self._rows.take_rows()

    # The beginning.

    def _checkpoint_folder(self) -> CheckpointFolder | None:
        if not self._program.checkpoint_folder:
            return None
        if not self._working_folder.is_dir():
            raise _no_folder(self._program, "there is none")
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
        process = WardenProcess(self._order())
        try:
            while True:
                for message in process.receive(LISTEN_SECONDS):
                    if "ended" in message:
                        return message
                    self._take(message)
                self.session.send_rows()
                if self.session.is_exiting:
                    return {}
                if self.session.requested and self._before_stop is None:
                    self._before_stop = self._folder.look() if self._folder is not None else {}
                    process.stop(self._pause_signal, self._program.grace_seconds)
                self._look()
        finally:
            process.close()

    def _order(self) -> dict[str, Any]:
        resumed = self._program.resume_arguments if self._folder is not None and self._folder.look() else []
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
            raise _not_started(self._program, message, self._working_folder)
        for match in message.get("matches", ()):
            self._rows.add(match)
        if "sign" in message:
            self._send(PhaseChanged("training"))  # so that nobody takes it for stalled

    @property
    def _pause_signal(self) -> signal.Signals:
        return signal.Signals[f"SIG{self._program.pause_signal}"]

    # What it saved by itself.

    def _look(self) -> None:
        """What stands unchanged in the folder for a while is complete, and is taken over when it is time."""
        now = time.monotonic()
        if self._folder is None or self._before_stop is not None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        files = self._folder.look()
        if files != self._seen:
            self._seen, self._seen_place, self._seen_at = files, self._rows.state_dict(), now
        elif self._seen_place and files and now - self._seen_at >= SETTLED_SECONDS:
            self._kept = Kept(files, self._seen_place)
            if files != self._taken and now - self._taken_at >= self._every_seconds:
                self._take_over(self._kept)

    def _take_over(self, kept: Kept) -> None:
        assert self._folder is not None
        try:
            self._folder.take()
            if self._folder.look() != kept.files:
                return
            with self._standing_at(kept.place):
                self.session.checkpoint(["periodic"])
            self._taken, self._taken_at, self._has_checkpoint = kept.files, time.monotonic(), True
        except NotTaken as error:
            if not self._has_said_why_not:
                self._has_said_why_not = True
                self._say_not_kept(f"{error}", "periodic")
        finally:
            self._folder.drop()

    @contextlib.contextmanager
    def _standing_at(self, place: dict[str, Any]) -> Iterator[None]:
        """A checkpoint is of the place at which its files were written; the log is further by now."""
        now, rows = self._rows, LogRows()
        rows.load_state_dict(place)
        self._rows = rows
        try:
            yield
        finally:
            self._rows = now

    # The end.

    def _take_the_end(self, ended: dict[str, Any]) -> None:
        """It has ended by itself: well, or not."""
        code = ended["ended"]
        if code:
            self.session.send_rows()
            _raise_for(code, ended["tail"])
        try:
            if self._folder is not None:
                self._folder.take()
        except NotTaken as error:
            self._say_not_kept(f"{error}", "final")

    def _take_what_it_left(self, ended: dict[str, Any]) -> None:
        """Hold what the checkpoint of the stop is made of, and stand where that was."""
        why_not = self._why_nothing_new(ended)
        if not why_not and self._folder is not None:
            try:
                return self._folder.take()
            except NotTaken as error:
                why_not = str(error)
        self._go_back(why_not)

    def _why_nothing_new(self, ended: dict[str, Any]) -> str:
        """Empty where it left a checkpoint of its own."""
        if self._folder is None:
            return "the command has no checkpoint_folder"
        before = self._before_stop or {}
        new = {name: facts for name, facts in self._folder.look().items() if before.get(name) != facts}
        code, number = ended["ended"], self._pause_signal
        if not new:
            return f"the command left no new complete file in {self._program.checkpoint_folder}"
        if ended["forced_at"] is not None:
            newest = max(new, key=lambda name: new[name][1])
            if new[newest][1] / 1e9 > ended["forced_at"] - STILL_SECONDS:
                seconds = self._program.grace_seconds
                return f"the command was still writing {newest} after {seconds:g} s, and was ended"
        elif code not in (0, -number, 128 + number):
            return (
                f"the command left with exit code {code}, so that what it wrote is not trusted: leave with 0"
            )
        return ""

    def _go_back(self, why: str) -> None:
        """Stand where the folder was last complete, else at step 0."""
        kept, folder = self._kept, self._folder
        if kept is not None and folder is not None:
            now = folder.look()
            if all(now.get(name) == facts for name, facts in kept.files.items()):
                with contextlib.suppress(NotTaken):
                    folder.take(only=kept.files)
                    self._rows.load_state_dict(kept.place)
                    return self._say_not_kept(f"{why}; the job stands at step {self._rows.step}", "pause")
        if self._has_checkpoint:
            # What it goes on from is stored, and no longer here.
            raise Crashed(f"{why}, and what it had saved before is not as it was")
        self.session.send_rows()
        self._rows.load_state_dict(LogRows().state_dict())
        self._say_not_kept(f"{why}; nothing is kept, and it begins again at step 0", "pause")

    def _begin_again(self) -> None:
        """The stop was withdrawn: start it once more, from what the checkpoint holds."""
        self._before_stop = None
        if self._folder is not None:
            state = self._folder.state_dict()
            self._folder.put_back(state)
            self._folder.drop()
            self._seen = self._taken = self._folder.look()
            self._seen_place = self._rows.state_dict()
            self._kept = Kept(self._seen, self._seen_place) if state["files"] else None
        self._has_checkpoint, self._taken_at = True, time.monotonic()

    def _say_not_kept(self, why: str, kind: str) -> None:
        print(f"heimdall: {why}", flush=True)
        self._send(CheckpointFailed(why, (kind,)))


class WardenProcess:
    """The trainer's handle of its warden."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._messages, theirs = os.pipe()
        self._unread = b""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", warden.__file__, str(theirs), str(os.getpid())],
                stdin=subprocess.PIPE,
                bufsize=0,
                pass_fds=(theirs,),
                start_new_session=True,
                env={name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            )
        finally:
            os.close(theirs)
        self._say(order)

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """What it said, within that time. A warden that has died is a crash."""
        if not select.select([self._messages], [], [], seconds)[0]:
            return []
        chunk = os.read(self._messages, warden.CHUNK)
        if not chunk:
            raise Crashed("the process that watches over the command has died")
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self, number: int, seconds: float) -> None:
        """Send the command a signal, and end it after so many seconds."""
        self._say({"number": int(number), "seconds": seconds})

    def close(self) -> None:
        """Come back when nothing is left of the command."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        warden.end_descendants()  # of a warden that was killed
        os.close(self._messages)

    def _say(self, request: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and said so
            assert self._process.stdin is not None
            write_all(self._process.stdin.fileno(), json.dumps(request).encode() + b"\n")


def command_environment(ours: Mapping[str, str], given: Mapping[str, str], *, python: str) -> dict[str, str]:
    """What the user gave, over the few variables that any program needs. `python` is the one on its PATH."""
    passed = {name: value for name, value in ours.items() if PASSED_ON.fullmatch(name)}
    folder = os.path.dirname(python)
    passed["PATH"] = os.pathsep.join(filter(None, [folder, passed.get("PATH") or os.defpath]))
    passed["PYTHONUNBUFFERED"] = "1"  # its log, and what is read from it, is to come as it is printed
    return passed | dict(given)


def _raise_for(code: int, last_lines: str) -> None:
    """A signal is a crash, also where a shell tells of it; any other code says that the command failed."""
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        raise Crashed(f"the command was killed by {signal.Signals(number).name}")
    raise CommandFailed("command_failed", f"The command ended with exit code {code}.", last_lines)


def _no_folder(program: Program, why: str) -> CommandFailed:
    return CommandFailed(
        "no_such_directory",
        f"The directory {program.directory!r} of the code cannot be entered ({why}): name one that the code holds.",
    )


def _not_started(program: Program, refused: dict[str, Any], folder: Path) -> Exception:
    word, why, number = program.command[0], refused["refused"], refused["errno"]
    if refused["is_folder"]:
        return _no_folder(program, why)
    if number in (errno.ENOMEM, errno.EAGAIN):
        return Crashed(f"{word} could not be started: {why}")
    is_file = (folder / word).is_file()
    remedy = {
        errno.ENOENT: "its first line names an interpreter that is not there."
        if is_file and "/" in word
        else "there is no such command. Name a file of the code as ./FILE, or install the command on the worker.",
        errno.EACCES: f"it may not be executed. Set its executable bit (chmod +x), or start it as bash {word}.",
        errno.ENOEXEC: "it is no program. Begin a script with a line such as #!/bin/bash, or name its interpreter.",
    }.get(number, f"{why}.")
    code = "command_not_found" if number == errno.ENOENT else "command_not_started"
    return CommandFailed(code, f"The command {word!r} cannot be started: {remedy}")
