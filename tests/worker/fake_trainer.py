"""A trainer that is no process: it says what a test wants, and makes a step whenever it is listened to."""

from __future__ import annotations

from heimdall.trainer.protocol import FromTrainer, Started, StepsDone, ToTrainer


class FakeTrainer:
    pid = 1

    def __init__(self) -> None:
        self.waiting: list[FromTrainer] = [Started(step=0, epoch=0, total_steps=1000)]
        self.steps_at_a_time = 1
        self.step = 0
        self.is_killed = False
        self.log = ""
        self.received: list[str] = []

    def receive(self, seconds: float) -> FromTrainer | None:
        if seconds and not self.waiting and not self.is_killed:
            self._step()
        return self.waiting.pop(0) if self.waiting else None

    def _step(self) -> None:
        first, self.step = self.step + 1, self.step + self.steps_at_a_time
        rows = [{"step": step, "epoch": 1, "loss": 1.0} for step in range(first, self.step + 1)]
        if rows:
            self.waiting.append(StepsDone(rows))

    def read_log(self) -> str:
        log, self.log = self.log, ""
        return log

    def exit_status(self) -> int | None:
        return -9 if self.is_killed and not self.waiting else None

    def send(self, message: ToTrainer) -> None:
        self.received.append(message.kind)

    def nudge(self) -> None:
        pass

    def wait(self, seconds: float) -> bool:
        return "exit" in self.received or self.is_killed

    def kill(self) -> None:
        self.is_killed = True
