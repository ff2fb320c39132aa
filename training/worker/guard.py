"""The worker's main process: it starts a cluster, replaces one that died or takes no messages, and drains the host.

The guard outlives clusters, and leaves running attempts alone when it replaces one. On SIGTERM or SIGINT it tells the
supervisors to land, then stops the cluster.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress

from django.conf import settings

from heimdall.trainer.server_handle import can_fork
from heimdall.trainer.zygote import Zygote
from training import host
from training.models import Node
from training.worker.cluster import ClusterProcess
from training.worker.courier import Courier
from training.worker.heartbeat import HeartbeatThread

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.05
ONE_STOP_SECONDS = 1.0  # signals that come closer together are one request: a terminal signals a whole group


class DataFolderIsGone(Exception):
    """What this worker holds its host's lock in was moved or deleted: a second worker could start beside it."""

    def __init__(self) -> None:
        super().__init__(
            f"The data folder {settings.DATA_DIR} was moved or deleted while the worker ran. Nothing can be stored "
            "there any more. Put it back, or say where it is with HEIMDALL_DATA_DIR, and start again."
        )


class WorkerGuard:
    """The loop of the worker's main process."""

    def __init__(self, node: Node, lock: host.FileLock):
        self.node = node
        self.lock = lock
        self.zygote = Zygote() if settings.START_METHOD == "warm" and can_fork() else None
        self.cluster = ClusterProcess(lock, self.zygote)
        self.heartbeat = HeartbeatThread(node)
        self.courier = Courier()
        self.stops: list[float] = []
        self.start_at: float | None = None  # when a dead cluster is replaced
        self.supervisors = host.supervisors()

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        self.cluster.start()  # first: it is forked only as long as this process has no threads
        if self.zygote is not None:
            self.zygote.start()
        self.heartbeat.start()
        self.courier.start()
        logger.info("Worker %s is ready; slots: %d.", self.node.name, settings.SLOTS)
        while not self.stops:
            # 1. Without its folder a worker can do nothing but leave.
            if not self.lock.is_in_place():
                self._leave_at_once(set(self.supervisors.values()))
                self._end_cluster()
                raise DataFolderIsGone
            # 2. A cluster that died, or that takes no messages, is replaced.
            self._watch_cluster()
            # 3. A supervisor that vanished is looked after at once.
            self._watch_supervisors()
            # 4. What fork servers are forked from is replaced; running jobs do not need it.
            if self.zygote is not None and self.zygote.replace_if_dead():
                logger.warning("The zygote died; jobs go on, and trainers start without it meanwhile.")
            time.sleep(TICK_SECONDS)
        self._drain()

    def _asked_to_stop(self, *_: object) -> None:
        now = time.monotonic()
        if not self.stops or now - self.stops[-1] > ONE_STOP_SECONDS:
            self.stops.append(now)

    def _watch_cluster(self) -> None:
        if not self.cluster.is_alive():
            if self.start_at is None:
                pause = self.heartbeat.watchdog.pause_before_the_next_cluster()
                logger.warning(
                    "The cluster died; starting a fresh one%s.", f" in {pause:g} s" if pause else ""
                )
                self.start_at = time.monotonic() + pause
            if time.monotonic() >= self.start_at:
                self._replace_cluster()
        elif self.heartbeat.watchdog.cluster_is_stuck():
            logger.warning("The cluster takes no messages; starting a fresh one.")
            self._replace_cluster()

    def _replace_cluster(self) -> None:
        self.start_at = None
        self.cluster.abandon()
        self.cluster.start()
        self.heartbeat.watchdog.cluster_was_started()
        self.heartbeat.beat_now()

    def _watch_supervisors(self) -> None:
        now = host.supervisors()
        left = {pid for slot, pid in self.supervisors.items() if now.get(slot) != pid}
        lost = sorted(pid for pid in left if not host.is_running(pid))
        self.supervisors = now
        if lost:
            logger.warning("Supervisor %s is gone.", ", ".join(map(str, lost)))
            self.heartbeat.beat_now()

    def _drain(self) -> None:
        """Everything ends: the supervisors first, each with its landing, then the cluster."""
        logger.info("Draining: running jobs are checkpointed and go back to the queue.")
        started, signalled = time.monotonic(), set[int]()
        self.heartbeat.drain()
        self.cluster.stop()
        while True:
            running = set(host.supervisors().values())
            for pid in running - signalled:  # one may take its slot only now
                _signal(pid, signal.SIGTERM)
            signalled |= running
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
        if self.zygote is not None:
            self.zygote.close()
        self.heartbeat.end()
        self.courier.end()

    def _leave_at_once(self, running: set[int]) -> None:
        logger.warning("Leaving at once; jobs go on from their last checkpoints.")
        for pid in running:
            _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
