"""Applications that are served to see what the server itself does."""

import asyncio
import time


async def endless(scope, receive, send):
    """Answers as long as the client takes it."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


async def patient(scope, receive, send):
    """Works for a minute in a thread, or keeps a socket open."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        await asyncio.to_thread(time.sleep, 60)
