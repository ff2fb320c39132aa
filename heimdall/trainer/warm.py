"""Trainers that start warm, forked from a process with torch imported.

The server is forked from the host's zygote, where there is one, and shares its memory; else it is a new interpreter.
Whatever goes wrong with the server, a trainer is started cold instead.
"""

import contextlib
import socket
import threading
from collections.abc import Sequence

from heimdall.trainer import launch
from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.launch import ChildEnds, Launcher, Process
from heimdall.trainer.protocol import TrainerSpec
from heimdall.trainer.server_handle import ForkServer, can_fork

MOST_FAILURES = 3  # of servers in a row; from then on every start is cold

_MODULE = "heimdall.trainer.forkserver"


class WarmLauncher:
    """Starts trainers through a fork server, which it starts ahead of time with `warm_up`."""

    def __init__(
        self,
        *,
        preload: Sequence[str] = (),
        cold: Launcher | None = None,
        module: str = _MODULE,
        zygote: socket.socket | None = None,
    ):
        """`preload` names modules that recipes import, and that neither run torch nor start threads.

        `zygote` leads to the host's zygote.
        """
        self._cold = cold or ColdLauncher()
        self._zygote, self._avoids_zygote = zygote, False
        self._command = [module, *preload]
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._failures = 0

    def warm_up(self) -> None:
        """Start the server, so that the first trainer need not wait. Returns at once."""
        with self._lock:
            self._living_server()

    def is_getting_ready(self) -> bool:
        """Whether a launch would have to wait for the server now."""
        with self._lock:
            server = self._living_server()
            return server is not None and server.is_getting_ready()

    def launch(self, spec: TrainerSpec, ends: ChildEnds) -> Process:
        with self._lock:
            server = self._living_server()
            forked = server.fork(launch.environments(spec), ends) if server else None
            if forked is not None:
                self._failures = 0
                return forked
            self._drop()
        return self._cold.launch(spec, ends)

    def close(self) -> None:
        """End the server, and with it the trainers that it forked."""
        with self._lock:
            if self._server is not None:
                self._server.close()
                self._server = None

    def _living_server(self) -> ForkServer | None:
        if self._server is not None and not self._server.is_usable():
            self._drop()
        if self._server is None and self._failures < MOST_FAILURES and can_fork():
            try:
                self._server = self._start_server()
            except OSError:
                self._failures += 1
        return self._server

    def _start_server(self) -> ForkServer:
        if self._zygote is not None and not self._avoids_zygote:
            with contextlib.suppress(OSError):  # there is none now
                return ForkServer.of_zygote(self._zygote)
        return ForkServer.of_its_own(*self._command)

    def _drop(self) -> None:
        if self._server is not None:
            self._failures += 1
            self._avoids_zygote = not self._server.was_ready
            # Another process's server is not ours to end: this one was forked from it.
            if self._server.is_ours():
                self._server.close()
            self._server = None
