"""Run this host's worker: a django-q2 cluster in a session of its own, and its guard.

The guard outlives clusters. It starts a fresh one when the old one is dead or takes no messages, and leaves running
attempts alone when it does. On SIGTERM or SIGINT it tells the supervisors to land, then stops the cluster.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, Error, close_old_connections, connection
from setproctitle import setproctitle

from heimdall.errors import HeimdallError
from heimdall.processes import die_with_parent
from heimdall.recipes import registry
from heimdall.site import database
from training import host, queue, services
from training.checks import shortcomings
from training.errors import StorageRefused, StorageUnavailable
from training.management.base import database_is_away
from training.models import Node
from training.worker.courier import Courier

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.05
FOLDER_IS_GONE = 4  # the exit code
LONGEST_PAUSE_SECONDS = 60.0  # between two clusters that die at once
LONGEST_PATIENCE_SECONDS = 600.0  # with a cluster that has not answered yet
STORE_SECONDS = 2.0  # between two looks for a store that is away
START_SECONDS = 30.0  # that a cluster may take to execute its first message
ONE_STOP_SECONDS = 1.0  # signals that come closer together are one wish: a terminal signals a whole group


class Command(BaseCommand):
    help = "Run this host's worker. SIGTERM or Ctrl-C lands every job; again, and it leaves at once."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--cluster-of", type=int, help=argparse.SUPPRESS)
        parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        database.keep_connections("worker")
        if options["cluster_of"]:
            queue.run_cluster(options["cluster_of"])
            return
        if options["parent"]:
            die_with_parent(options["parent"], signal.SIGTERM)
        setproctitle("heimdall worker")
        lock = host.guard()
        if not lock.take():
            raise CommandError(f"A worker runs on this host already (process {lock.holder()}).")
        try:
            Guard(_join(), lock).run()
        except FolderIsGone as error:
            raise CommandError(str(error), returncode=FOLDER_IS_GONE) from error
        finally:
            lock.give_back()


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


class FolderIsGone(Exception):
    """What this worker holds its host's lock in was moved or deleted: a second worker could start beside it."""

    def __init__(self) -> None:
        super().__init__(
            f"The data folder {settings.DATA_DIR} was moved or deleted while the worker ran. Nothing can be stored "
            "there any more. Put it back, or say where it is with HEIMDALL_DATA_DIR, and start again."
        )


class Guard:
    """The loop of the worker's main process."""

    def __init__(self, node: Node, lock: host.HeldFile):
        self.node = node
        self.lock = lock
        self.cluster = Cluster()
        self.pulse = Pulse(node)
        self.courier = Courier()
        self.stops: list[float] = []
        self.start_at: float | None = None  # when a dead cluster is replaced
        self.supervisors = host.supervisors()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        self.cluster.start()
        self.pulse.start()
        self.courier.start()
        logger.info("Worker %s is ready with %d slots.", self.node.name, settings.SLOTS)
        while not self.stops:
            # 1. Without its folder a worker can do nothing but leave.
            if not self.lock.is_in_place():
                self._leave_at_once(set(self.supervisors.values()))
                self._end_cluster()
                raise FolderIsGone
            # 2. A cluster that died, or that takes no messages, is replaced.
            self._watch_cluster()
            # 3. A supervisor that vanished is looked after at once.
            self._watch_supervisors()
            time.sleep(TICK_SECONDS)
        self._drain()

    def _asked_to_stop(self, *_: object) -> None:
        now = time.monotonic()
        if not self.stops or now - self.stops[-1] > ONE_STOP_SECONDS:
            self.stops.append(now)

    def _watch_cluster(self) -> None:
        if not self.cluster.is_alive():
            if self.start_at is None:
                pause = self.pulse.pause_before_the_next_cluster()
                logger.warning(
                    "The cluster died; starting a fresh one%s.", f" in {pause:g} s" if pause else ""
                )
                self.start_at = time.monotonic() + pause
            if time.monotonic() >= self.start_at:
                self._replace_cluster()
        elif self.pulse.is_wedged():
            logger.warning("The cluster takes no messages; starting a fresh one.")
            self._replace_cluster()

    def _replace_cluster(self) -> None:
        self.start_at = None
        self.cluster.abandon()
        self.cluster.start()
        self.pulse.begin_again()

    def _watch_supervisors(self) -> None:
        now = host.supervisors()
        left = {pid for slot, pid in self.supervisors.items() if now.get(slot) != pid}
        lost = sorted(pid for pid in left if not host.is_running(pid))
        self.supervisors = now
        if lost:
            logger.warning("Supervisor %s is gone.", ", ".join(map(str, lost)))
            self.pulse.hurry()

    def _drain(self) -> None:
        """Everything ends: the supervisors first, each with its landing, then the cluster."""
        logger.info("Draining: running jobs are checkpointed and go back to the queue.")
        started, told = time.monotonic(), set[int]()
        self.pulse.drain()
        self.cluster.stop()
        while True:
            running = set(host.supervisors().values())
            for pid in running - told:  # one may take its slot only now
                _signal(pid, signal.SIGTERM)
            told |= running
            if len(self.stops) > 1 or time.monotonic() - started > settings.DRAIN_GRACE_SECONDS + 5:
                self._leave_at_once(running)
                break
            if not running and not self.cluster.is_alive():
                break
            if not running and time.monotonic() - started > 3:
                break  # nothing of value is left in the cluster
            time.sleep(TICK_SECONDS)
        self._end_cluster()
        logger.info("Drained in %.1f s.", time.monotonic() - started)

    def _end_cluster(self) -> None:
        self.cluster.abandon()
        self.cluster.kill_session()
        self.pulse.end()
        self.courier.end()

    def _leave_at_once(self, running: set[int]) -> None:
        logger.warning("Leaving at once; jobs go on from their last checkpoints.")
        for pid in running:
            _signal(pid, signal.SIGKILL)


