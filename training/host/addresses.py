"""Where the ranks of several hosts meet: this host's address, and a port that is free."""

from __future__ import annotations

import socket
from contextlib import suppress

from django.conf import settings


def meeting_place() -> str:
    """For rank 0 to listen at. Should somebody take the port meanwhile, the attempt is repeated."""
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{_address()}:{free.getsockname()[1]}"


def _address() -> str:
    """As other hosts know this one: HEIMDALL_ADDRESS, or what its name leads to."""
    if settings.ADDRESS:
        return str(settings.ADDRESS)
    with suppress(OSError):
        return socket.gethostbyname(socket.gethostname())
    return "127.0.0.1"
