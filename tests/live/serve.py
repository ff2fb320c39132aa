"""Serve another application as the shipped one is served: `python -m tests.live.serve package:application port`."""

import os
import socket
import sys

import django

from heimdall.site.web_server import serve


def main() -> None:
    django.setup()
    with socket.create_server(("127.0.0.1", int(sys.argv[2]))) as listener:
        serve(sys.argv[1], listener, ping_seconds=float(os.environ.get("HEIMDALL_TEST_PING_SECONDS", "20")))


if __name__ == "__main__":
    main()
