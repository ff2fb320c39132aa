"""What a trainer prints, read by its supervisor: a pipe for each rank, and one buffer of text."""

import codecs
import os
import select
import threading

MOST_LOG_CHARACTERS = 256 * 1024  # kept until somebody reads the log
LOG_READ_BYTES = 65_536
MOST_LOG_READS = 32  # at once: one that prints without end is not waited for
LONGEST_LINE = 16_384  # that a rank other than 0 is waited for to end


class LogPipe:
    """The log of one rank. Rank 0's is taken as it comes; of another one each line says whose it is."""

    def __init__(self, fd: int, buffer: "LogBuffer", rank: int) -> None:
        self._fd, self._buffer = fd, buffer
        self._prefix = f"[rank {rank}] ".encode() if rank else b""
        self._begun = b""
        self._reading = threading.Lock()
        self._is_over = False

    def read_all(self) -> None:
        """In a thread of its own, until the pipe ends."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        while True:
            waiting.poll()
            with self._reading:
                if self._has_something():
                    self._read_once()
                if self._is_over:
                    os.close(self._fd)
                    return

    def read_what_is_there(self) -> None:
        with self._reading:
            for _ in range(MOST_LOG_READS):
                if not self._has_something():
                    break
                self._read_once()

    def _has_something(self) -> bool:
        if self._is_over:
            return False  # and perhaps closed already
        there = select.poll()
        there.register(self._fd, select.POLLIN)
        return bool(there.poll(0))

    def _read_once(self) -> None:
        """With the lock held, and something (or the pipe's end) there to be read."""
        chunk = os.read(self._fd, LOG_READ_BYTES)
        self._is_over = not chunk
        if not self._prefix:
            self._buffer.add(chunk)
        else:
            self._add_lines(chunk)

    def _add_lines(self, chunk: bytes) -> None:
        *lines, self._begun = (self._begun + chunk).split(b"\n")
        if self._begun and (self._is_over or len(self._begun) > LONGEST_LINE):
            lines, self._begun = [*lines, self._begun], b""
        if lines:
            text = b"".join(self._prefix + line + b"\n" for line in lines)
            self._buffer.add_text(text.decode("utf-8", "replace"))


class LogBuffer:
    """Text that waits to be read: its beginning and its newest part, when it grows too long."""

    def __init__(self, most: int = MOST_LOG_CHARACTERS):
        self._half = most // 2
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()
        self._head, self._tail, self._dropped = "", "", 0

    def add(self, chunk: bytes) -> None:
        self.add_text(self._decoder.decode(chunk))

    def add_text(self, text: str) -> None:
        with self._lock:
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
