"""A training that runs here and reports to a server: in the background, and never in the training's way.

What the server does not take now is kept and sent later, within bounds. Whatever goes wrong is said once on standard
error, and the training goes on: nothing here raises into it.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from heimdall.client import answers
from heimdall.client.errors import (
    DatabaseUnavailable,
    NotHeimdall,
    ServerFailed,
    ServerUnreachable,
    TooManyRequests,
)
from heimdall.client.pending_reports import PendingReports
from heimdall.client.profiles import Profile
from heimdall.errors import HeimdallError, InvalidInput

if TYPE_CHECKING:
    from heimdall.client.synchronous.transport import ServerConnection

EVERY_SECONDS = 2.0
SECONDS_AT_THE_END = 10.0  # that the script's end waits for what is not sent yet
LATER = (DatabaseUnavailable, NotHeimdall, ServerFailed, ServerUnreachable, TooManyRequests)
LONGEST_MESSAGE = 9_000


class Reporter:
    """Reports for one job of a server. Its methods take no time; a thread sends.

    `with client.external("name") as report: ...` completes the job at the end, or fails it with what was raised.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        job: int | None = None,
        begin: Mapping[str, Any] | None = None,
        every: float = EVERY_SECONDS,
    ) -> None:
        """`job` is one that takes reports; without it the thread makes one, as `begin` says, once the server is
        there."""
        self.number = job
        self.profile = profile
        self._begin, self._key = begin, answers.new_key()
        self._every, self._owner = every, os.getpid()
        self._pending = PendingReports()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._outcome: dict[str, str] | None = None
        self._has_given_up = self._is_away = False
        self._thread = threading.Thread(target=self._send_until_the_end, name="heimdall-report", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Reporter of job {self.number or '(not made yet)'} at {self.profile.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(sentence_of_exception(error))

    @property
    def url(self) -> str | None:
        """The job's page, once the job is made."""
        return f"{self.profile.url}/jobs/{self.number}/" if self.number else None

    # What a training says.

    def log(self, *, step: int | None = None, epoch: int | None = None, **values: Any) -> None:
        """Values of a step, by default of the one after the newest. Steps only grow; more of the newest is added."""
        self.add(step, epoch, values)

    def close_epoch(self, epoch: int, *, step: int | None = None, **values: Any) -> None:
        """The epoch (from 1) is over; values of the whole epoch, such as val_loss."""
        self.add_epoch(epoch, step, values)

    def add(self, step: int | None, epoch: int | None, values: Mapping[str, Any]) -> None:
        """As `log`, for values of any name."""
        kept = numbers(values)
        self._put(lambda: self._pending.add_values(step, epoch, kept))

    def add_epoch(self, epoch: int, step: int | None, values: Mapping[str, Any]) -> None:
        """As `close_epoch`, for values of any name."""
        kept = numbers(values)
        self._put(lambda: self._pending.add_epoch(epoch, step, kept))

    def print(self, text: str) -> None:
        """Something for the job's log."""
        self._put(lambda: self._pending.add_log(f"{text}\n"))

    def expect(self, *, steps: int | None = None, epochs: int | None = None) -> None:
        """How long it is to train."""
        found = {"total_steps": steps, "total_epochs": epochs}
        self._put(
            lambda: self._pending.facts.update({name: one for name, one in found.items() if one is not None})
        )

    def complete(self, *, wait: float = SECONDS_AT_THE_END) -> bool:
        """The training is over, and well. Whether all was sent after so many seconds at most."""
        return self._finish({"outcome": "completed"}, wait)

    def fail(self, message: str, *, wait: float = SECONDS_AT_THE_END) -> bool:
        """The training is over, and failed: why. Whether all was sent after so many seconds at most."""
        return self._finish({"outcome": "failed", "message": plain(message)}, wait)

    def flush(self, *, wait: float = SECONDS_AT_THE_END) -> bool:
        """Send what there is. Whether all was sent after so many seconds at most."""
        end = time.monotonic() + wait
        self._pending.is_urgent = True
        while self._thread.is_alive() and not self._is_empty() and time.monotonic() < end:
            self._wake.set()
            time.sleep(0.02)
        self._pending.is_urgent = False
        return self._is_empty() and not self._has_given_up

    # What the thread does.

    def _put(self, add: Callable[[], str | None]) -> None:
        """In a process that was forked off, such as a loader's worker, there is no thread, and nothing is said."""
        if self._has_given_up or self._outcome is not None or os.getpid() != self._owner:
            return
        with self._lock:
            sentence = add()
        if sentence:
            self._say(sentence)

    def _is_empty(self) -> bool:
        with self._lock:
            return self._pending.is_empty

    def _finish(self, outcome: dict[str, str], wait: float) -> bool:
        if os.getpid() != self._owner:
            return False
        self._outcome = self._outcome or outcome
        self._pending.is_urgent = True
        self._wake.set()
        self._thread.join(wait)
        if self._thread.is_alive() and not self._has_given_up:
            self._say(f"{self.profile.url} stays away: the newest of what this training reported is lost.")
        return not self._thread.is_alive() and not self._has_given_up

    def _send_until_the_end(self) -> None:
        delays = answers.delays(first=1.0)
        try:
            with self._connection() as server:
                while True:
                    is_last = self._outcome is not None
                    try:
                        self._send_all(server)
                        if is_last:
                            server.ask("POST", f"/v1/training/jobs/{self.number}/end", body=self._outcome)
                            return
                        delays, self._is_away = answers.delays(first=1.0), False
                    except LATER as error:
                        self._say_that_it_is_away(error)
                        self._sleep(next(delays))
                        continue
                    self._sleep(self._every)
        except HeimdallError as error:
            self._give_up(str(error))
        except Exception as error:  # whatever it is, it is not the training's fault
            self._give_up(f"{type(error).__name__}: {error}")

    def _connection(self) -> ServerConnection:
        from heimdall.client.synchronous.transport import ServerConnection

        return ServerConnection(self.profile)

    def _send_all(self, server: ServerConnection) -> None:
        if self.number is None:
            made = server.post("/v1/training/jobs/external", self._begin or {}, key=self._key)
            self.number = int(made["id"])
            self._say(f"This training is reported as {self.url}")
        while True:
            with self._lock:
                body = self._pending.take()
            if body is None:
                return
            try:
                server.ask("POST", f"/v1/training/jobs/{self.number}/metrics", body=body)
            except InvalidInput as error:
                self._say(f"A report was refused and is left out: {error}")
            except BaseException:
                with self._lock:
                    self._pending.keep()
                raise
            with self._lock:
                self._pending.forget_taken()

    def _sleep(self, seconds: float) -> None:
        """Until there is a reason to hurry, but not without end where that is the script's end."""
        self._wake.wait(min(seconds, 1.0) if self._outcome is not None else seconds)
        if self._outcome is None:
            self._wake.clear()
        else:
            time.sleep(0.2 if self._is_away else 0.0)

    def _say_that_it_is_away(self, error: HeimdallError) -> None:
        if not self._is_away:
            self._say(f"{error} What is reported is kept here and sent later.")
        self._is_away = True

    def _give_up(self, why: str) -> None:
        self._has_given_up = True
        with self._lock:
            self._pending = PendingReports()
        self._say(f"Nothing more is reported: {why}")

    def _say(self, sentence: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # where standard error is closed
            print(f"heimdall: {plain(sentence)}", file=sys.stderr, flush=True)


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has them; what is no number is left out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        with contextlib.suppress(TypeError, ValueError):
            number = None if value is None else float(value)
            found[name[:100]] = number if number is None or math.isfinite(number) else str(number)
    return found


def sentence_of_exception(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def plain(text: str) -> str:
    """What the API takes as a text: no control characters, and not more than fits."""
    kept = "".join(sign if sign in "\n\t" or sign.isprintable() else "\ufffd" for sign in text)
    return kept[:LONGEST_MESSAGE]