class Cluster:
    """django-q2's process tree, in a session of its own so that no terminal reaches it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, sys.argv[0], "worker", "--cluster-of", str(os.getpid())]
        self._process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self._process and self.is_alive():
            self._process.terminate()

    def abandon(self) -> None:
        """Kill the head. Idle processes follow it at once; a supervisor at work finishes its attempt first."""
        if self._process and self.is_alive():
            self._process.kill()
        if self._process:
            self._process.wait()

    def kill_session(self) -> None:
        with suppress(ProcessLookupError):
            if self._process:
                os.killpg(self._process.pid, signal.SIGKILL)


class Pulse(threading.Thread):
    """Speaks to the database, so that the guard's loop never waits for it: beats, and sends the canary.

    The canary is the announcement of housekeeping. A cluster that does not execute it for CANARY_SECONDS, while the
    database answers, is wedged: django-q2 does not notice that a killed process kept the queue's lock.
    """

    def __init__(self, node: Node):
        super().__init__(name="pulse", daemon=True)
        self._node = node
        self._hurry, self._ended, self._draining = threading.Event(), threading.Event(), threading.Event()
        self._number, self._message = time.time_ns() // 1_000, 0
        self._unanswered_since: float | None = None
        self._announced_at = 0.0
        self._has_answered = False
        self._clock: tuple[datetime, float] | None = None  # the database's, and ours when it was read
        self._fruitless = 0  # clusters in a row that never answered
        self._wedged = threading.Event()

    def is_wedged(self) -> bool:
        return self._wedged.is_set()

    def pause_before_the_next_cluster(self) -> float:
        """0 after a cluster that worked; ever longer where one after the other dies before it has."""
        if self._has_answered or self._fruitless == 0:
            return 0.0
        return min(self._growth() / 2, LONGEST_PAUSE_SECONDS)

    def begin_again(self) -> None:
        self._fruitless = 0 if self._has_answered else self._fruitless + 1
        self._has_answered = False
        self._unanswered_since = None
        self._message = 0
        self._wedged.clear()
        self._hurry.set()

    def hurry(self) -> None:
        self._hurry.set()

    def drain(self) -> None:
        self._draining.set()
        self._hurry.set()

    def end(self) -> None:
        self._ended.set()
        self._hurry.set()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self._look()
            except Error as error:
                logger.warning("The database does not answer: %s", error)
                self._unanswered_since = None  # the cluster cannot work either
                close_old_connections()
            except (
                Exception
            ):  # without its pulse a worker would seem dead, and nothing would look after its cluster
                logger.exception("The worker's pulse failed; it is tried again.")
            hurried = self._hurry.wait(settings.SWEEP_SECONDS)
            self._hurry.clear()
            if hurried and not self._ended.is_set():
                self._message = 0

    def _look(self) -> None:
        asked = time.monotonic()
        clock = services.beat_node(self._node)
        now = time.monotonic()
        self._watch_clock(clock, asked, now)
        if self._draining.is_set():
            services.set_draining(self._node)
            return
        if self._unanswered_since is not None:
            self._unanswered_since += now - asked  # the cluster waited for the database too
        if host.canary_answer() == self._number:
            self._unanswered_since, self._has_answered = None, True
        elif self._unanswered_since is not None and now - self._unanswered_since > self._patience():
            queue.forget_housekeeping()
            self._wedged.set()
            return
        if self._unanswered_since is None:
            self._number += 1
            self._unanswered_since = now
            self._announce(now)
        elif not self._message or (now - self._announced_at > self._patience() / 3 and self._is_lost()):
            self._announce(now)

    def _watch_clock(self, clock: datetime, asked: float, now: float) -> None:
        """Leases are counted in the database's clock: say it where that jumps."""
        if now - asked > settings.LEASE_SECONDS / 4:
            self._clock = None  # nobody knows when that was so
            return
        if self._clock is not None:
            before, at = self._clock
            jumped = (clock - before).total_seconds() - (now - at)
            if abs(jumped) > settings.LEASE_SECONDS / 2:
                logger.warning(
                    "The clock of the database went %s by %.0f s, or this host slept. Jobs may be taken over "
                    "early or late; none is lost.",
                    "forward" if jumped > 0 else "back",
                    abs(jumped),
                )
        self._clock = clock, now

    def _announce(self, now: float) -> None:
        self._message, self._announced_at = queue.announce_housekeeping(self._number), now

    def _is_lost(self) -> bool:
        """Taken long ago and not answered, or wiped."""
        return not queue.is_waiting(self._message)

    def _patience(self) -> float:
        """How long an answer may take. A fresh cluster has to start first, on a busy machine slowly."""
        if self._has_answered:
            return settings.CANARY_SECONDS
        return min(max(settings.CANARY_SECONDS, START_SECONDS) * self._growth(), LONGEST_PATIENCE_SECONDS)

    def _growth(self) -> int:
        """Twice as much for each cluster that never answered, as far as it matters."""
        return 2 ** min(self._fruitless, 10)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
