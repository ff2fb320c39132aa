"""The socket on which the web server listens."""

from __future__ import annotations

import errno
import socket

from django.conf import settings
from django.core.management.base import CommandError


def listen() -> socket.socket:
    """Open the web server's socket where HEIMDALL_HOST and HEIMDALL_PORT say. Raises CommandError."""
    where = f"HEIMDALL_HOST={settings.HOST}, HEIMDALL_PORT={settings.PORT}"
    try:
        found = socket.getaddrinfo(
            settings.HOST, settings.PORT, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"Port {settings.PORT} on {settings.HOST} is in use. Is Heimdall running already? "
                "Choose another port with HEIMDALL_PORT."
            ) from error
        raise CommandError(f"Cannot listen there ({where}): {error.strerror}.") from error
    return listener
