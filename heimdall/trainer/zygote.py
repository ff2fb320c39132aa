"""The zygote: the one process of a host that imports torch. The fork servers of its supervisors are forked from it.

Each page that none of them has written to exists once for all of them, however many slots there are. (Android and
Chrome call the process that their others are forked from by this name.)

The worker's guard starts it and starts it anew when it dies; all supervisors of the host inherit one end of a socket
on which they ask. It runs no torch operation and no CUDA call and stays single-threaded. It is the parent of the fork
servers, but they do not end with it: a fork server ends with its supervisor, and running trainers outlive the zygote.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from heimdall.processes import die_with_parent
from heimdall.trainer import channel as trainer_channel
from heimdall.trainer import forkserver, launch
from heimdall.trainer.forkserver import NEEDED, Run, be_trainer
from heimdall.trainer.protocol import PACKET_BYTES, ForkForkServer, decode

TITLE = "heimdall zygote"
SHORT_LIFE_SECONDS = 60.0
MOST_SHORT_LIVES = 3  # in a row; from then on there is none

_MODULE = "heimdall.trainer.zygote"


class Zygote:
    """The guard's side. What supervisors ask while there is none is refused: they start servers of their own."""

    def __init__(self, module: str = _MODULE):
        self._module = module
        self._requests, self.asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.asking.setblocking(False)  # a supervisor waits for no room in it
        self._popen: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._short_lives = 0

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    def start(self) -> None:
        self._started_at = time.monotonic()
        command = [sys.executable, "-P", "-m", self._module, str(self._requests.fileno()), str(os.getpid())]
        try:
            self._popen = launch.start_process(
                command,
                stdout=subprocess.DEVNULL,
                pass_fds=(self._requests.fileno(),),
                env=forkserver.server_environment(os.environ),
            )
        except OSError:  # the host has no room for it: supervisors may have more luck later
            self._give_up()

    def replace_if_dead(self) -> bool:
        """Returns whether it had died."""
        if self._popen is None or self._popen.poll() is None:
            return False
        self._popen = None
        self._refuse_what_is_asked()
        is_short = time.monotonic() - self._started_at < SHORT_LIFE_SECONDS
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives < MOST_SHORT_LIVES:
            self.start()
        else:
            self._give_up()
        return True

    def leave_to_parent(self) -> int:
        """In a fork of the guard: from here on one can only ask. Returns the end for that."""
        self._requests.close()
        return self.asking.detach()

    def close(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None
        self._requests.close()
        self.asking.close()

    def _give_up(self) -> None:
        self._requests.close()  # from now on asking fails

    def _refuse_what_is_asked(self) -> None:
        """Whoever asked sees the end of its socket."""
        while select.select([self._requests], [], [], 0)[0]:
            _close(socket.recv_fds(self._requests, PACKET_BYTES, 2)[1])


def main(run: Run = trainer_channel.drive, *, needed: Sequence[str] = NEEDED) -> NoReturn:
    requests, guard = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    requests.set_inheritable(False)
    die_with_parent(guard)
    forkserver.get_ready(needed, title=TITLE)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a fork server ended
    while True:
        packet, fds, _, _ = socket.recv_fds(requests, PACKET_BYTES, 2)
        if not packet:
            os._exit(0)
        try:
            _fork_server(requests, packet, fds, run)
        except (OSError, RuntimeError, ValueError):
            traceback.print_exc()  # the supervisor sees the end of its socket
        finally:
            _close(fds)


def _fork_server(requests: socket.socket, packet: bytes, fds: list[int], run: Run) -> None:
    decode(packet, ForkForkServer)
    connection, supervisor = fds
    forkserver.require_one_thread()
    if os.fork() == 0:
        try:
            requests.close()
            os.setsid()
            trainer_channel.set_title(forkserver.TITLE)
            forkserver.serve(
                socket.socket(fileno=connection), partial(be_trainer, run), supervisor=supervisor
            )
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)  # never back into the zygote's loop


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


if __name__ == "__main__":
    main()
