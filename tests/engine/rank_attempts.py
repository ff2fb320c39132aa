"""Attempts of a training of several ranks, each in new processes that a fork server or a cold start makes."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import Launcher
from heimdall.trainer.protocol import Exit, FileStored, Finished, StagedCheckpoint, Stopped, ToTrainer
from tests.engine.attempts import Told, config_of, spec_of
from tests.support.running import PATIENCE

DRIVER = "tests.engine.rank_driver"
LONGEST_SECONDS = 60


class RankAttempt:
    """One attempt under way; every wait has a deadline."""

    def __init__(self, launcher: Launcher, folder: Path, config: dict[str, Any], ranks: int, **spec: Any):
        given = {"ranks": ranks, "gpus": [None] * ranks, "driver": DRIVER}
        self.folder, self.ranks = folder, ranks
        self.told = Told()
        self.trainer = Trainer.start(
            spec_of(folder, config_of(**config), **(given | spec)), launcher=launcher
        )
        self.log = ""
        self.answers: list[ToTrainer] = []
        """To stops, in order; then Exit."""

    def run(self, *, watch: Callable[[Any], None] = lambda message: None) -> Told:
        """Until its end. Whatever is staged counts as stored, and a stop or the end lets it go."""
        deadline = time.monotonic() + LONGEST_SECONDS * PATIENCE
        try:
            while self.trainer.exit_status() is None:
                assert time.monotonic() < deadline, self.trainer.read_log()
                message = self.trainer.receive(0.2)
                if message is None:
                    continue
                self.told.messages.append(message)
                if isinstance(message, StagedCheckpoint):
                    self.trainer.send(FileStored(message.path))
                elif isinstance(message, Stopped | Finished):
                    self.trainer.send(self.answers.pop(0) if self.answers else Exit())
                watch(message)
            self.log = self.trainer.read_log()
            self.status = self.trainer.exit_status()
            return self.told
        finally:
            self.trainer.kill()
            self.trainer.close()

    def processes(self) -> list[psutil.Process]:
        """Of each rank, in their order."""
        pids = [member["pid"] for member in self.told.of("started")[0].ranks]
        return [psutil.Process(pid) for pid in pids]

    def kill_rank(self, rank: int) -> list[psutil.Process]:
        found = self.processes()
        os.kill(found[rank].pid, signal.SIGKILL)
        return found


def travel(
    launcher: Launcher, folder: Path, config: dict[str, Any], ranks: int, stops: list[int], **spec: Any
) -> tuple[list[Told], Path]:
    """Stopped after each of these steps and resumed in new processes. The attempts, and the folder of the last."""
    told: list[Told] = []
    start: dict[str, Any] = {}
    for number, stop in enumerate([*stops, None]):
        attempt = RankAttempt(
            launcher, folder / str(number), config, ranks, until_step=stop, **(spec | start)
        )
        told.append(attempt.run())
        assert told[-1].end == ("finished" if stop is None else "stopped"), attempt.log
        start = resumed(told[-1])
    return told, folder / str(len(stops))


def resumed(told: Told) -> dict[str, Any]:
    from tests.engine.attempts import resumed_from

    return resumed_from(told.last_staged) | {"pinned": told.of("started")[0].environment}


def states(folder: Path, ranks: int) -> list[Any]:
    """What each rank held at the end."""
    from heimdall import codec

    return [codec.load(str(folder / f"rank-{rank}.safetensors"))[0] for rank in range(ranks)]


def differences(
    disturbed: tuple[list[Told], Path], undisturbed: tuple[list[Told], Path], ranks: int
) -> list[str]:
    """Everything in which the attempts together differ from the undisturbed one, on any rank."""
    from tests.engine.sameness import difference

    (attempts, folder), ((alone,), other) = disturbed, undisturbed
    found = [
        difference(one, two, f"rank {rank}")
        for rank, (one, two) in enumerate(zip(states(folder, ranks), states(other, ranks), strict=True))
    ]
    if attempts[-1].last_staged.digest != alone.last_staged.digest:
        found.append("the digests differ")
    if repr([row for told in attempts for row in told.rows]) != repr(alone.rows):
        found.append("the steps differ")
    if repr([each for told in attempts for each in told.of("epoch")]) != repr(alone.of("epoch")):
        found.append("the epochs differ")
    return [text for text in found if text]
