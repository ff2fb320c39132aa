"""The trainer's end: it reads what the supervisor asks, says what happened, and ends with its supervisor.

    if __name__ == "__main__":                      # of heimdall.trainer.__main__
        channel = connect()                         # before torch is imported
        channel.finish(drive(channel))

On Linux the kernel kills a trainer whose supervisor is gone; everywhere it exits at the end of the control pipe.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from heimdall.processes import die_with_parent
from heimdall.trainer.exit_codes import CANNOT_SPEAK, MISUNDERSTOOD, SUPERVISOR_GONE
from heimdall.trainer.launch import NONE, RankEnds
from heimdall.trainer.pipes import start_thread, write_all
from heimdall.trainer.protocol import (
    FromTrainer,
    Hello,
    ProtocolError,
    StepsDone,
    ToTrainer,
    TrainerSpec,
    decode,
    encode,
)
from heimdall.trainer.ranks import RankChannel, RankPage

MOST_UNSENT = 1_000  # messages that a trainer keeps; then its training waits
ROOM_SECONDS = 0.1  # between two looks for room


class PipeClosedError(Exception):
    """A pipe to the supervisor was closed by another than us."""


class Channel:
    """The trainer's ends of the pipes. To `send` costs one append.

    `listen` hands every message from above to a function, in a thread of its own. When the control pipe ends,
    the process exits on the spot.
    """

    def __init__(self, control: int, messages: int, page: RankPage | None = None):
        self.page, self.rank = page, 0
        self._control, self._messages = control, messages
        for fd in (control, messages):
            os.set_inheritable(fd, False)
        os.register_at_fork(after_in_child=self._forked)
        self._owner = os.getpid()
        self._pipes = {fd: _identity(fd) for fd in (control, messages)}
        self._unread = b""
        self._waiting: deque[FromTrainer | threading.Event] = deque()
        self._wake = threading.Event()
        self.spec = self._hear_first()
        self._sender = start_thread("sender", self._send_waiting)

    def _hear_first(self) -> TrainerSpec:
        """Each end says its version first: where they differ, both know it and say so."""
        try:
            self._write(Hello())
            return decode(self._read_line(), TrainerSpec)
        except BrokenPipeError:
            os._exit(SUPERVISOR_GONE)
        except ProtocolError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(MISUNDERSTOOD)

    def listen(self, receive: Callable[[ToTrainer], None]) -> None:
        start_thread("receiver", self._receive, receive)

    def send(self, message: FromTrainer) -> None:
        """Only steps wait, and only where nobody has listened for long: the supervisor's database is away then."""
        self._put(message)
        while isinstance(message, StepsDone) and len(self._waiting) > MOST_UNSENT:
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

    def _read_line(self) -> bytes:
        while b"\n" not in self._unread:
            chunk = os.read(self._still_ours(self._control), 65_536)
            if not chunk:
                os._exit(SUPERVISOR_GONE)
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _receive(self, receive: Callable[[ToTrainer], None]) -> None:
        """A message that cannot be read or followed would be missed for ever: the process ends, and says why."""
        try:
            while True:
                receive(decode(self._read_line(), ToTrainer))
        except PipeClosedError:
            _end_at_once(CANNOT_SPEAK)
        except Exception:
            _end_at_once(MISUNDERSTOOD)

    def _put(self, item: FromTrainer | threading.Event) -> None:
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
            except Exception:  # without an end it would train on for days, and nobody would hear of it
                _end_at_once(CANNOT_SPEAK)

    def _send_all(self) -> None:
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, threading.Event):
                item.set()
            else:
                self._write(item)

    def _write(self, message: FromTrainer) -> None:
        write_all(self._still_ours(self._messages), encode(message))

    def _still_ours(self, fd: int) -> int:
        """The end of a pipe; what runs in the trainer may have closed it, and its number may be another file's."""
        with contextlib.suppress(OSError):
            if _identity(fd) == self._pipes[fd]:
                return fd
        raise PipeClosedError("What runs in the trainer has closed the pipe to its supervisor.")

    def _forked(self) -> None:
        """A loader worker holds no end of the pipes, and can be asked to end."""
        if os.getpid() != self._owner:
            for fd in (self._control, self._messages):
                with contextlib.suppress(OSError):
                    os.close(fd)
            _set_signals(signal.SIG_DFL)


def _end_at_once(code: int) -> NoReturn:
    """Say why, where there is still something to say it to."""
    with contextlib.suppress(Exception):
        traceback.print_exc()
    os._exit(code)


def _identity(fd: int) -> tuple[int, int]:
    """Which file it is that a descriptor leads to, whatever its number."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def drive(channel: Channel | RankChannel) -> int:
    """Let the module that the spec names do the work; it gives the exit code."""
    code: int = importlib.import_module(channel.spec.driver).run(channel)
    return code


def connect(arguments: list[str] | None = None) -> Channel | RankChannel:
    """The first thing that a cold trainer does; the arguments are its pipe ends and its parent's pid, then the page
    that ranks share and its number among them."""
    control, messages, parent, page, rank = (int(text) for text in (arguments or sys.argv[1:])[:5])
    die_with_parent(parent)
    return settle(open_channel(RankEnds(control, messages, NONE, page, rank)))


def open_channel(ends: RankEnds) -> Channel | RankChannel:
    page = None if ends.page == NONE else RankPage(ends.page)
    if ends.rank == 0 or page is None:
        return Channel(ends.control, ends.messages, page)
    os.register_at_fork(
        after_in_child=lambda: _set_signals(signal.SIG_DFL)
    )  # a loader worker can be asked to end
    return RankChannel(page, ends.rank)


def settle(channel: Channel | RankChannel) -> Channel | RankChannel:
    """Name the process, and leave its end to the supervisor."""
    ignore_signals()
    title = channel.spec.name_title
    set_title(title if channel.page is None else f"{title} rank {channel.spec.rank_offset + channel.rank}")
    return channel


def set_title(title: str) -> None:
    with contextlib.suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle(title)


def ignore_signals() -> None:
    """Ctrl-C and SIGTERM are meant for the worker, which knows how to drain.

    A handler that does nothing, and not SIG_IGN: what a recipe starts would inherit that, and could not be
    terminated.
    """
    _set_signals(lambda *_: None)


def _set_signals(action: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, action)
