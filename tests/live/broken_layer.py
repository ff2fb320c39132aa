"""The settings with a channel layer that hangs where it is asked to wait and raises where it is asked to send."""

import asyncio

from heimdall.site.settings import *  # noqa: F403

CHANNEL_LAYERS = {"default": {"BACKEND": "tests.live.broken_layer.BrokenLayer"}}


class BrokenLayer:
    async def new_channel(self, prefix: str = "") -> str:
        await asyncio.Event().wait()
        raise AssertionError

    receive = new_channel

    async def send(self, *words: object) -> None:
        raise ConnectionError("the layer is down")

    group_add = group_discard = group_send = send
