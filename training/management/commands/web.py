"""Run the web server: pages, admin, REST and sockets."""

from __future__ import annotations

import argparse
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from setproctitle import setproctitle

from heimdall.processes import die_with_parent
from heimdall.site import private_files


class Command(BaseCommand):
    help = "Run the web server on HEIMDALL_HOST and HEIMDALL_PORT, in the foreground."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--fd", type=int, help="Serve this listening socket instead of opening one.")
        parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        from daphne.cli import CommandLineInterface

        from heimdall.site.limits import bound_daphne

        if options["parent"]:
            die_with_parent(options["parent"], signal.SIGTERM)
        setproctitle("heimdall web")
        private_files.close_to_others(settings.DATA_DIR)
        bound_daphne()
        where = ["-b", settings.HOST, "-p", str(settings.PORT)]
        if options["fd"] is not None:
            where = ["--fd", str(options["fd"])]
        quiet = ["-v", "0", "--no-server-name", "--application-close-timeout", "2"]
        CommandLineInterface().run([*where, *quiet, "heimdall.site.asgi:application"])
