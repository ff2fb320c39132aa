"""A whole training by the real engine, in this process, with a supervisor that says yes to everything."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from heimdall import codec
from heimdall.engine.control import StopRequests
from heimdall.engine.recipe_job import perform
from heimdall.recipes import registry
from heimdall.trainer.protocol import Exit, FileStored, FromTrainer, TrainerSpec


@dataclass
class Run:
    messages: list[Any] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    loader_workers: int = 0
    was_deterministic: bool = False

    def of(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.kind == kind]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [row for message in self.of("steps") for row in message.rows]

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return [message.values for message in self.of("epoch")]

    @property
    def staged(self) -> list[str]:
        return [kind for message in self.of("staged") for kind in message.kinds]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.parts["model"]


def train(recipe: str, raw: dict[str, Any], folder: Path) -> Run:
    config = registry.validate(recipe, raw)
    staging = folder / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    spec = TrainerSpec(
        package=registry.get(recipe).package,
        config=config,
        staging=str(staging),
        scratch=str(folder / "scratch"),
        device=config["device"],
        threads=1,
    )
    run, requests = Run(), StopRequests()
    others = _loader_workers()  # servers that other tests of this process share
    told: queue.SimpleQueue[FromTrainer | None] = queue.SimpleQueue()

    def hear(message: FromTrainer) -> None:
        run.loader_workers = max(run.loader_workers, len(_loader_workers() - others))
        run.was_deterministic |= torch.are_deterministic_algorithms_enabled()
        told.put(message)

    def answer() -> None:
        while (message := told.get()) is not None:
            run.messages.append(message)
            if message.kind == "staged":
                if "final" in message.kinds:
                    run.parts, _ = codec.load(message.path)
                Path(message.path).unlink()
                requests.receive(FileStored(message.path))
            if message.kind == "finished":
                requests.receive(Exit())

    supervisor = threading.Thread(target=answer)
    supervisor.start()
    try:
        with as_it_was():
            perform(spec, send=hear, requests=requests)
    finally:
        told.put(None)
        supervisor.join()
    return run


@contextmanager
def as_it_was() -> Iterator[None]:
    """Leave torch's switches as they were found."""
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


def _loader_workers() -> set[psutil.Process]:
    found = set()
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name() == "pt_data_worker":
                found.add(child)
    return found
