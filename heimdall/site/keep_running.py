"""What `manage.py start` becomes when everything is prepared: it keeps the web server and the worker running.

It takes the command's place, as the same process, and with little more than the standard library: an interpreter that
only waits for two others need not hold Django. Both may be its children already: the command forks them, so that they
share what it has imported (docs/decisions/099).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NoReturn

from heimdall.processes import ForkedChild

FOLDER_IS_GONE = 4  # exit codes of a worker: it has lost the data folder
RUNS_ALREADY = 5  # this host has another one
READY_SECONDS = 60.0
ANSWER_SECONDS = 2.0
WEB_EXIT_SECONDS = 5.0
MOST_DEATHS = 5  # of web server and worker together in a minute: one more, and everything is given up


_ROOT = str(Path(__file__).parents[2])
_RUN = "import sys; sys.path.append(sys.argv[1]); from heimdall.site.keep_running import main; main()"


class GivenUp(Exception):
    """One sentence that says why nothing runs any more."""


@dataclass(frozen=True)
class StartPlan:
    program: str  # manage.py, or what stands for it
    listener: int  # the file descriptor of the web server's socket
    host: str  # where that can be reached from here
    port: int
    host_header: str
    address: str  # for people
    data_folder: str
    drain_seconds: float
    children: dict[str, int] = field(default_factory=dict)  # "web" and "worker" that run already: pids


def replace_this_process(plan: StartPlan) -> NoReturn:
    """Never returns: from here on `main` below runs, in the same process."""
    os.set_inheritable(plan.listener, True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-c", _RUN, _ROOT, json.dumps(asdict(plan))])


def main() -> None:
    with suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle("heimdall start")
    plan = StartPlan(**json.loads(sys.argv[2]))
    os.set_inheritable(plan.listener, False)
    try:
        Pair(plan).run()
    except GivenUp as error:
        sys.exit(f"heimdall: {error}")


class Pair:
    """The web server and the worker, each in a session of its own, so that Ctrl-C reaches this process alone."""

    def __init__(self, plan: StartPlan):
        self.plan = plan
        self.children: dict[str, subprocess.Popen[bytes] | ForkedChild] = {
            name: ForkedChild(pid) for name, pid in plan.children.items()
        }
        self.deaths: list[float] = []
        self.stops = 0

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._asked_to_stop)
        try:
            for name in ("worker", "web"):
                if name not in self.children:
                    self._start(name)
            self._wait_until_ready()
            while not self.stops:
                self._replace_dead()
                time.sleep(0.1)
        finally:
            self._stop()

    def _asked_to_stop(self, *_: object) -> None:
        self.stops += 1
        if self.stops > 1:
            self._tell("worker", signal.SIGTERM)

    def _start(self, name: str) -> None:
        command = [sys.executable, self.plan.program, name, "--parent", str(os.getpid())]
        passed: tuple[int, ...] = ()
        if name == "web":
            passed = (self.plan.listener,)
            command += ["--fd", str(self.plan.listener)]
        self.children[name] = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.DEVNULL, pass_fds=passed
        )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.stops:
            for name, child in self.children.items():
                if child.poll() is not None:
                    self._give_up_without_a_worker(name, child)
                    raise GivenUp(f"The {name} did not start (exit code {child.returncode}); see above.")
            if answers(self.plan):
                _say(
                    f"Heimdall is at {self.plan.address}  (Ctrl-C stops it; running jobs go on at the next start)"
                )
                return
            if time.monotonic() > deadline:
                raise GivenUp(f"The web server did not answer within {READY_SECONDS:g} s.")
            time.sleep(0.05)

    def _replace_dead(self) -> None:
        for name, child in list(self.children.items()):
            if child.poll() is None:
                continue
            self._give_up_without_a_worker(name, child)
            now = time.monotonic()
            self.deaths = [moment for moment in self.deaths if now - moment < 60] + [now]
            if len(self.deaths) > MOST_DEATHS:
                raise GivenUp(
                    f"The {name} died; that is more than {MOST_DEATHS} deaths in a minute. Giving up."
                )
            _say(f"The {name} ended ({child.returncode}); starting it again.")
            self._start(name)

    def _give_up_without_a_worker(self, name: str, child: subprocess.Popen[bytes] | ForkedChild) -> None:
        """A worker that would end in the same way again is not started again, and pages without one serve nobody."""
        if name == "worker" and child.returncode == FOLDER_IS_GONE:
            raise GivenUp("The worker has lost the data folder; see above.")
        if name == "worker" and child.returncode == RUNS_ALREADY:
            raise GivenUp(f"Another worker runs in {self.plan.data_folder} already; see above.")

    def _stop(self) -> None:
        _say("Stopping: running jobs are checkpointed and go back to the queue.")
        for name in self.children:
            self._tell(name, signal.SIGTERM)
        self._wait_for("worker", self.plan.drain_seconds + 10)
        self._wait_for("web", WEB_EXIT_SECONDS)
        _say("Stopped.")

    def _wait_for(self, name: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while name in self.children and self.children[name].poll() is None:
            if time.monotonic() > deadline:
                self._tell(name, signal.SIGKILL)
            time.sleep(0.02)

    def _tell(self, name: str, number: int) -> None:
        child = self.children.get(name)
        if child is not None and child.poll() is None:
            child.send_signal(number)


def answers(plan: StartPlan) -> bool:
    """Whether the web server answers a request, if with a redirect to https."""
    request = f"GET /healthz HTTP/1.1\r\nHost: {plan.host_header}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((plan.host, plan.port), ANSWER_SECONDS) as connection:
            connection.sendall(request.encode("ascii"))
            return connection.recv(16).startswith(b"HTTP/1.")
    except OSError:
        return False


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
