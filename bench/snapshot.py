"""A checkpoint beside the training: how long the training is held, how long a step waits, and when it is durable.

`python -m bench.snapshot MEGABYTES` prints milliseconds as JSON. The state is a model with AdamW, one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heimdall.engine.snapshot import Stager, Ticket

LAYERS = 8
LEAST_ROUNDS, MOST_ROUNDS = 7, 31
WARMING = 2  # rounds in which buffers are filled for the first time


def main(megabytes: int) -> None:
    torch.set_num_threads(1)
    parts = build(megabytes)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(parts, Path(folder))
        found = bench.in_turn() | bench.steps_beside_the_writer() | bench.peers()
        bench.close()
    print(json.dumps({"megabytes": bench.raw.nbytes / 1e6} | found))


def build(megabytes: int) -> dict[str, Any]:
    """A model and its optimizer with so many megabytes of tensors between them."""
    width = int((megabytes * 1e6 / (3 * 4 * LAYERS)) ** 0.5)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(LAYERS)))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model(torch.randn(2, width)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return {"model": model, "optimizer": optimizer}


class Bench:
    def __init__(self, parts: dict[str, Any], folder: Path):
        self.parts, self.folder = parts, folder
        self.stager = Stager(folder, finished=lambda ticket: None)
        self.source = torch.cat([tensor.detach().flatten().float() for tensor in _tensors(parts)])
        self.target = torch.zeros_like(self.source)
        self.raw = memoryview(self.source.numpy()).cast("B")
        self._rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, 10**9 // self.raw.nbytes))

    def close(self) -> None:
        self.stager.close()

    def in_turn(self) -> dict[str, Any]:
        """Held beside a memcpy of as many bytes, durable beside a raw write and fsync of them."""
        held, copied, durable, raw = [], [], [], []
        for _ in range(WARMING + self._rounds):
            copied.append(_seconds(lambda: self.target.copy_(self.source)))
            start = time.perf_counter()
            ticket = self._snapshot()
            held.append(time.perf_counter() - start)
            durable.append(_seconds(lambda: self._write(ticket)))  # noqa: B023
            self._forget(ticket)
            raw.append(_seconds(self._write_raw))
        return {
            "held": _ms(held),
            "memcpy": _ms(copied),
            "held_ratio": _ratio(held, copied),
            "durable": _ms(durable),
            "raw": _ms(raw),
            "durable_ratio": _ratio(durable, raw),
        }

    def steps_beside_the_writer(self) -> dict[str, Any]:
        """How long the longest of many small steps takes while checkpoints are written, and while none is."""
        with _in_thread(self._write_for_ever):
            beside = _longest_step(self.steps())
        alone = _longest_step(self.steps())
        return {"longest_step": 1000 * beside, "longest_step_alone": 1000 * alone}

    def steps(self) -> Iterator[None]:
        inputs, model = torch.randn(8, 64), nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
        until = time.perf_counter() + 3
        while time.perf_counter() < until:
            model(inputs).sum().backward()
            yield

    def peers(self) -> dict[str, Any]:
        """How long others hold the training for the same state."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        path = self.folder / "peer.pt"
        found = {"torch.save": _ms([_seconds(lambda: torch.save(state, path)) for _ in range(3)])}
        try:
            found["dcp.async_save"] = _ms(list(self._async_saves(state)))
        except Exception as error:  # whatever keeps it from working here
            found["dcp.async_save"] = f"{type(error).__name__}: {error}"[:80]
        return found

    def _async_saves(self, state: dict[str, Any]) -> Iterator[float]:
        import torch.distributed.checkpoint as dcp

        for number in range(3):
            start = time.perf_counter()
            saving = dcp.async_save(state, checkpoint_id=str(self.folder / f"dcp-{number}"))
            yield time.perf_counter() - start
            saving.result()

    def _snapshot(self) -> Ticket:
        ticket = self.stager.snapshot(
            self.parts, kinds=["periodic"], step=1, epoch=0, val_loss=None, about={}
        )
        ticket.is_needed = True
        return ticket

    def _write(self, ticket: Ticket) -> None:
        self.stager.write(ticket)
        self.stager.wait(ticket)
        if ticket.error is not None:
            raise ticket.error

    def _forget(self, ticket: Ticket) -> None:
        self.stager.release(ticket)
        Path(ticket.path).unlink()

    def _write_for_ever(self, over: threading.Event) -> None:
        """The snapshot itself is the training's; only writing goes on beside the steps."""
        ticket = self._snapshot()
        ticket.is_needed = False
        while not over.is_set():
            self._write(ticket)
        self._forget(ticket)

    def _write_raw(self) -> None:
        fd = os.open(self.folder / "raw", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        try:
            written = 0
            while written < self.raw.nbytes:
                written += os.write(fd, self.raw[written:])
            os.fsync(fd)
        finally:
            os.close(fd)


class _in_thread:
    """Run `work(over)` beside the block."""

    def __init__(self, work: Callable[[threading.Event], None]):
        self._over = threading.Event()
        self._thread = threading.Thread(target=work, args=(self._over,))

    def __enter__(self) -> None:
        self._thread.start()
        time.sleep(0.05)

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()


def _tensors(parts: dict[str, Any]) -> list[torch.Tensor]:
    found = list(parts["model"].state_dict().values())
    for state in parts["optimizer"].state_dict()["state"].values():
        found += state.values()
    return found


def _longest_step(steps: Iterator[None]) -> float:
    longest, before = 0.0, time.perf_counter()
    for _ in steps:
        now = time.perf_counter()
        longest, before = max(longest, now - before), now
    return longest


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _ms(seconds: list[float]) -> float:
    return 1000 * statistics.median(seconds[WARMING:] or seconds)


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the pairs that were measured one after the other."""
    pairs = zip(ours[WARMING:], theirs[WARMING:], strict=True)
    return statistics.median(one / other for one, other in pairs)


if __name__ == "__main__":
    main(int(sys.argv[1]))
