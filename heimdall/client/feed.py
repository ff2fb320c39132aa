"""What the messages of a job's socket add up to. Knows no network: docs/live.md has the messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from heimdall.client.errors import LoginRequired, NotHeimdall
from heimdall.client.shapes import AT_REST, Update
from heimdall.errors import HeimdallError, NotAllowed, NotFound

KINDS = (("events", "event"), ("steps", "step"), ("epochs", "epoch"), ("log", "log"))
FROM_THE_START = "after=0&step=0&epoch=0&log=0"
LISTS = {
    "event": ("events", {}),
    "step": ("metrics", {}),
    "epoch": ("metrics", {"per": "epoch"}),
    "log": ("logs", {}),
}


class JobStream:
    """How far one reader of a job got, and each message turned into what is new for it."""

    def __init__(self, job: int, position: str = "") -> None:
        self.job = job
        self.position = position
        self.shown: dict[str, Any] = {}
        self.seen = dict.fromkeys(LISTS, 0)
        self._closed = 0  # the step that closed the newest epoch: lists of epochs go on after a step

    @property
    def path(self) -> str:
        return f"/ws/training/{self.job}/" + (f"?{self.position}" if self.position else "")

    @property
    def is_at_rest(self) -> bool:
        return self.shown.get("status") in AT_REST

    def take(self, text: str | bytes) -> Iterator[Update]:
        """Everything that a message brings, in the order in which it happened as far as that can be known."""
        try:
            message = json.loads(text)
            kind = message["type"]
        except (ValueError, KeyError, TypeError):
            raise NotHeimdall("The socket brought something that is no message of Heimdall's.") from None
        if kind not in {"picture", "changes"}:
            return
        if kind == "picture" and self.shown:
            self.seen, self._closed = dict.fromkeys(self.seen, 0), 0
            yield Update("restored", message["job"])
        if (back := message.get("rolled_back_to")) is not None:
            self.seen |= {name: min(self.seen[name], back[name]) for name in ("step", "epoch")}
            self._closed = min(self._closed, back["step"])
            yield Update("rollback", back)
        for name, one in KINDS:
            yield from self.rows(one, message.get(name) or ())
        self.position = message["next"]
        if message["job"] != self.shown:
            self.shown = message["job"]
            yield Update("job", self.shown)

    def rows(self, kind: str, found: Iterable[dict[str, Any]]) -> Iterator[Update]:
        """Those that are new; the same are brought by REST when a job has come to rest."""
        number = {"event": "seq", "log": "id"}.get(kind, kind)
        for row in found:
            if row[number] > self.seen[kind]:
                self.seen[kind] = row[number]
                self._closed = row["step"] if kind == "epoch" else self._closed
                yield Update(kind, row)

    def list_after(self, kind: str) -> tuple[str, dict[str, Any]]:
        """The list of the API, and its query, that goes on where this reader is."""
        name, query = LISTS[kind]
        after = self._closed if kind == "epoch" else self.seen[kind]
        return f"/v1/training/jobs/{self.job}/{name}", query | {"after": after, "limit": 1000}


def refusal(job: int, *, close_code: int | None = None, status: int | None = None) -> HeimdallError | None:
    """Why it is no use to open the socket again; None where it is."""
    if close_code == 4401 or status == 401:
        return LoginRequired("The token is wrong, was revoked or has expired: log in again.")
    if close_code == 4404:
        return NotFound(f"There is no job {job} that you may see.")
    if close_code == 4403 or status == 403:
        return NotAllowed("The server refuses this socket. A proxy before it must hand the Host header on.")
    if status is not None and 300 <= status < 500 and status != 429:
        return NotHeimdall(
            f"The server answered {status} to a WebSocket: does the proxy before it let them through?"
        )
    return None
