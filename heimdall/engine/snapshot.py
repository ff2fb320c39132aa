"""From the state of the parts to a staged file: a copy in memory on the training thread, the rest beside it.

snapshot (in memory) -> staged file (durable on this machine) -> stored (the supervisor's work)
"""

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from heimdall import codec
from heimdall.engine.buffer import Buffer
from heimdall.engine.copying import Copier
from heimdall.failpoints import failpoint
from heimdall.recipes.base import Part
from heimdall.trainer.protocol import FromTrainer, StagedCheckpoint, StateHashed

BUFFERS = 2
MOST_UNSTORED = 8


def state_of(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {name: part.state_dict() for name, part in parts.items()}


class KeptTensors(NamedTuple):
    """Tensors that lie where nobody changes them until their snapshot is released, each by its path in the tree."""

    tensors: list[tuple[tuple[Any, ...], Tensor]] = []
    release: Callable[[], None] = lambda: None


NOTHING_KEPT = KeptTensors()


def put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


@dataclass
class Ticket:
    """One snapshot on its way to a staged file."""

    kinds: list[str]
    step: int
    epoch: int
    val_loss: float | None
    about: dict[str, Any]
    path: str
    tree: Any = None
    buffer: Buffer | None = None
    kept: KeptTensors = NOTHING_KEPT
    started_at: float = field(default_factory=time.perf_counter)
    saved: codec.Saved | None = None
    error: BaseException | None = None
    is_needed: bool = False
    """Somebody waits for it, and gives it back."""
    is_written: bool = False
    """Or has failed."""
    is_stored: bool = True
    """Else its state is hashed, and there is no file."""
    digest: str = ""
    came_from: tuple[str, int] = ("", 0)
    """Digest and step of the state before it."""
    samples: int | None = None

    def staged(self) -> StagedCheckpoint:
        assert self.saved is not None
        return StagedCheckpoint(
            path=self.saved.path,
            step=self.step,
            epoch=self.epoch,
            kinds=tuple(self.kinds),
            digest=self.saved.digest,
            size=self.saved.size,
            header_sha256=self.saved.header_sha256,
            val_loss=self.val_loss,
            stage_seconds=round(time.perf_counter() - self.started_at, 6),
            came_from=self.came_from[0],
            came_from_step=self.came_from[1],
            samples=self.samples,
        )

    def hashed(self) -> StateHashed:
        digest = self.saved.digest if self.saved else self.digest
        return StateHashed(
            self.step,
            self.epoch,
            digest,
            came_from=self.came_from[0],
            came_from_step=self.came_from[1],
            samples=self.samples,
        )


class Announcer:
    """Tells of staged files. Only so many may wait to be stored: a store that is away fills no disk."""

    def __init__(self, send: Callable[[FromTrainer], None]) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._unstored: set[str] = set()
        self._held: Ticket | None = None

    @property
    def waiting(self) -> int:
        return len(self._unstored)

    @property
    def has_room(self) -> bool:
        return len(self._unstored) < MOST_UNSTORED

    def announce(self, ticket: Ticket) -> None:
        """The newest best one beyond the limit is held back, in place of the one held before it."""
        with self._lock:
            held, self._held = self._held, None
            if not ticket.is_needed and not self.has_room:
                self._held = ticket
                if held is not None:
                    Path(held.path).unlink(missing_ok=True)
                    self._send(held.hashed())  # what came after it names it
                return
            for each in (held, ticket):
                if each is not None:
                    self._report(each)

    def announce_hash(self, ticket: Ticket) -> None:
        with self._lock:
            self._send(ticket.hashed())

    def stored(self, path: str) -> None:
        """The file has been taken over."""
        with self._lock:
            self._unstored.discard(path)
            if self._held is not None and self.has_room:
                held, self._held = self._held, None
                self._report(held)

    def _report(self, ticket: Ticket) -> None:
        self._unstored.add(ticket.path)
        self._send(ticket.staged())


class Stager:
    """Takes snapshots into reused buffers and writes them, one after the other, in a thread of its own."""

    def __init__(self, folder: Path, *, finished: Callable[[Ticket], None]) -> None:
        """`finished` is called on the writing thread with each ticket that has been written or has failed."""
        self._folder = str(folder)
        self._finished = finished
        self._copier = Copier()
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(Buffer(self._copier.copy))
        self._waiting: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._count = 0
        self.newest = ("", 0)
        """Digest and step of the state that the next one comes from. Of the writing thread, once it writes."""
        self._written = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="stager", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        return not self._free.empty()

    def snapshot(
        self,
        parts: Mapping[str, Part],
        *,
        kinds: list[str],
        step: int,
        epoch: int,
        val_loss: float | None,
        about: dict[str, Any],
        kept: KeptTensors = NOTHING_KEPT,
        samples: int | None = None,
        is_stored: bool = True,
    ) -> Ticket:
        """Copy the state now; wait for a buffer if both are still being written. The file comes later.

        kept: what need not be copied; in the parts' state there is something else in its place.
        """
        buffer = self._free.get()
        self._count += 1
        path = f"{self._folder}/s{step}-{self._count}.safetensors"  # a Path would cost more than a step's bookkeeping
        ticket = Ticket(kinds, step, epoch, val_loss, about, path, buffer=buffer, kept=kept)
        ticket.samples, ticket.is_stored = samples, is_stored
        ticket.tree = buffer.copy(state_of(parts))
        for place, tensor in kept.tensors:
            put(ticket.tree, place, tensor)
        failpoint("snapshot_taken")
        return ticket

    def write(self, ticket: Ticket) -> None:
        """Queue it for writing, for the first time or once more after a failure."""
        ticket.error, ticket.is_written = None, False
        self._waiting.put(ticket)

    def wait(self, ticket: Ticket, seconds: float | None = None) -> bool:
        """Until it has been written or has failed, or the time is over."""
        with self._written:
            return self._written.wait_for(lambda: ticket.is_written, seconds)

    def release(self, ticket: Ticket) -> None:
        """The snapshot is not needed any more, written or not."""
        if ticket.buffer is not None:
            self._free.put(ticket.buffer)
            ticket.kept.release()
        ticket.buffer = ticket.tree = None

    def close(self) -> None:
        """Finish what is waiting and end the threads."""
        self._waiting.put(None)
        self._thread.join()
        self._copier.close()

    def _write_all(self) -> None:
        while (ticket := self._waiting.get()) is not None:
            try:
                failpoint("before_write")
                self._write_one(ticket)
            except BaseException as error:
                ticket.error = error
            self._finished(ticket)
            with self._written:
                ticket.is_written = True
                self._written.notify_all()

    def _write_one(self, ticket: Ticket) -> None:
        gently = not ticket.is_needed  # else the training waits for it
        ticket.came_from = self.newest
        if ticket.is_stored:
            digest, step = ticket.came_from
            about = ticket.about | {"came_from": {"digest": digest, "step": step}, "samples": ticket.samples}
            ticket.saved = codec.save(ticket.path, ticket.tree, about, gently=gently)
            ticket.digest = ticket.saved.digest
            failpoint("file_staged")
        else:
            ticket.digest = codec.digest_of(ticket.tree, gently=gently)
        self.newest = (ticket.digest, ticket.step)
