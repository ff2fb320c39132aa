"""Counts its batches in this process; the fault comes with the batch of the chosen number."""

import os
import signal
import time
from pathlib import Path

import torch

from tests.support.recipes.tiny import recipe as tiny


class Recipe(tiny.Recipe):
    batches = 0

    def loss(self, model, batch) -> torch.Tensor:
        if model.training:
            self.batches += 1
            if self.batches == self.config.fault_step:
                self._fail()
        return super().loss(model, batch)

    def _fail(self) -> None:
        if self.config.once:
            mark = Path(self.config.once)
            if mark.exists():
                return
            mark.touch()
        match self.config.fault:
            case "raise":
                raise ValueError("<script>alert('the recipe is broken')</script>")
            case "hang":
                time.sleep(3600)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "abort":
                os.abort()
            case "exit":
                os._exit(7)
            case "memory":
                raise torch.OutOfMemoryError("out of memory, on purpose")
