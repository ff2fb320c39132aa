"""The web server, and /counted/ beside it: how many bytes all that Python holds in this process takes.

The first question begins the count. Unlike the process's size it does not depend on what the allocator keeps.
"""

import gc
import tracemalloc
from collections.abc import Callable

from heimdall.site.asgi import application as heimdall


async def application(scope: dict, receive: Callable, send: Callable) -> None:
    if scope["type"] != "http" or scope["path"] != "/counted/":
        return await heimdall(scope, receive, send)
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    gc.collect()
    counted = str(tracemalloc.get_traced_memory()[0]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": counted})
