"""Two ranks with gloo, one thread each: `python -m bench.ranks step|held|lightning|accelerate` prints JSON.

step: in the same two processes our loop and a bare loop with DistributedDataParallel take turns, step by step. held:
how long a checkpoint of shared weights holds the training. Peers run under torchrun, in turns with a bare loop there.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from bench.figure import bounds_of_median
from heimdall import TrainingConfig, TrainingRecipe
from heimdall.engine.control import StopRequests
from heimdall.engine.ranks import Place
from heimdall.engine.recipe_job import RecipeJob
from heimdall.trainer.channel import Channel
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import Exit, FileStored, Finished, StagedCheckpoint, Stopped, TrainerSpec

RANKS, BATCH, SAMPLES, WIDTH, CLASSES = 2, 64, 6400, 1024, 10
STEPS, BLOCK = int(os.environ.get("BENCH_RANK_STEPS", "800")), 20
PEER_STEPS, TURNS = max(10, STEPS // 10), 4
HELD_ROUNDS = 15
INPUTS, TARGETS = torch.randn(SAMPLES, 64), torch.randint(CLASSES, (SAMPLES,))


def build_model(width: int = WIDTH) -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES)
    )


class Points:
    def __len__(self) -> int:
        return SAMPLES

    def sample(self, index: int, seed: int | None) -> Any:
        return INPUTS[index], TARGETS[index]


class Recipe(TrainingRecipe):
    def training_samples(self) -> Points:
        return Points()

    def model(self) -> nn.Module:
        return build_model(2048 if self.config.strategy == "fsdp" else WIDTH)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(model(inputs), targets)


def bare_steps() -> Iterator[None]:
    """A loop as people write it, in the process group that is there."""
    model = DistributedDataParallel(build_model())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    data = TensorDataset(INPUTS, TARGETS)
    sampler: DistributedSampler[Any] = DistributedSampler(data)
    loader = DataLoader(data, batch_size=BATCH // RANKS, sampler=sampler)
    while True:
        for inputs, targets in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield


class TakingTurns(RecipeJob):
    """After each step of the trainer comes one of the bare loop."""

    def begin(self) -> None:
        self.bare, self.ours, self.theirs, self.meeting = bare_steps(), [0.0], [0.0], [0.0]
        next(self.bare)
        meet = self._ranks.meet

        def timed_meet(*arguments: Any) -> int:
            start = time.perf_counter()
            found = meet(*arguments)
            self.meeting[-1] += time.perf_counter() - start
            return found

        self._ranks.meet = timed_meet
        self.since = time.perf_counter()

    def step_finished(self) -> None:
        super().step_finished()
        between = time.perf_counter()
        next(self.bare)
        end = time.perf_counter()
        self.ours[-1] += between - self.since
        self.theirs[-1] += end - between
        if self.place["step"] % BLOCK == 0:
            for each in (self.ours, self.theirs, self.meeting):
                each.append(0.0)
        self.since = time.perf_counter()

    def found(self) -> dict[str, Any]:
        ours, theirs, meeting = (
            self.ours[1:-1],
            self.theirs[1:-1],
            self.meeting[1:-1],
        )  # without a first block
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        together = [one / (one - meet) for one, meet in zip(ours, meeting, strict=True)]
        return {
            "ratio": statistics.median(ratios),
            "bounds": bounds_of_median(ratios),
            "bare_ms": 1000 * statistics.median(theirs) / BLOCK,
            "together": statistics.median(together),
            "meet_us": 1e6 * statistics.median(meeting) / BLOCK,
        }


class Held(RecipeJob):
    """Checkpoints one after the other, each beside a copy of as many bytes as a rank has."""

    def begin(self) -> None:
        """Nothing is prepared."""

    def found(self) -> dict[str, Any]:
        held, copied = [], []
        share = torch.randn(self._num_bytes() // 4 // RANKS)
        target = torch.empty_like(share)
        for _ in range(HELD_ROUNDS):
            self._ranks.wait_for_all()
            start = time.perf_counter()
            target.copy_(share)
            copied.append(time.perf_counter() - start)
            self._ranks.wait_for_all()
            start = time.perf_counter()
            ticket = self.session._snapshot(["periodic"])
            held.append(time.perf_counter() - start)
            if ticket is not None:
                self.session._stager.release(ticket)
        held, copied = held[3:], copied[3:]
        return {
            "ratio": statistics.median(held) / statistics.median(copied),
            "held_ms": 1000 * statistics.median(held),
            "megabytes": self._num_bytes() / 1e6,
        }

    def _num_bytes(self) -> int:
        return 3 * 4 * self._training.parameters


def run(channel: Channel) -> int:
    """What each of the two ranks does."""
    torch.set_num_threads(1)
    requests = StopRequests()
    channel.listen(requests.receive)
    kind = {"step": TakingTurns, "held": Held}[channel.spec.about["bench"]]
    job = kind(channel.spec, send=channel.send, requests=requests, place=Place.of(channel))
    config = TrainingConfig(**channel.spec.config)
    job.start(Recipe(config, Path(channel.spec.scratch)), "")
    job.begin()
    stop = job.session.stop

    def measured_and_stopped() -> bool:
        if channel.rank == 0 or kind is Held:
            found = job.found()
            if channel.rank == 0:
                (Path(channel.spec.staging) / "found.json").write_text(json.dumps(found))
        return stop()

    job.session.stop = measured_and_stopped
    job.train()
    return 0


def ours(what: str) -> dict[str, Any]:
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])  # this module, in a trainer
    config = {
        "devices": RANKS, "batch_size": BATCH, "epochs": 1000, "validation_split": 0.0, "device": "cpu",
        "checkpoint_every_minutes": 0.0, "checkpoint_every_epochs": 0, "keep_best": 0, "lr_scheduler": "constant",
        "try_resume": False, "strategy": "fsdp" if what == "held" else "ddp",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        spec = TrainerSpec(
            package="bench", config=config, staging=folder, scratch=folder, device="cpu", threads=1, ranks=RANKS,
            gpus=[None] * RANKS, about={"bench": what}, until_step=3 if what == "held" else STEPS,
            driver="bench.ranks",
        )  # fmt: skip
        trainer = Trainer.start(spec)
        try:
            while trainer.exit_status() is None:
                message = trainer.receive(0.5)
                if isinstance(message, StagedCheckpoint):
                    trainer.send(FileStored(message.path))
                elif isinstance(message, Stopped | Finished):
                    trainer.send(Exit())
            found = Path(folder) / "found.json"
            if not found.exists():
                raise RuntimeError(trainer.read_log()[-400:])
            result: dict[str, Any] = json.loads(found.read_text())
            return result
        finally:
            trainer.close()


def peer(who: str) -> dict[str, Any]:
    if importlib.util.find_spec(who) is None:
        return {"missing": "not installed (requirements-dev.txt)"}
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", str(RANKS)]
    done = subprocess.run(
        [*command, "-m", "bench.ranks", "below", who],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def below(who: str) -> None:
    """One of the two processes that torchrun has started."""
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    with tempfile.TemporaryDirectory() as folder:
        turn = {"lightning": lightning, "accelerate": accelerate}[who](folder)
        bare, ratios = bare_steps(), []
        turn()
        for number in range(TURNS):
            times = {}
            for is_peer in (False, True) if number % 2 else (True, False):
                start = time.perf_counter()
                turn() if is_peer else list(islice(bare, PEER_STEPS))
                times[is_peer] = time.perf_counter() - start
            ratios.append(times[True] / times[False])
    if dist.get_rank() == 0:
        print(json.dumps({"ratio": statistics.median(ratios)}), flush=True)
    os._exit(0)


def lightning(folder: str) -> Callable[[], Any]:
    import lightning as L
    from lightning.pytorch.strategies import DDPStrategy

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = build_model()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            inputs, targets = batch
            return nn.functional.cross_entropy(self.model(inputs), targets)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3, weight_decay=0.01)

    module = Module()

    def turn() -> None:
        trainer = L.Trainer(
            max_steps=PEER_STEPS, accelerator="cpu", devices=RANKS, logger=False, enable_checkpointing=False,
            strategy=DDPStrategy(process_group_backend="gloo"), gradient_clip_val=1.0, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(
            module, DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=BATCH // RANKS, shuffle=True)
        )

    return turn


def accelerate(folder: str) -> Callable[[], Any]:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    loader = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=BATCH // RANKS, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    def steps() -> Iterator[None]:
        while True:
            for inputs, targets in loader:
                optimizer.zero_grad()
                accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                yield

    going = steps()
    return lambda: list(islice(going, PEER_STEPS))


if __name__ == "__main__":
    if sys.argv[1] == "below":
        below(sys.argv[2])
    print(json.dumps(ours(sys.argv[1]) if sys.argv[1] in ("step", "held") else peer(sys.argv[1])))
