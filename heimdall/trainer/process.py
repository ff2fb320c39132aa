"""The trainer as a process of its own: how it is started, talked to and ended. No torch, no Django.

Three pipes join supervisor and trainer: control (down), messages (up) and the log (stdout and stderr, up).
Control and messages carry one JSON object a line; NaN and the infinities travel as the strings "nan", "inf"
and "-inf". The first line down is the TrainerSpec. The supervisor has a `Trainer`, the trainer a `Channel`:

    if __name__ == "__main__":                      # of heimdall.trainer.__main__
        channel = process.connect()                 # before torch is imported
        from heimdall.engine import ...
        channel.finish(run(channel))

A trainer never outlives its supervisor: on Linux the kernel kills it,
and at the end of the control pipe it exits.
"""

import codecs
import contextlib
import ctypes
import errno
import fcntl
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

Message = dict[str, Any]

MOST_UNREAD = 2_000  # messages that a supervisor keeps while it is busy
MOST_UNSENT = 1_000  # messages that a trainer keeps; then its training waits
ROOM_SECONDS = 0.1  # between two looks for room
MOST_LOG_CHARACTERS = 256 * 1024  # kept until somebody reads the log
PIPE_BYTES = 2**20
SUPERVISOR_GONE = 70  # exit code of a trainer whose control pipe ended

_ROOT = str(Path(__file__).resolve().parents[2])
# Of Heimdall's own settings a trainer sees these alone: recipes are other people's code.
_PASSED_ON = {"HEIMDALL_RECIPES", "HEIMDALL_FAILPOINTS", "HEIMDALL_FAILPOINTS_ONCE", "HEIMDALL_TEXT_FOLDERS"}
_WITHHELD = {
    "DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DJANGO_SETTINGS_MODULE",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
}  # fmt: skip


@dataclass(frozen=True)
class TrainerSpec:
    """All that a trainer is told at its start."""

    package: str
    config: dict[str, Any]
    staging: str
    about: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    carry: str = ""
    """The checkpoint is another training's, and this is what is carried over; empty: it is this one's own."""
    device: str = "auto"
    gpu: int | str | None = None
    """Its number, or its UUID; empty: none at all; None: whichever CUDA finds."""
    threads: int | None = None
    pinned: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    scratch: str = ""
    finished: list[int] = field(default_factory=list)
    """Synthetic data: numbers of the shards that need not be made again."""
    name_title: str = "heimdall trainer"

    def to_message(self) -> Message:
        return asdict(self)

    @classmethod
    def from_message(cls, message: Message) -> "TrainerSpec":
        return cls(**message)


