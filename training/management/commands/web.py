"""Run the web server: pages, admin, REST and sockets."""

from __future__ import annotations

import argparse
import signal
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from setproctitle import setproctitle

from heimdall.processes import die_with_parent
from heimdall.site import private_files
from training.management.listening import listen


class Command(BaseCommand):
    help = "Run the web server on HEIMDALL_HOST and HEIMDALL_PORT, in the foreground."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--fd", type=int, help="Serve this listening socket instead of opening one.")
        parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        from heimdall.site.web_server import serve

        if options["parent"]:
            die_with_parent(options["parent"], signal.SIGTERM)
        setproctitle("heimdall web")
        private_files.close_to_others(settings.DATA_DIR)
        given = options["fd"]
        with listen() if given is None else socket.socket(fileno=given) as listener:
            serve("heimdall.site.asgi:application", listener)
