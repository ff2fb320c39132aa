"""The trainer's real work, with a supervisor in the same process that asks for a stop at a given place."""

from typing import Any

from heimdall.engine.control import StopRequests
from heimdall.engine.recipe_job import RecipeJob
from heimdall.trainer.protocol import Exit, FileStored, FromTrainer, StopTraining
from tests.engine.attempts import Stop, Told


class StoppingJob(RecipeJob):
    def __init__(self, spec: Any, stop: Stop) -> None:
        self.requests, self.told, self.stop = StopRequests(), Told(), stop
        self.questions_left = 0
        super().__init__(spec, send=self.answer, requests=self.requests)

    @property
    def progress(self) -> Any:
        return self._training.loop.progress

    def answer(self, message: FromTrainer) -> None:
        """Take what the work tells, as a supervisor would."""
        self.told.messages.append(message)
        if message.kind == "staged":
            self.requests.receive(FileStored(message.path))
        elif message.kind in ("stopped", "finished"):
            self.requests.receive(Exit())

    def phase(self, name: str) -> None:
        super().phase(name)
        if self.progress.epochs_completed + 1 == self.stop.at_epoch:
            self.requests.receive(StopTraining("epoch"))
        # Asked for the first time before the first batch: the second time is in the middle.
        is_there = name == "validating" and self.progress.epochs_completed + 1 == self.stop.in_validation
        self.questions_left = 2 if is_there and not self.told.of("stopped") else 0

    def poll(self) -> str:
        if self.questions_left:
            self.questions_left -= 1
            if not self.questions_left:
                self.requests.receive(StopTraining("step"))
        return super().poll()

    def step_finished(self) -> None:
        super().step_finished()
        if self.progress.steps_completed == self.stop.after_step:
            self.requests.receive(StopTraining("step"))

    def start(self, *arguments: Any) -> None:
        super().start(*arguments)
        if self.stop.after_step == -1:
            self.requests.receive(StopTraining("step"))