def to_line(message: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError):
        text = json.dumps(_sendable(message), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii") + b"\n"


def _sendable(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _sendable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_sendable(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _sendable(value.item())
    return str(value)


# Starting


@dataclass(frozen=True)
class ChildEnds:
    """The file descriptors that belong to the trainer; the launcher's caller closes its copies."""

    control: int
    messages: int
    log: int


class Process(Protocol):
    """A process that somebody started. Who waits for it is the launcher's affair."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """The exit code, or minus the signal; None while it lives."""

    def wait(self, timeout: float) -> bool:
        """Whether it has ended, and its memory is free; waits so long for it."""

    def kill(self) -> None:
        """End it and all of its session, at once. Nothing happens if it has ended."""


class Launcher(Protocol):
    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process: ...


class ColdLauncher:
    """Starts a new interpreter."""

    def __init__(self, module: str = "heimdall.trainer.__main__"):
        self._module = module

    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process:
        command = [
            sys.executable,
            "-m",
            self._module,
            str(ends.control),
            str(ends.messages),
            str(os.getpid()),
        ]
        return _ColdProcess(
            start_process(
                command,
                stdout=ends.log,
                stderr=ends.log,
                pass_fds=(ends.control, ends.messages),
                env=child_environment(spec, os.environ),
            )
        )


class _ColdProcess:
    def __init__(self, popen: "subprocess.Popen[bytes]"):
        self._popen = popen
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def poll(self) -> int | None:
        with self._lock:
            return self._popen.poll()

    def wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.002)
        return True

    def kill(self) -> None:
        # Not reaped yet means that the number is still its own.
        with self._lock:
            if self._popen.poll() is None:
                kill_session(self._popen.pid)


def start_process(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, from a thread that lives as long as this process.

    The kernel's signal at a parent's death follows the thread that started the child, not the process.
    """
    options |= {"stdin": subprocess.DEVNULL, "start_new_session": True}
    started: subprocess.Popen[bytes] = (
        _starter(os.getpid()).submit(lambda: subprocess.Popen(command, **options)).result()
    )
    return started


@lru_cache(maxsize=1)
def _starter(pid: int) -> ThreadPoolExecutor:
    """The thread; a fork has none, and gets its own."""
    return ThreadPoolExecutor(1, f"starter-{pid}")


def kill_session(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def base_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What every trainer has in common; it must stand before the interpreter starts."""
    passed = {
        name: value
        for name, value in environment.items()
        if name not in _WITHHELD and (not name.startswith("HEIMDALL_") or name in _PASSED_ON)
    }
    passed["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, passed.get("PYTHONPATH", "")]))
    passed["PYTHONHASHSEED"] = "0"  # a recipe that walks over a set of strings does so in one order
    passed["PYTHONUTF8"] = "1"  # text is read in one way on every host
    passed["PYTHONUNBUFFERED"] = "1"
    # The threads of numpy's BLAS start with its import, so that a fork server could not have them; its sums must
    # not depend on how the trainer was started.
    passed["OPENBLAS_NUM_THREADS"] = "1"
    # Threads of torch that wait for each other sleep. By default they spin, and where something else wants the cores
    # (another slot's training) the one that is waited for does not get one: a step then took 15 times as long.
    passed.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return passed


def own_environment(spec: TrainerSpec) -> dict[str, str]:
    """What depends on the job; it must stand before torch looks for GPUs and cores."""
    own = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    if spec.device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    elif spec.gpu is not None:
        own["CUDA_VISIBLE_DEVICES"] = str(spec.gpu)
        # As the driver counts; by itself CUDA begins with the fastest.
        own["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if spec.threads is not None:
        own |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(spec.threads))
    return own


def child_environment(spec: TrainerSpec, environment: Mapping[str, str]) -> dict[str, str]:
    return base_environment(environment) | own_environment(spec)


# The supervisor's side


class Trainer:
    """The supervisor's handle of one trainer. No method waits, but for `receive` and `close`."""

    def __init__(
        self, process: Process, *, control: int, messages: int, log: int, most_messages: int = MOST_UNREAD
    ):
        self._process = process
        self._inbox: queue.Queue[Message | None] = queue.Queue(most_messages)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log = _Log()
        self._last_sign_at = 0.0  # of life: a message, or that the process was there
        self._has_one_in_hand = False  # a message for which there is no room yet
        self._is_closed = False
        self._threads = [
            _thread("control", self._write_control, control),
            _thread("messages", self._read_messages, messages),
            _thread("log", self._read_log, log),
        ]

    @classmethod
    def start(
        cls, spec: TrainerSpec, *, launcher: Launcher | None = None, most_messages: int = MOST_UNREAD
    ) -> "Trainer":
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            control_out, control_in = _pipe(read_by=theirs, written_by=ours)
            messages_out, messages_in = _pipe(read_by=ours, written_by=theirs)
            log_out, log_in = _pipe(read_by=ours, written_by=theirs)
            ends = ChildEnds(control_out, messages_in, log_in)
            process = (launcher or ColdLauncher()).launch(spec, ends)
            ours.pop_all()  # they belong to the trainer's threads now
        try:
            trainer = cls(
                process, control=control_in, messages=messages_out, log=log_out, most_messages=most_messages
            )
        except OSError:
            process.kill()
            raise
        trainer.send(spec.to_message())
        return trainer

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> None:
        self._outbox.put(to_line(message))

    def nudge(self) -> None:
        """End a `receive` that waits, from any thread: there is something else to be seen to."""
        with contextlib.suppress(queue.Full):
            self._inbox.put_nowait(None)

    def receive(self, timeout: float) -> Message | None:
        """The next message, or None when none came in time, none will come any more, or on a nudge."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                # Short looks, so that the end of the pipe is seen while one waits.
                return self._inbox.get(timeout=min(left, 0.05)) if left > 0 else self._inbox.get_nowait()
            except queue.Empty:
                if left <= 0 or (not self._threads[1].is_alive() and self._inbox.empty()):
                    return None

    def read_log(self) -> str:
        """What was printed since the last call."""
        return self._log.take()

    def exit_status(self) -> int | None:
        """The exit code, or minus the signal, once the trainer has ended and its messages were received."""
        status = self._process.poll()
        if status is None:
            self._last_sign_at = time.monotonic()
            return None
        # A process that it left behind may hold the pipe open; that must not hide its end.
        is_silent = not self._has_one_in_hand and time.monotonic() - self._last_sign_at > 1
        is_over = is_silent or not self._threads[1].is_alive()
        return status if is_over and self._inbox.empty() else None

    def wait(self, timeout: float) -> bool:
        """Whether the trainer's process has ended; waits so long for it. What it said may still be on its way."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Let go of the trainer. It ends with its control pipe; if not within 2 seconds, it is killed."""
        if self._is_closed:
            return
        self._is_closed = True
        self._outbox.put(None)
        while not self._process.wait(2):
            self._process.kill()
        for thread in self._threads:
            thread.join(0.2)

    def _write_control(self, fd: int) -> None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(fd, "wb", buffering=0) as pipe:
            while (line := self._outbox.get()) is not None:
                _write(pipe.fileno(), line)

    def _read_messages(self, fd: int) -> None:
        with os.fdopen(fd, "rb", buffering=PIPE_BYTES) as pipe:
            for line in pipe:
                # A trainer that is killed leaves half a line.
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        self._put(message)

    def _put(self, message: Message) -> None:
        self._has_one_in_hand = True
        while not self._is_closed:
            with contextlib.suppress(queue.Full):
                self._inbox.put(message, timeout=0.2)
                break
        self._last_sign_at = time.monotonic()
        self._has_one_in_hand = False

    def _read_log(self, fd: int) -> None:
        with os.fdopen(fd, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65_536):
                self._log.add(chunk)


class _Log:
    """Text that waits to be read: its beginning and its newest part, when it grows too long."""

    def __init__(self, most: int = MOST_LOG_CHARACTERS):
        self._half = most // 2
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()
        self._head, self._tail, self._dropped = "", "", 0

    def add(self, chunk: bytes) -> None:
        with self._lock:
            text = self._decoder.decode(chunk)
            room = self._half - len(self._head)
            if not self._tail and room > 0:
                self._head, text = self._head + text[:room], text[room:]
            self._tail += text
            surplus = len(self._tail) - self._half
            if surplus > self._half // 4:  # not at every line: each cut copies the tail
                self._tail, self._dropped = self._tail[surplus:], self._dropped + surplus

    def take(self) -> str:
        with self._lock:
            gap = (
                f"\n[... {self._dropped} characters of the log were left out ...]\n" if self._dropped else ""
            )
            text = self._head + gap + self._tail
            self._head, self._tail, self._dropped = "", "", 0
            return text


# The trainer's side


class Channel:
    """The trainer's ends of the pipes. To `send` costs one append.

    `listen` hands every message from above to a function, in a thread of its own. When the control pipe ends,
    the process exits on the spot.
    """

    def __init__(self, control: int, messages: int):
        self._control, self._messages = control, messages
        for fd in (control, messages):
            os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=self._forked)
        self._owner = os.getpid()
        self._unread = b""
        self._waiting: deque[Message | threading.Event] = deque()
        self._wake = threading.Event()
        self.spec = TrainerSpec.from_message(self._read_line())
        self._sender = _thread("sender", self._send_waiting)

    def listen(self, receive: Callable[[Message], None]) -> None:
        _thread("receiver", self._receive, receive)

    def send(self, message: Message) -> None:
        """Only steps wait, and only where nobody has listened for long: the supervisor's database is away then."""
        self._put(message)
        while message.get("kind") == "steps" and len(self._waiting) > MOST_UNSENT:
            time.sleep(ROOM_SECONDS)

    def flush(self) -> None:
        """Wait until all that was said before is in the pipe."""
        done = threading.Event()
        self._put(done)
        done.wait()

    def finish(self, code: int) -> NoReturn:
        """End the process, with everything said, and without the slow taking down of libraries."""
        self.flush()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    def _read_line(self) -> Message:
        while b"\n" not in self._unread:
            chunk = os.read(self._control, 65_536)
            if not chunk:
                os._exit(SUPERVISOR_GONE)
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        message: Message = json.loads(line)
        return message

    def _receive(self, receive: Callable[[Message], None]) -> None:
        while True:
            receive(self._read_line())

    def _put(self, item: Message | threading.Event) -> None:
        self._waiting.append(item)
        self._wake.set()

    def _send_waiting(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            try:
                self._send_all()
            except BrokenPipeError:
                os._exit(SUPERVISOR_GONE)

    def _send_all(self) -> None:
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._write(item)

    def _write(self, message: Message) -> None:
        _write(self._messages, to_line(message))

    def _forked(self) -> None:
        """A loader worker holds no end of the pipes, and can be asked to end."""
        if os.getpid() != self._owner:
            for fd in (self._control, self._messages):
                with contextlib.suppress(OSError):
                    os.close(fd)
            _set_signals(signal.SIG_DFL)


def connect(arguments: list[str] | None = None) -> Channel:
    """The first thing that a cold trainer does; the arguments are its pipe ends and its parent's pid."""
    control, messages, parent = (int(text) for text in (arguments or sys.argv[1:])[:3])
    die_with_parent(parent)
    return settle(Channel(control, messages))


def settle(channel: Channel) -> Channel:
    """Name the process, and leave its end to the supervisor."""
    ignore_signals()
    set_title(channel.spec.name_title)
    return channel


def set_title(title: str) -> None:
    with contextlib.suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle(title)


def ignore_signals() -> None:
    """Ctrl-C and SIGTERM are meant for the worker, which knows how to drain."""
    _set_signals(signal.SIG_IGN)


def die_with_parent(parent: int) -> None:
    """End this process when the parent ends. The kernel follows the parent's *thread* that started us."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    # Only now: a parent that ended before the call above would go unnoticed for ever.
    if os.getppid() != parent:
        os._exit(SUPERVISOR_GONE)


def _set_signals(action: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)


def _pipe(*, read_by: contextlib.ExitStack, written_by: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends, which are closed with whom they belong to."""
    reader, writer = os.pipe()
    read_by.callback(os.close, reader)
    written_by.callback(os.close, writer)
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _thread(name: str, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name=f"trainer-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the only one of this kind that is the system's
        raise OSError(errno.EAGAIN, "no further thread can be started") from error
    return thread
