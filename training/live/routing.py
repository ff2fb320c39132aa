"""Where the sockets are, and from which pages they may be opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.http.request import is_same_domain, split_domain_port, validate_host
from django.urls import path, re_path

from training.live.backpressure import writer_of
from training.live.consumers import JobConsumer, ListConsumer, NowhereConsumer
from training.live.logins import authorization

FORBIDDEN = 4403
_PORTS = {"http": 80, "https": 443}

websocket_urlpatterns = [
    path("ws/training/", ListConsumer.as_asgi()),
    path("ws/training/<int:job>/", JobConsumer.as_asgi()),
    re_path(r"", NowhereConsumer.as_asgi()),
]

Application = Callable[[dict, Callable, Callable], Awaitable[None]]


def allowed_origins(application: Application) -> Application:
    """Refuse, before the handshake is answered, a socket that another site's page opens with our cookie.

    A missing Origin is refused too unless a token is used: a browser always sends one, and never a token.
    """

    async def guarded(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if not is_allowed(scope):
            await send({"type": "websocket.close", "code": FORBIDDEN})
            return
        writer = writer_of(send)
        await application(scope | {"writer": writer}, receive, writer.send if writer else send)

    return guarded


def is_allowed(scope: dict[str, Any]) -> bool:
    origins, hosts = _headers(scope, b"origin"), _headers(scope, b"host")
    if len(hosts) != 1 or len(origins) > 1:
        return False
    domain, _ = split_domain_port(hosts[0])
    if not domain or not validate_host(domain, _allowed_hosts()):
        return False
    return _is_ours(origins[0], hosts[0]) if origins else authorization(scope) is not None


def _is_ours(origin: str, host: str) -> bool:
    try:
        asked, own = urlsplit(origin), urlsplit(f"{'https' if settings.HTTPS else 'http'}://{host}")
        if asked.scheme not in _PORTS or not asked.hostname:
            return False
        return _site(asked) == _site(own) or any(_matches(asked, urlsplit(trusted)) for trusted in _trusted())
    except ValueError:  # a port that is none
        return False


def _site(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _matches(asked: SplitResult, trusted: SplitResult) -> bool:
    if "*" not in trusted.netloc:
        return _site(asked) == _site(trusted)
    return asked.scheme == trusted.scheme and is_same_domain(asked.netloc, trusted.netloc.lstrip("*"))


def _trusted() -> list[str]:
    return settings.CSRF_TRUSTED_ORIGINS


def _allowed_hosts() -> list[str]:
    if settings.DEBUG and not settings.ALLOWED_HOSTS:
        return [".localhost", "127.0.0.1", "[::1]"]
    return settings.ALLOWED_HOSTS


def _headers(scope: dict[str, Any], name: bytes) -> list[str]:
    return [value.decode("latin1") for header, value in scope["headers"] if header == name]
