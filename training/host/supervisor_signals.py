"""What signals have asked of a supervisor's process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from training.host.locks import worker_lock


class StopSignals:
    """The signals that a supervisor has received, and what it must do for them.

    SIGTERM: land at the next step; again: leave at once. SIGUSR1: the cluster is gone; an idle process leaves at
    once, a busy one finishes its attempt as long as the worker lives, and leaves then.
    """

    def __init__(self) -> None:
        self.busy = False
        self.drain = False
        self.orphaned = False

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGUSR1, self._on_sigusr1)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            if self.orphaned:
                os._exit(0)

    def must_land(self) -> bool:
        """Whether the attempt has to end at the next step, whatever the job's own stop is."""
        if not self.drain and self.orphaned and worker_lock().holder() is None:
            self.drain = True
        return self.drain

    def must_leave(self) -> bool:
        """Whether no further attempt may be begun."""
        return self.orphaned or self.must_land()

    def _on_sigterm(self, *_: object) -> None:
        if self.drain:
            os._exit(1)
        self.drain = True

    def _on_sigusr1(self, *_: object) -> None:
        self.orphaned = True
        if not self.busy:
            os._exit(0)


stop_signals = StopSignals()
