"""What every answer says to browsers and proxies.

The Content-Security-Policy: nothing from elsewhere, no inline script, no inline style. And who may keep the answer.
"""

import re
from collections.abc import Callable

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

# 'self' in connect-src covers the sockets of the same host, as ws: and as wss:.
_STRICT = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
# By the beginning of the path. unfold's Alpine evaluates expressions that stand in attributes, and its pages have
# style attributes; the pictures in both foreign style sheets are data.
_LOOSER = {
    "/admin/": {
        "script-src": "'self' 'unsafe-eval'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
    },
    "/v1/docs/": {"img-src": "'self' data:"},
}
_MAP = re.compile(r".*/jobs/[0-9]+/locate/")


def policy_for(path: str) -> str:
    looser = next((rules for prefix, rules in _LOOSER.items() if path.startswith(prefix)), {})
    if settings.MAP_TILES and _MAP.fullmatch(path):
        # Leaflet shows an empty picture, which is data, in the place of a tile that it gives up.
        looser = looser | {"img-src": f"'self' data: {_origin(settings.MAP_TILES)}"}
    return "; ".join(f"{name} {value}" for name, value in (_STRICT | looser).items())


def _origin(address: str) -> str:
    return "/".join(address.split("/")[:3])


def caching_for(path: str, response: HttpResponse) -> str:
    """A page may be shown again by the same browser once it asked; downloads and answers of the API are not kept."""
    is_page = not path.startswith("/v1/") and "Content-Disposition" not in response.headers
    return "private, no-cache" if is_page else "private, no-store"


@sync_and_async_middleware
def protective_headers(get_response: Callable[[HttpRequest], HttpResponse]):
    def mark(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers["Content-Security-Policy"] = policy_for(request.path_info)
        response.headers.setdefault("Cache-Control", caching_for(request.path_info, response))
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            return mark(request, await get_response(request))
    else:

        def middleware(request):
            return mark(request, get_response(request))

    return middleware
