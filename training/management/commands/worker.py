"""Run this host's worker: a django-q2 cluster in a session of its own, and its guard."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from setproctitle import setproctitle

from heimdall.errors import HeimdallError
from heimdall.processes import die_with_parent
from heimdall.recipes import registry
from heimdall.site import database, private_files
from heimdall.site.keep_running import FOLDER_IS_GONE, RUNS_ALREADY
from training import host, services
from training.checks import shortcomings
from training.errors import StorageRefused, StorageUnavailable
from training.management.base import database_is_away
from training.models import Node
from training.worker.cluster import run_cluster
from training.worker.guard import DataFolderIsGone, WorkerGuard

logger = logging.getLogger(__name__)
STORE_SECONDS = 2.0  # between two looks for a store that is away


class Command(BaseCommand):
    help = "Run this host's worker. SIGTERM or Ctrl-C lands every job; again, and it leaves at once."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--cluster-of", type=int, help=argparse.SUPPRESS)
        parser.add_argument("--fork-servers-on", type=int, help=argparse.SUPPRESS)
        parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        database.keep_connections("worker")
        if options["cluster_of"]:
            run_cluster(options["cluster_of"], zygote=options["fork_servers_on"])
            return
        if options["parent"]:
            die_with_parent(options["parent"], signal.SIGTERM)
        setproctitle("heimdall worker")
        private_files.close_to_others(settings.DATA_DIR)
        lock = host.worker_lock()
        if not lock.acquire():
            raise CommandError(
                f"A worker runs on this host already (process {lock.holder()}).", returncode=RUNS_ALREADY
            )
        try:
            WorkerGuard(_join(), lock).run()
        except DataFolderIsGone as error:
            raise CommandError(str(error), returncode=FOLDER_IS_GONE) from error
        finally:
            lock.release()


def _join() -> Node:
    for problem in registry.problems():
        raise CommandError(problem)
    try:
        _wait_for_the_store()
        node = services.register_node()
        for found in shortcomings():
            logger.warning("%s %s", found.msg, found.hint)
        connection.close()  # this thread asks no more
        return node
    except HeimdallError as error:
        raise CommandError(str(error)) from error
    except DatabaseError as error:
        raise CommandError(database_is_away(error)) from error


def _wait_for_the_store() -> None:
    """A store that is away comes back, perhaps it only starts later than we; one that refuses needs a person."""
    while True:
        try:
            return services.join_installation()
        except StorageRefused:
            raise
        except StorageUnavailable as error:
            logger.warning("Waiting for the store: %s", error)
            time.sleep(STORE_SECONDS)
