"""The memory that the ranks of one trainer share on a host, and how a rank without pipes speaks.

One trainer may be several processes that train together, its ranks. The supervisor sees rank 0 alone, which has the
control and the message pipe. All of them map one page: there each finds the spec, rank 0 announces what all do after
a step, and a rank that fails says why. A word is written and read whole, and costs some nanoseconds.
"""

import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from heimdall.trainer.protocol import (
    MOST_RANKS,
    Failed,
    FromTrainer,
    ProtocolError,
    ToTrainer,
    TrainerSpec,
    decode,
    encode,
)

RING = 8  # announcements that are kept: a rank is never so many steps behind
LOOK_SECONDS = 0.002  # between two looks, where a rank waits for another one

_PORT, _ABANDONED, _RELEASED = 0, 1, 2
_ANNOUNCED = 8
_STEPS = _ANNOUNCED + RING
_PIDS = _STEPS + MOST_RANKS
_WORDS_BYTES = 4096
_FAILURE_BYTES = 32_768
_SPEC = _WORDS_BYTES + _FAILURE_BYTES
_LENGTH_BYTES = 8


def make_page(spec: TrainerSpec) -> int:
    """A file descriptor of the memory, with the spec in it."""
    line = encode(spec)
    page = os.memfd_create("heimdall-ranks")
    os.ftruncate(page, _SPEC + _LENGTH_BYTES + len(line))
    os.pwrite(page, len(line).to_bytes(_LENGTH_BYTES, "little") + line, _SPEC)
    return page


class RankPage:
    def __init__(self, file: int) -> None:
        """The file descriptor is closed: the memory stays."""
        self._memory = mmap.mmap(file, os.fstat(file).st_size)
        os.close(file)
        self._words = memoryview(self._memory)[:_WORDS_BYTES].cast("Q")

    @property
    def spec_line(self) -> bytes:
        return self._text_at(_SPEC)

    # The port where they meet.

    @property
    def port(self) -> int:
        """Where rank 0 listens; waits until it does."""
        self.wait(lambda: self._words[_PORT])
        return self._words[_PORT]

    @port.setter
    def port(self, port: int) -> None:
        self._words[_PORT] = port

    # What rank 0 announces for the end of a step.

    def announce(self, step: int, action: int) -> None:
        self._words[_ANNOUNCED + step % RING] = step << 8 | action

    def announced(self, step: int) -> int:
        word = self._words[_ANNOUNCED + step % RING]
        return word & 0xFF if word >> 8 == step else 0

    def forget_announcements(self) -> None:
        for number in range(RING):
            self._words[_ANNOUNCED + number] = 0

    # How far each rank is.

    def passed(self, rank: int, step: int) -> None:
        self._words[_STEPS + rank] = step

    def slowest(self, ranks: int) -> int:
        return min(self._words[_STEPS : _STEPS + ranks])

    def step_of(self, rank: int) -> int:
        return self._words[_STEPS + rank]

    # A validation that is not wanted any more, and a stop that is over.

    @property
    def is_abandoned(self) -> bool:
        return self._words[_ABANDONED] != 0

    @is_abandoned.setter
    def is_abandoned(self, value: bool) -> None:
        self._words[_ABANDONED] = int(value)

    @property
    def releases(self) -> int:
        """How often rank 0 has let the others go on after a stop."""
        return self._words[_RELEASED]

    def release(self) -> None:
        self._words[_RELEASED] += 1

    # The end.

    def fail(self, failure: Failed) -> None:
        """The first failure is the cause of the others."""
        if not self._memory[_WORDS_BYTES]:
            longest = _FAILURE_BYTES // 4
            line = encode(Failed(failure.code, failure.error[:longest], failure.traceback[-longest // 2 :]))
            self._memory[_WORDS_BYTES + _LENGTH_BYTES : _WORDS_BYTES + _LENGTH_BYTES + len(line)] = line
            self._memory[_WORDS_BYTES : _WORDS_BYTES + _LENGTH_BYTES] = len(line).to_bytes(8, "little")

    @property
    def failure(self) -> Failed | None:
        """Why a rank other than 0 has failed; None where none has, or it was killed while it said so."""
        line = self._text_at(_WORDS_BYTES)
        with suppress(ProtocolError):
            return decode(line, Failed) if line else None
        return None

    def wait(self, condition: Callable[[], object]) -> None:
        """Until it is so. A rank that is waited for and ends, ends all."""
        while not condition():
            time.sleep(LOOK_SECONDS)

    def _text_at(self, place: int) -> bytes:
        length = int.from_bytes(self._memory[place : place + _LENGTH_BYTES], "little")
        return self._memory[place + _LENGTH_BYTES : place + _LENGTH_BYTES + length]


class RankChannel:
    """What a rank other than 0 has in the place of the pipes. The spec is the same; what it says, rank 0 says."""

    def __init__(self, page: RankPage, rank: int) -> None:
        self.page, self.rank = page, rank
        self.spec = decode(page.spec_line, TrainerSpec)

    def listen(self, receive: Callable[[ToTrainer], None]) -> None:
        """It is asked nothing: rank 0 announces what is done."""

    def send(self, message: FromTrainer) -> None:
        if isinstance(message, Failed):
            self.page.fail(message)

    def flush(self) -> None:
        """Nothing waits to be sent."""

    def finish(self, code: int) -> NoReturn:
        """Its end would end all at once. Where it has done what was asked, it ends with rank 0."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        while code == 0:
            signal.pause()
        os._exit(code)
