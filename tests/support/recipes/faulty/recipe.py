"""Counts its batches in this process; the fault comes with the batch of the chosen number."""

import os
import signal
import threading
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
        loss = super().loss(model, batch)
        is_nan = self.config.fault == "nan" and self.batches >= self.config.fault_step
        return loss * float("nan") if is_nan else loss

    def _fail(self) -> None:
        if self.config.once:
            mark = Path(self.config.once)
            if mark.exists():
                return
            mark.touch()
        match self.config.fault:
            case "raise":
                raise ValueError("<script>alert('the recipe is broken')</script>")
            case "print":
                self._print_and_raise()
            case "hang":
                time.sleep(3600)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "abort":
                os.abort()
            case "exit":
                os._exit(7)
            case "leave":
                os._exit(0)
            case "memory":
                raise torch.OutOfMemoryError("out of memory, on purpose")

    def _print_and_raise(self) -> None:
        """2000 lines from one thread while another raises: more than a pipe holds."""
        begun = threading.Event()

        def print_all() -> None:
            for number in range(2_000):
                print(f"line {number:04} {'x' * 60}", flush=True)
                if number == 20:
                    begun.set()
            print("the last line", flush=True)

        printing = threading.Thread(target=print_all)
        printing.start()
        begun.wait()
        try:
            raise ValueError("it failed while it printed")
        finally:
            printing.join()
