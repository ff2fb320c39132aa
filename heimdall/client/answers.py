"""What an answer of the server means, and when a request is worth sending again. Knows no network."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from heimdall.client.errors import LoginRequired, NotHeimdall, OlderServer, ServerFailed, from_detail

TRIES = 4
LONGEST_WAIT = 15.0
AGAIN = (429, 502, 503, 504)  # of a proxy, too, while the server behind it is restarted
MOST_BYTES = 2**26  # of one answer; files are no answers
_NO_ADDRESS = "There is nothing at "
_OWN = random.SystemRandom()  # not Python's global one: that is the training's that is reported


class MissingField(NotHeimdall, KeyError):
    """The KeyError of an answer, as a sentence."""

    __str__ = Exception.__str__


class Fields(dict[str, Any]):
    """An object of an answer."""

    def __missing__(self, name: str) -> Any:
        raise MissingField(
            f"The server's answer has no {name!r}: it is older than this client, or no Heimdall. Is the address "
            "right?"
        )


class Content:
    """The bytes of an answer as they arrive. Raises NotHeimdall where there are more than any answer has."""

    def __init__(self, url: str) -> None:
        self._url, self._pieces, self._size = url, [], 0  # type: ignore[var-annotated]

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MOST_BYTES:
            raise NotHeimdall(
                f"{self._url} answered with more than {MOST_BYTES // 2**20} MiB, which Heimdall never does. Is the "
                "address right?"
            )
        self._pieces.append(piece)

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)


def understood(status: int, headers: Mapping[str, str], content: bytes, *, url: str) -> Any:
    """The decoded body of a success; None of an empty one. Raises what a refusal stands for."""
    if 300 <= status < 400:
        where = headers.get("location", "elsewhere")
        raise NotHeimdall(
            f"{url} leads on to {where[:200]}. Log in at the address where the server itself is."
        )
    body = _decoded(headers, content, url=url, status=status)
    if status < 400:
        if body is None or isinstance(body, dict):
            return body
        raise _unshaped(status, url, "a list or a value")
    detail = body.get("error") if isinstance(body, dict) else None
    if not isinstance(detail, dict):
        raise _unshaped(status, url)
    if status == 404 and str(detail.get("message", "")).startswith(_NO_ADDRESS):
        raise OlderServer(
            f"The server at {url} does not know {urlsplit(url).path}: it is older than this client. Upgrade it, or "
            "install the client of its version."
        )
    raise from_detail(detail)


def _decoded(headers: Mapping[str, str], content: bytes, *, url: str, status: int) -> Any:
    if not content:
        return None
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media == "application/json" or media.endswith("+json"):
            return json.loads(content, object_hook=Fields)
    except (ValueError, RecursionError):
        pass
    raise _unshaped(status, url, media or "no type")


def _unshaped(status: int, url: str, media: str = "") -> Exception:
    if status == 401:
        return LoginRequired(f"{url} asks for a login of its own before Heimdall is reached.")
    if status in {500, 502, 503, 504}:
        return ServerFailed(
            f"{url} answered {status}, and not in Heimdall's words: look at the proxy before it."
        )
    what = f"with {media}, " if media else ""
    return NotHeimdall(
        f"{url} answered {status} {what}not as Heimdall's API does. Is the address right, and does no proxy ask for "
        "a login there?"
    )


def delays(*, first: float = 0.3) -> Iterator[float]:
    """Seconds before each next try: twice as long each time, and never the same for two clients."""
    seconds = first
    while True:
        yield min(seconds, LONGEST_WAIT) * _OWN.uniform(0.75, 1.25)
        seconds *= 2


def wait_asked(headers: Mapping[str, str], otherwise: float) -> float:
    """What Retry-After says, within reason."""
    text = headers.get("retry-after", "")
    return min(max(float(text), 0.1), 60.0) if text.isdigit() else otherwise


def may_repeat(method: str, key: str | None) -> bool:
    """Whether a request whose answer was lost can be sent again without doing it twice."""
    return method in {"GET", "HEAD", "PUT", "DELETE", "PATCH"} or key is not None


def new_key() -> str:
    return str(uuid.uuid4())


def query_of(address: str | None) -> dict[str, list[str]] | None:
    """The query of a page's `next`. Its host is not trusted: behind a proxy it may not be the one that we call."""
    return parse_qs(address.partition("?")[2].partition("#")[0]) if address else None


def rows_of(page: Any, *, url: str) -> list[dict[str, Any]]:
    """What stands on a page of a list. Raises NotHeimdall for anything else."""
    rows = page.get("results") if isinstance(page, dict) else None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    raise _unshaped(200, url, "something that is no list")


def given(**fields: Any) -> dict[str, Any]:
    """Those that are not None: what is left out takes the server's default."""
    return {name: value for name, value in fields.items() if value is not None}
