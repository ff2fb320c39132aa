"""The Content-Security-Policy: nothing from elsewhere, no inline script."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.decorators import sync_and_async_middleware

_POLICY = (
    "default-src 'self'; script-src 'self'{extra}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
# unfold's Alpine evaluates expressions from attributes; swagger-ui is started by an inline script of its page.
_EXTRA = {"/admin/": " 'unsafe-eval'", "/v1/docs/": ""}


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], HttpResponse]):
    from asgiref.sync import iscoroutinefunction

    def mark(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        extra = next((extra for prefix, extra in _EXTRA.items() if request.path.startswith(prefix)), "")
        response.headers.setdefault("Content-Security-Policy", _POLICY.format(extra=extra))
        return response

    if iscoroutinefunction(get_response):

        async def middleware(request):
            return mark(request, await get_response(request))
    else:

        def middleware(request):
            return mark(request, get_response(request))

    return middleware
