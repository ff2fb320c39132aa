# Made of asynchronous/transport.py by `make client`: change it there.
"""Requests and sockets to one server: sent again where that does no harm, and refused in the API's own words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx
from typing_extensions import Self

from heimdall import __version__
from heimdall.client import answers, security
from heimdall.client.errors import LoginRequired, ServerUnreachable
from heimdall.client.feed import JobStream, refusal
from heimdall.client.profiles import Profile
from heimdall.client.shapes import Update


class ServerConnection:
    """The connection to one server. Safe to share; close it at the end, or use it as a context."""

    def __init__(self, profile: Profile, *, timeout: float = 30.0) -> None:
        security.require_token(profile)
        self.profile = profile
        self._tls = security.context_for(profile)
        self._http = httpx.Client(
            headers={"User-Agent": f"heimdall/{__version__}", **self._authorization},
            timeout=timeout,
            verify=self._tls if self._tls is not None else False,
        )
        self._elsewhere: httpx.Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        if self._elsewhere is not None:
            self._elsewhere.close()

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.profile.token}"} if self.profile.token else {}

    def url(self, path: str) -> str:
        return f"{self.profile.url}{path}"

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.ask("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """A POST that is done once, however often it has to be sent: it has a key."""
        return self.ask("POST", path, body=body or {}, key=key or answers.new_key())

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Any:
        """The decoded answer. Raises a HeimdallError of the kind that the server's code names."""
        headers = {"Idempotency-Key": key} if key else {}
        request = self._http.build_request(method, self.url(path), params=query, json=body, headers=headers)
        return self._answer_to(request, repeats=answers.may_repeat(method, key))

    def upload(
        self, path: str, content: bytes, *, query: Mapping[str, Any] | None = None, media_type: str
    ) -> Any:
        """Bring a file as the body; the same bytes twice make the same thing, so it may be sent again."""
        request = self._http.build_request(
            "POST",
            self.url(path),
            params=query,
            content=content,
            headers={"Content-Type": media_type},
            timeout=300.0,
        )
        return self._answer_to(request, repeats=True)

    def _answer_to(self, request: httpx.Request, *, repeats: bool) -> Any:
        answer, content = self._send(request, repeats=repeats)
        url = str(request.url.copy_with(query=None))
        return answers.understood(answer.status_code, answer.headers, content, url=url)

    def _send(
        self, request: httpx.Request, *, repeats: bool, is_read: bool = True
    ) -> tuple[httpx.Response, bytes]:
        """Send it, again after a while where the server is away or asks for patience. The body comes along, unless
        it is left to be read."""
        left = answers.TRIES
        for delay in answers.delays():
            left -= 1
            try:
                answer = self._http.send(request, stream=True)
                content = self.content_of(answer) if is_read else b""
            except httpx.TransportError as error:
                refused = isinstance(error, httpx.ConnectError)  # then nothing was done yet
                if not left or security.is_certificate_error(error) or not (repeats or refused):
                    raise security.unreachable(self.profile, error) from error
                time.sleep(delay)
                continue
            if not left or answer.status_code not in answers.AGAIN:
                return answer, content
            if not repeats and answer.status_code != 429:
                return answer, content
            answer.close()
            time.sleep(answers.wait_asked(answer.headers, delay))
        raise AssertionError  # the delays never end

    def content_of(self, answer: httpx.Response) -> bytes:
        """All of it, which is little for an answer. Raises NotHeimdall where it is not."""
        content = answers.Content(str(answer.request.url))
        try:
            for piece in answer.iter_bytes():
                content.add(piece)
        finally:
            answer.close()
        return bytes(content)

    def stream(
        self, path: str, headers: Mapping[str, str], *, query: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        """An answer whose body is not read yet. Where it leads to a bucket, the token does not go along."""
        request = self._http.build_request(
            "GET", self.url(path), params=query, headers=dict(headers), timeout=60.0
        )
        answer, _ = self._send(request, repeats=True, is_read=False)
        if answer.status_code != 302:
            return answer
        answer.close()
        if self._elsewhere is None:
            self._elsewhere = httpx.Client(timeout=60.0, verify=security.own_context())
        try:
            where = answer.headers.get("location", "")
            request = self._elsewhere.build_request("GET", where, headers=dict(headers))
            return self._elsewhere.send(request, stream=True)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise security.unreachable(Profile(f"The store of {self.profile.url}"), error) from error

    def pages(
        self, path: str, query: Mapping[str, Any] | None = None, *, most: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every row of a list, page after page; the first `most` of them."""
        following: Mapping[str, Any] | None = query or {}
        num_given = 0
        while following is not None:
            page = self.get(path, following)
            for row in answers.rows_of(page, url=self.url(path)):
                if most is not None and num_given >= most:
                    return
                num_given += 1
                yield row
            following = answers.query_of(page.get("next"))

    def follow(self, stream: JobStream, kinds: frozenset[str]) -> Iterator[Update]:
        """What happens to a job until it is at rest: nothing is left out and nothing comes twice, whatever breaks."""
        from websockets.exceptions import WebSocketException

        delays = answers.delays(first=0.5)
        num_lost = 0
        while not stream.is_at_rest:
            try:
                with self._socket(stream.path) as socket:
                    while not stream.is_at_rest:
                        for update in stream.take(socket.recv()):
                            if update.kind in kinds:
                                yield update
                        delays, num_lost = answers.delays(first=0.5), 0
            except (OSError, WebSocketException) as error:
                num_lost += 1
                self._give_up_where_it_is_no_use(stream.job, error, num_lost)
                time.sleep(next(delays))
        for kind in ("event", "step", "epoch", "log"):
            if kind in kinds:
                for update in self._rest(stream, kind):
                    yield update

    def _rest(self, stream: JobStream, kind: str) -> Iterator[Update]:
        """What the socket had not brought when it said that the job is at rest."""
        path, query = stream.list_after(kind)
        for row in self.pages(path, query):
            for update in stream.rows(kind, [row]):
                yield update

    def _give_up_where_it_is_no_use(self, job: int, error: Exception, num_lost: int) -> None:
        received = getattr(error, "rcvd", None)
        status = getattr(getattr(error, "response", None), "status_code", None)
        found = refusal(job, close_code=getattr(received, "code", None), status=status)
        if found is not None:
            raise found from error
        if security.is_certificate_error(error):
            raise security.unreachable(self.profile, error) from error
        if num_lost >= security.MOST_LOST_SOCKETS:
            raise ServerUnreachable(f"{self.profile.url} stays away. The job goes on without us.") from error

    def _socket(self, path: str) -> Any:
        from websockets.sync.client import connect

        if not self.profile.token:
            raise LoginRequired(f"There is no token for {self.profile.url}: log in.")
        return connect(
            "ws" + self.url(path).removeprefix("http"),
            additional_headers=self._authorization,
            user_agent_header=f"heimdall/{__version__}",
            ssl=self._tls,
            max_size=2**26,
            open_timeout=20,
        )
