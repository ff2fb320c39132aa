"""Copies of many tensors at once, made by two threads: one alone does not fill the memory's bandwidth."""

import contextlib
import ctypes
import os
import queue
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

Piece = tuple[list[Tensor], list[Tensor]]
"""Targets, and the sources from which they take their values."""

MOST_PIECES = 16
LEAST_BYTES = (
    2**20
)  # of a piece: half a millisecond of an idle core is hardly more than waking another one costs


def cut(tensors: Sequence[Tensor]) -> list[slice]:
    """Where to cut a list of tensors into pieces of about the same size."""
    enough = max(LEAST_BYTES, sum(tensor.nbytes for tensor in tensors) // MOST_PIECES)
    cuts, begin, num_bytes = [], 0, 0
    for end, tensor in enumerate(tensors, 1):
        num_bytes += tensor.nbytes
        if num_bytes >= enough or end == len(tensors):
            cuts.append(slice(begin, end))
            begin, num_bytes = end, 0
    return cuts


def copy_all(pieces: list[Piece]) -> None:
    """Copy what is left of the pieces. Threads may share the list: each takes the next one."""
    while (piece := _taken_from(pieces)) is not None:
        torch._foreach_copy_(*piece)


def _taken_from(pieces: list[Piece]) -> Piece | None:
    with contextlib.suppress(IndexError):
        return pieces.pop()
    return None


class Copier:
    """The thread that asks for a copy shares the pieces with a thread of its own, where a core is idle.

    Each takes the next piece that is left, so that nobody waits for a helper that gets no core after all: only for
    the piece that it has begun with.
    """

    def __init__(self) -> None:
        self._idle_cores = _IdleCores.here()
        self._asked: queue.SimpleQueue[list[Piece] | None] = queue.SimpleQueue()
        self._at_work = threading.Lock()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._help, name="copier", daemon=True)
        self._thread.start()

    def copy(self, pieces: list[Piece]) -> None:
        """Copy them all, and empty the list."""
        if self._idle_cores and len(pieces) > 1 and self._idle_cores.offer_one_to(self._thread):
            self._asked.put(pieces)
        try:
            copy_all(pieces)
        finally:
            pieces.clear()
            with self._at_work:  # until the helper has ended the piece that it is at
                error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join()
        if self._idle_cores:
            self._idle_cores.close()

    def _help(self) -> None:
        torch.set_grad_enabled(False)  # of this thread
        while (pieces := self._asked.get()) is not None:
            with self._at_work:
                try:
                    copy_all(pieces)
                except BaseException as error:
                    self._error = error


class _IdleCores:
    """Which cores a helper may run on. It knows Linux alone."""

    def __init__(self, cores: frozenset[int]) -> None:
        self._cores = cores
        self._num_cores = os.cpu_count() or 1
        self._load = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        self._this_core = ctypes.CDLL(None).sched_getcpu
        self._left_alone = -1

    @classmethod
    def here(cls) -> "_IdleCores | None":
        try:
            cores = frozenset(os.sched_getaffinity(0))
            return cls(cores) if len(cores) > 1 else None
        except (AttributeError, OSError, TypeError):
            return None

    def offer_one_to(self, thread: threading.Thread) -> bool:
        """Whether there is an idle core; the thread is kept off the one where this is asked.

        Linux likes to wake a thread where the one that wakes it runs, even beside an idle core, and then the two take
        turns for as long as a small copy takes.
        """
        if self._num_running() >= self._num_cores:
            return False
        core = self._this_core()
        if core != self._left_alone and thread.native_id is not None:
            try:
                os.sched_setaffinity(thread.native_id, self._cores - {core})
            except OSError:  # the cores of this process are other ones by now
                return False
            self._left_alone = core
        return True

    def close(self) -> None:
        os.close(self._load)

    def _num_running(self) -> int:
        """Threads on this machine that run or wait for a core, this one included."""
        running, _, _ = os.pread(self._load, 64, 0).split()[3].partition(b"/")
        return int(running)
