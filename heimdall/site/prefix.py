"""Heimdall below a path, as in https://lab.example.org/heimdall.

A proxy may hand requests on with that path or without it: `/heimdall/jobs/7/` and `/jobs/7/` are the same here. No
page of ours begins with the path, which `env.web_address` sees to, so neither can be mistaken for the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Application = Callable[[dict[str, Any], Callable, Callable], Awaitable[None]]

_PAGES = """.well-known activity admin certificates compare datasets favicon.ico healthz jobs login logout
metrics nodes queue readyz settings static sweeps v1 views ws"""
OWN_PAGES = frozenset(_PAGES.split())


def full_path(prefix: str, path: str) -> str:
    """With the prefix, whether the proxy left it or not."""
    return path if _is_within(prefix, path) and path != prefix else prefix + "/" + bare_path(prefix, path)[1:]


def bare_path(prefix: str, path: str) -> str:
    """Without the prefix: what the tables of addresses know."""
    return path.removeprefix(prefix) or "/" if _is_within(prefix, path) else path


def below(prefix: str, application: Application) -> Application:
    """Tell the application (ASGI) below which path it is."""
    if not prefix:
        return application

    async def prefixed(scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if "path" in scope:
            scope = scope | {"path": full_path(prefix, scope["path"]), "root_path": prefix}
        await application(scope, receive, send)

    return prefixed


def below_wsgi(prefix: str, application: Callable) -> Callable:
    """Django adds FORCE_SCRIPT_NAME to whatever path it is given."""

    def stripped(environ: dict[str, Any], start_response: Callable) -> Any:
        return application(
            environ | {"PATH_INFO": bare_path(prefix, environ.get("PATH_INFO", "/"))}, start_response
        )

    return stripped


def _is_within(prefix: str, path: str) -> bool:
    return bool(prefix) and (path == prefix or path.startswith(prefix + "/"))
