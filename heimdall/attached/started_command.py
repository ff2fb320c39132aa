"""A command that is running: its warden as the trainer sees it, its environment, and what its end is called."""

import contextlib
import errno
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heimdall.attached import warden
from heimdall.attached.program import Program
from heimdall.engine.errors import Crashed, Refused
from heimdall.trainer.pipes import write_all

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


class StartedCommand:
    """A command that is running, as the trainer sees it: through its warden."""

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


def error_of_end(code: int, last_lines: str) -> Exception:
    """A signal is a crash, also where a shell tells of it; any other code says that the command failed."""
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return Crashed(f"the command was killed by {signal.Signals(number).name}")
    return CommandFailed("command_failed", f"The command ended with exit code {code}.", last_lines)


def no_folder(program: Program, why: str) -> CommandFailed:
    return CommandFailed(
        "no_such_directory",
        f"The directory {program.directory!r} of the code cannot be entered ({why}): name one that the code holds.",
    )


def error_of_start(program: Program, refused: dict[str, Any], folder: Path) -> Exception:
    word, why, number = program.command[0], refused["refused"], refused["errno"]
    if refused["is_folder"]:
        return no_folder(program, why)
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
