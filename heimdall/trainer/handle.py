"""The supervisor's end: the handle of one trainer, and the log that it prints."""

import codecs
import contextlib
import os
import queue
import select
import threading
import time

from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.launch import ChildEnds, Launcher, Process
from heimdall.trainer.pipes import PIPE_BYTES, open_pipe, start_thread, write_all
from heimdall.trainer.protocol import (
    Failed,
    FromTrainer,
    Hello,
    OtherVersion,
    ProtocolError,
    ToTrainer,
    TrainerSpec,
    decode,
    encode,
)

MOST_UNREAD = 2_000  # messages that a supervisor keeps while it is busy
MOST_LOG_CHARACTERS = 256 * 1024  # kept until somebody reads the log
LOG_READ_BYTES = 65_536
MOST_LOG_READS = 32  # at once: one that prints without end is not waited for


class Trainer:
    """The supervisor's handle of one trainer. No method waits, but for `receive` and `close`."""

    def __init__(
        self, process: Process, *, control: int, messages: int, log: int, most_messages: int = MOST_UNREAD
    ):
        self._process = process
        self._inbox: queue.Queue[FromTrainer | None] = queue.Queue(most_messages)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log = LogBuffer()
        self._reading_log = threading.Lock()
        self._last_sign_at = 0.0  # of life: a message, or that the process was there
        self._has_one_in_hand = False  # a message for which there is no room yet
        self._is_closed = False
        self._log_fd, self._log_is_over = log, False
        self._threads = [
            start_thread("control", self._write_control, control),
            start_thread("messages", self._read_messages, messages),
            start_thread("log", self._read_log, log),
        ]

    @classmethod
    def start(
        cls, spec: TrainerSpec, *, launcher: Launcher | None = None, most_messages: int = MOST_UNREAD
    ) -> "Trainer":
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            control_out, control_in = open_pipe(read_by=theirs, written_by=ours)
            messages_out, messages_in = open_pipe(read_by=ours, written_by=theirs)
            log_out, log_in = open_pipe(read_by=ours, written_by=theirs)
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
        trainer.send(spec)
        return trainer

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: ToTrainer) -> None:
        self._outbox.put(encode(message))

    def nudge(self) -> None:
        """End a `receive` that waits, from any thread: there is something else to be seen to."""
        with contextlib.suppress(queue.Full):
            self._inbox.put_nowait(None)

    def receive(self, timeout: float) -> FromTrainer | None:
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
        """What was printed since the last call. All that was printed before a received message is there."""
        with self._reading_log:
            for _ in range(MOST_LOG_READS):
                if not self._has_log():
                    break
                self._read_log_once()
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
                write_all(pipe.fileno(), line)

    def _read_messages(self, fd: int) -> None:
        with os.fdopen(fd, "rb", buffering=PIPE_BYTES) as pipe:
            lines = (line for line in pipe if line.endswith(b"\n"))  # one that is killed leaves half a line
            try:
                if (first := next(lines, None)) is not None:
                    decode(first, Hello)
                for line in lines:
                    self._put(decode(line, FromTrainer))
            except ProtocolError as error:
                code = "other_version" if isinstance(error, OtherVersion) else "protocol_error"
                self._put(Failed(code, str(error)))

    def _put(self, message: FromTrainer) -> None:
        self._has_one_in_hand = True
        while not self._is_closed:
            with contextlib.suppress(queue.Full):
                self._inbox.put(message, timeout=0.2)
                break
        self._last_sign_at = time.monotonic()
        self._has_one_in_hand = False

    def _read_log(self, fd: int) -> None:
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        while True:
            waiting.poll()
            with self._reading_log:
                if self._has_log():
                    self._read_log_once()
                if self._log_is_over:
                    os.close(fd)
                    return

    def _has_log(self) -> bool:
        if self._log_is_over:
            return False  # and perhaps closed already
        there = select.poll()
        there.register(self._log_fd, select.POLLIN)
        return bool(there.poll(0))

    def _read_log_once(self) -> None:
        """With the lock held, and something (or the pipe's end) there to be read."""
        if chunk := os.read(self._log_fd, LOG_READ_BYTES):
            self._log.add(chunk)
        else:
            self._log_is_over = True


class LogBuffer:
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
