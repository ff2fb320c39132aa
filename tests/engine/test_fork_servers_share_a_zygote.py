"""Fork servers share one process that has torch: each ends with its supervisor, and none with that process."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from heimdall.trainer.handle import Trainer
from heimdall.trainer.warm import WarmLauncher
from heimdall.trainer.zygote import MOST_SHORT_LIVES, Zygote
from tests.engine.standin_messages import Echo, Echoed, Ready
from tests.engine.test_a_trainer_process_is_started_read_and_ended import (
    NoLauncher,
    is_alive,
    spec_of,
    until,
    wait_for,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as closing:
        yield closing


@pytest.fixture
def zygote(closing: ExitStack) -> Zygote:
    zygote = Zygote("tests.engine.standin_zygote")
    closing.callback(zygote.close)
    zygote.start()
    return zygote


def launcher_with(zygote: Zygote, closing: ExitStack, module: str = "no.such_server") -> WarmLauncher:
    launcher = WarmLauncher(module=module, cold=NoLauncher(), zygote=zygote.asking)
    closing.callback(launcher.close)
    return launcher


def start(launcher: WarmLauncher, folder: Path, closing: ExitStack) -> Trainer:
    trainer = Trainer.start(spec_of(folder), launcher=launcher)
    closing.callback(trainer.close)
    wait_for(trainer, Ready)
    return trainer


def server_of(trainer: Trainer) -> psutil.Process:
    return psutil.Process(psutil.Process(trainer.pid).ppid())


def assert_answers(trainer: Trainer) -> None:
    trainer.send(Echo(7))
    wait_for(trainer, Echoed)


def open_sockets(process: psutil.Process) -> int:
    links = list(Path(f"/proc/{process.pid}/fd").iterdir())
    return sum(str(link.readlink()).startswith("socket:") for link in links)


def test_each_supervisor_has_a_server_of_its_own_forked_from_one_process(
    zygote: Zygote, closing: ExitStack, tmp_path: Path
) -> None:
    trainers = [start(launcher_with(zygote, closing), tmp_path, closing) for _ in range(2)]
    servers = [server_of(trainer) for trainer in trainers]
    assert servers[0] != servers[1]
    for server in servers:
        assert server.ppid() == zygote.pid
        assert os.getsid(server.pid) == server.pid
        assert server.cmdline()[0] == "heimdall fork server"
        assert server.num_threads() == 1
        assert open_sockets(server) == 1  # its supervisor's, and not the one on which others ask
    assert [open_sockets(psutil.Process(trainer.pid)) for trainer in trainers] == [0, 0]


def test_a_killed_zygote_ends_no_trainer_and_the_next_one_is_used(
    zygote: Zygote, closing: ExitStack, tmp_path: Path
) -> None:
    trainer, pid = start(launcher := launcher_with(zygote, closing), tmp_path, closing), zygote.pid
    os.kill(pid, signal.SIGKILL)
    until(zygote.replace_if_dead)
    assert_answers(trainer)
    assert_answers(start(launcher, tmp_path, closing))  # its server lives on too
    assert zygote.pid not in (pid, None)
    assert server_of(start(launcher_with(zygote, closing), tmp_path, closing)).ppid() == zygote.pid


def test_a_server_that_is_killed_takes_its_trainers_along_and_the_zygote_forks_another(
    zygote: Zygote, closing: ExitStack, tmp_path: Path
) -> None:
    launcher = launcher_with(zygote, closing)
    first, other = (
        start(launcher, tmp_path, closing),
        start(launcher_with(zygote, closing), tmp_path, closing),
    )
    server = server_of(first)
    server.kill()
    until(lambda: first.exit_status() == -signal.SIGKILL, seconds=2)
    until(lambda: not psutil.pid_exists(server.pid))  # nobody has to wait for it
    assert server_of(start(launcher, tmp_path, closing)).ppid() == zygote.pid
    assert_answers(other)


def test_closing_ends_server_and_trainers(zygote: Zygote, closing: ExitStack, tmp_path: Path) -> None:
    launcher = launcher_with(zygote, closing)
    trainer = start(launcher, tmp_path, closing)
    server = server_of(trainer)
    launcher.close()
    assert not is_alive(server.pid)
    until(lambda: not is_alive(trainer.pid), seconds=1)
    until(lambda: trainer.exit_status() is not None)


def test_what_was_asked_of_a_zygote_that_died_is_refused_and_a_server_of_its_own_started(
    closing: ExitStack, tmp_path: Path
) -> None:
    zygote = Zygote("tests.engine.no_such_zygote")
    closing.callback(zygote.close)
    zygote.start()
    launcher = launcher_with(zygote, closing, module="tests.engine.standin_forkserver")
    launcher.warm_up()  # asks one that will never answer
    until(zygote.replace_if_dead)
    assert server_of(start(launcher, tmp_path, closing)).ppid() == os.getpid()


def test_a_zygote_that_dies_again_and_again_is_given_up(closing: ExitStack, tmp_path: Path) -> None:
    zygote = Zygote("tests.engine.no_such_zygote")
    closing.callback(zygote.close)
    zygote.start()
    for _ in range(MOST_SHORT_LIVES):
        until(zygote.replace_if_dead)
    assert zygote.pid is None
    assert not zygote.replace_if_dead()
    launcher = launcher_with(zygote, closing, module="tests.engine.standin_forkserver")
    assert server_of(start(launcher, tmp_path, closing)).ppid() == os.getpid()


def test_a_packet_that_is_no_request_does_no_harm(zygote: Zygote, closing: ExitStack, tmp_path: Path) -> None:
    zygote.asking.send(b"nonsense")
    with socket.socket() as none:
        socket.send_fds(zygote.asking, [b'{"kind":"fork_server"}\n'], [none.fileno()])  # one is missing
    assert server_of(start(launcher_with(zygote, closing), tmp_path, closing)).ppid() == zygote.pid
