"""The supervisor's end: the handle of one trainer, however many ranks it has."""

import contextlib
import os
import queue
import time
from collections.abc import Sequence

from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.launch import NONE, ChildEnds, Launcher, Process, has_several_ranks
from heimdall.trainer.log import LogBuffer, LogPipe
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
from heimdall.trainer.ranks import RankPage, make_page

MOST_UNREAD = 2_000  # messages that a supervisor keeps while it is busy


class Trainer:
    """The supervisor's handle of one trainer. No method waits, but for `receive` and `close`."""

    def __init__(
        self,
        process: Process,
        *,
        control: int,
        messages: int,
        logs: Sequence[int],
        page: RankPage | None = None,
        most_messages: int = MOST_UNREAD,
    ):
        self._process, self._page = process, page
        self._inbox: queue.Queue[FromTrainer | None] = queue.Queue(most_messages)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._log = LogBuffer()
        self._logs = [LogPipe(log, self._log, rank) for rank, log in enumerate(logs)]
        self._last_sign_at = 0.0  # of life: a message, or that the process was there
        self._has_one_in_hand = False  # a message for which there is no room yet
        self._is_closed = False
        self._has_failed = False
        self._threads = [
            start_thread("control", self._write_control, control),
            start_thread("messages", self._read_messages, messages),
            *(start_thread("log", log.read_all) for log in self._logs),
        ]

    @classmethod
    def start(
        cls, spec: TrainerSpec, *, launcher: Launcher | None = None, most_messages: int = MOST_UNREAD
    ) -> "Trainer":
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            control_out, control_in = open_pipe(read_by=theirs, written_by=ours)
            messages_out, messages_in = open_pipe(read_by=ours, written_by=theirs)
            logs = [open_pipe(read_by=ours, written_by=theirs) for _ in range(spec.ranks)]
            page = _page_of(spec, theirs)
            ends = ChildEnds(control_out, messages_in, tuple(log_in for _, log_in in logs), page or NONE)
            process = (launcher or ColdLauncher()).launch(spec, ends)
            seen = RankPage(os.dup(page)) if page else None
            ours.pop_all()  # they belong to the trainer's threads now
        try:
            trainer = cls(
                process,
                control=control_in,
                messages=messages_out,
                logs=[log_out for log_out, _ in logs],
                page=seen,
                most_messages=most_messages,
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
        for log in self._logs:
            log.read_what_is_there()
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
        if is_over:
            self._put_failure_of_ranks()
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

    def _put_failure_of_ranks(self) -> None:
        """Another rank than 0 has written down why it failed; where rank 0 has failed too, it has said so itself."""
        failure = self._page.failure if self._page and not self._has_failed else None
        if failure is not None:
            self._put(failure)

    def _put(self, message: FromTrainer) -> None:
        self._has_failed = self._has_failed or isinstance(message, Failed)
        self._has_one_in_hand = True
        while not self._is_closed:
            with contextlib.suppress(queue.Full):
                self._inbox.put(message, timeout=0.2)
                break
        self._last_sign_at = time.monotonic()
        self._has_one_in_hand = False


def _page_of(spec: TrainerSpec, theirs: contextlib.ExitStack) -> int:
    """What its ranks share; 0 where there is only one."""
    if not has_several_ranks(spec):
        return 0
    page = make_page(spec)
    theirs.callback(os.close, page)
    return page
