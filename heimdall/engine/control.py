"""The question that the loop asks between two steps: go on, stop here, or stop when the epoch is closed?"""

import threading
from collections.abc import Callable
from typing import Protocol

from heimdall.trainer.protocol import Exit, FileStored, GoOn, StopTraining, ToTrainer

STEP, EPOCH = "step", "epoch"


class Control(Protocol):
    def poll(self) -> str:
        """ "" to go on; STEP to stop before the next step; EPOCH to stop when the epoch is closed."""


class StopRequests:
    """What the supervisor wants, as its messages say it. One thread fills it, the training reads it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stop = ""
        self._exiting = False
        self.is_any = False
        """Whether a stop is asked for, or the process is to end."""
        self.rest_after: int | None = None
        """The epoch after which the training rests by itself, once."""
        self.on_stored: Callable[[str], None] = lambda path: None

    def poll(self) -> str:
        return self._stop

    @property
    def is_exiting(self) -> bool:
        return self._exiting

    def receive(self, message: ToTrainer) -> None:
        with self._changed:
            match message:
                case StopTraining():
                    self._stop = EPOCH if message.at == EPOCH else STEP
                case GoOn():
                    self._stop = ""
                case FileStored():
                    self.on_stored(message.path)
                case Exit():
                    self._stop, self._exiting = STEP, True
            self.is_any = bool(self._stop)
            self._changed.notify_all()

    def rest_if_due(self, epochs: int) -> None:
        """Once so many epochs are closed, stop as if the supervisor had asked for it, which may withdraw it."""
        if self.rest_after is None or epochs < self.rest_after:
            return
        with self._changed:
            self.rest_after, self._stop, self.is_any = None, STEP, True

    def wait_for_answer(self) -> bool:
        """Wait, stopped, until the request is withdrawn (True) or the process may go (False)."""
        with self._changed:
            self._changed.wait_for(lambda: self._exiting or not self._stop)
            return not self._exiting

    def wait_for_exit(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._exiting)

    def wait_for_change(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait(timeout)
