"""What a command saves by itself, and which of it can be gone on from.

A file that has stood unchanged for a while is complete; with where the log was when it was first seen, it is what the
command can go on from. At a stop only what is new counts, and only where the command left well or had been still.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heimdall.attached.checkpoint_folder import CheckpointFolder, NotTaken, Signature
from heimdall.attached.program import Program
from heimdall.engine.errors import Crashed

LOOK_SECONDS = 0.5  # between two looks into the folder
SETTLED_SECONDS = 2.0  # what did not change for so long is complete
STILL_SECONDS = 1.0  # before a command had to be ended

Place = dict[str, Any]
"""Where the log was: a LogRows' state."""


@dataclass(frozen=True)
class Kept:
    """What the folder held when it was last seen complete, and where the log was then."""

    files: dict[str, Signature]
    place: Place


class OwnCheckpoints:
    """Of one command; it may have no folder for them."""

    def __init__(self, folder: CheckpointFolder | None, program: Program, *, every_minutes: float) -> None:
        self._folder, self._program = folder, program
        self._kept: Kept | None = None
        self._seen: dict[str, Signature] = {}
        self._seen_place: Place = {}
        self._seen_at = self._look_at = 0.0
        self._at_stop: dict[str, Signature] = {}
        self._taken: dict[str, Signature] = {}  # what the newest checkpoint was made of
        self._has_checkpoint = False
        self._every_seconds = every_minutes * 60 if every_minutes else float("inf")
        self._taken_at = time.monotonic()

    @property
    def parts(self) -> dict[str, Any]:
        return {} if self._folder is None else {"files": self._folder}

    def are_there(self) -> bool:
        return bool(self._look())

    def begin(self, place: Place, *, has_checkpoint: bool) -> None:
        """What is to be resumed was written back."""
        self._has_checkpoint = has_checkpoint
        if self._folder is not None:
            self._folder.drop()
        self._seen = self._taken = self._look()
        if has_checkpoint and self._seen:
            self._kept = Kept(self._seen, place)

    # While it runs.

    def due(self, place: Place) -> Kept | None:
        """What is complete, was not taken over, and is to be by now. `place`: where the log is."""
        now = time.monotonic()
        if self._folder is None or now < self._look_at:
            return None
        self._look_at = now + LOOK_SECONDS
        files = self._look()
        if files != self._seen:
            self._seen, self._seen_place, self._seen_at = files, place, now
        elif self._seen_place and files and now - self._seen_at >= SETTLED_SECONDS:
            self._kept = Kept(files, self._seen_place)
            if files != self._taken and now - self._taken_at >= self._every_seconds:
                return self._kept
        return None

    def take_over(self, kept: Kept, checkpoint: Callable[[], None]) -> None:
        """Make a checkpoint of what is complete, if it still is. Raises NotTaken."""
        assert self._folder is not None
        try:
            self._folder.take()
            if self._look() == kept.files:
                checkpoint()
                self._taken, self._taken_at, self._has_checkpoint = kept.files, time.monotonic(), True
        finally:
            self._folder.drop()

    # The end.

    def remember(self) -> None:
        """It is about to be stopped: what it writes from here on is new."""
        self._at_stop = self._look()

    def take_all(self) -> None:
        """Hold what there is. Raises NotTaken."""
        if self._folder is not None:
            self._folder.take()

    def take_new(self, ended: dict[str, Any], number: int) -> None:
        """Hold what it left after it was sent this signal. Raises NotTaken where there is nothing to go on from."""
        why_not = self._why_nothing_new(ended, number)
        if why_not:
            raise NotTaken(why_not)
        self.take_all()

    def take_last(self, why: str) -> Place | None:
        """Hold what was last seen complete, and say where the log was then; None where there was never anything."""
        kept = self._kept
        if kept is not None and self._folder is not None and kept.files.items() <= self._look().items():
            try:
                self._folder.take(only=kept.files)
                return kept.place
            except NotTaken as error:
                why = f"{why}; {error}"
        if self._has_checkpoint:
            # What it goes on from is stored, and no longer here.
            raise Crashed(f"{why}, and what it had saved before is not as it was")
        return None

    def put_back(self, place: Place) -> None:
        """The stop was withdrawn: what is held is what it starts from."""
        self._has_checkpoint, self._taken_at = True, time.monotonic()
        if self._folder is None:
            return
        state = self._folder.state_dict()
        self._folder.put_back(state)
        self._folder.drop()
        self._seen = self._taken = self._look()
        self._seen_place = place
        self._kept = Kept(self._seen, place) if self._seen else None

    def _why_nothing_new(self, ended: dict[str, Any], number: int) -> str:
        """Empty where it left a checkpoint of its own."""
        if self._folder is None:
            return "the command has no checkpoint_folder"
        new = {name: facts for name, facts in self._look().items() if self._at_stop.get(name) != facts}
        code = ended["ended"]
        if not new:
            return f"the command left no new complete file in {self._program.checkpoint_folder}"
        if ended["forced_at"] is not None:
            newest = max(new, key=lambda name: new[name][1])
            if new[newest][1] / 1e9 > ended["forced_at"] - STILL_SECONDS:
                seconds = self._program.grace_seconds
                return f"the command was still writing {newest} after {seconds:g} s, and was ended"
        elif code not in (0, -number, 128 + number):
            return (
                f"the command left with exit code {code}, so that what it wrote is not trusted: leave with 0"
            )
        return ""

    def _look(self) -> dict[str, Signature]:
        return {} if self._folder is None else self._folder.look()
