"""The session of a training of several ranks. Each has one, and all do the same at the same place.

Rank 0's decides, speaks to the supervisor and writes the file. Another one's says nothing: it gives what it has of
its own to each checkpoint, and waits where rank 0 waits.
"""

import time
from collections.abc import Callable
from typing import Any, cast

from heimdall.engine import rank_parts
from heimdall.engine.control import EPOCH, STEP, StopRequests
from heimdall.engine.ranks import CHECKPOINT, ROWS, STOP, Ranks
from heimdall.engine.session import ROWS_SECONDS, Send, Session
from heimdall.engine.sharded import SharedMemory
from heimdall.engine.snapshot import KeptTensors, Ticket
from heimdall.recipes.base import Part
from heimdall.trainer.protocol import Failed, Started, TrainerSpec

_ANSWERS = ("", STEP, EPOCH)


def _said_by_a_member(send: Send) -> Send:
    """The first rank of another host has pipes to its own supervisor, which only wants to know how it fares."""
    return lambda message: send(message) if isinstance(message, Started | Failed) else None


class RankSession(Session):
    def __init__(
        self,
        spec: TrainerSpec,
        *,
        send: Send,
        requests: StopRequests,
        ranks: Ranks,
        may_differ: Callable[[str, Any], bool] = rank_parts.may_differ_in_a_recipe,
    ) -> None:
        """may_differ: by its name and itself, whether a part is not the same on every rank."""
        super().__init__(spec, send=send if ranks.is_leader else _said_by_a_member(send), requests=requests)
        self._may_differ = may_differ
        self._ranks = ranks
        self._memory = SharedMemory(ranks)
        self._now = 0
        """What all do after the step that is over."""

    @property
    def requested(self) -> str:
        """Between two steps: what rank 0 has announced for this one. In a validation rank 0 asks for itself."""
        if self._is_at_its_end() or self._now & STOP:
            return STEP
        return self._requests.poll() if self._is_validating else ""

    def requested_of_all(self) -> str:
        """At a place that all ranks reach: what rank 0 finds."""
        return _ANSWERS[self._ranks.agree(_ANSWERS.index(super().requested))]

    @property
    def _is_validating(self) -> bool:
        return self._phase == "validating"

    def step_finished(self) -> None:
        step = self._of.place["step"]
        self._now = self._ranks.meet(step, self._wanted() if self._ranks.is_leader else 0)
        if self._is_first_step:
            self._is_first_step = False
            self._look_at_first_step()
        if self._now & ROWS:
            self.send_rows()
        if self._now & CHECKPOINT:
            self.checkpoint(["periodic"])

    def has_nothing_due(self) -> bool:
        """Each step is a place where all may do something."""
        return False

    def _wanted(self) -> int:
        now, wanted = time.monotonic(), 0
        if self._requests.poll() == STEP:
            wanted |= STOP
        if now >= self._rows_at:
            self._rows_at = now + ROWS_SECONDS
            wanted |= ROWS
        if self._next.is_due and self._stager.has_room:
            self._next.postpone()
            wanted |= CHECKPOINT
        return wanted

    def _look_at_first_step(self) -> None:
        if not self._ranks.is_leader:
            self._load_again = None  # one try is enough
        super()._look_at_first_step()

    def send_last_rows(self) -> None:
        """The others may never come to where they would be added up."""

    def checkpoint(self, kinds: list[str]) -> None:
        """Rank 0 alone knows whether there is room for another file."""
        has_room = self._announcer.has_room or "best" in kinds
        if self._ranks.agree(int(has_room)):
            self.send_rows()
            ticket = self._snapshot(kinds)
            if self._ranks.is_leader:
                self._has_skipped = False
                self._stager.write(ticket)
        elif self._ranks.is_leader:
            self._say_skipped(kinds)
        self._next.postpone()

    def stop(self) -> bool:
        self._now = 0
        if self._ranks.is_leader:
            goes_on = super().stop()
            if goes_on:
                self._ranks.release()
            return goes_on
        self.send_rows()
        self._saved_parts()
        self._ranks.wait_for_release()
        return True

    def finish(self, reason: str) -> None:
        if self._ranks.is_leader:
            super().finish(reason)
        else:
            self.send_rows()
            self._saved_parts()
            if self._ranks.leads_its_host:
                self._requests.wait_for_exit()

    def _snapshot(self, kinds: list[str]) -> Ticket:
        if self._ranks.is_leader:
            return super()._snapshot(kinds)
        self._saved_parts()
        return cast(Ticket, None)  # rank 0 writes it

    def _saved_parts(self) -> tuple[dict[str, Part], KeptTensors]:
        return rank_parts.of_all(self._of.parts, self._ranks, self._memory, may_differ=self._may_differ)
