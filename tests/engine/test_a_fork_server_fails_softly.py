"""Whatever happens to the fork server, no trainer hangs, none is lost unseen, and the next one starts."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from heimdall.trainer import cold_server
from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.exit_codes import MISUNDERSTOOD
from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import IMPORTABLE, Launcher
from heimdall.trainer.protocol import Exit
from heimdall.trainer.warm import MOST_FAILURES, WarmLauncher
from tests.engine.standin_messages import ChildForked, Echo, Echoed, ForkChild, Left, RaiseSignal, Ready
from tests.engine.test_a_trainer_process_is_started_read_and_ended import (
    cold,
    is_alive,
    spec_of,
    until,
    wait_for,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")
STANDIN = "tests.engine.standin_forkserver"


@pytest.fixture
def launcher() -> Iterator[WarmLauncher]:
    launcher = WarmLauncher(module=STANDIN, cold=cold())
    yield launcher
    launcher.close()


def start(launcher: Launcher, folder: Path) -> Trainer:
    trainer = Trainer.start(spec_of(folder), launcher=launcher)
    wait_for(trainer, Ready)
    return trainer


def parent_of(trainer: Trainer) -> int:
    return psutil.Process(trainer.pid).ppid()


def is_cold(trainer: Trainer) -> bool:
    return psutil.Process(parent_of(trainer)).cmdline()[0] == cold_server.TITLE


def test_trainers_side_by_side_end_each_with_its_own_code(launcher: WarmLauncher, tmp_path: Path) -> None:
    trainers = [start(launcher, tmp_path) for _ in range(3)]
    assert len({parent_of(trainer) for trainer in trainers} - {os.getpid()}) == 1
    trainers[0].send(Exit())
    trainers[1].send(RaiseSignal("SIGSEGV"))
    wait_for(trainers[0], Left)
    until(lambda: trainers[0].exit_status() == 3)
    until(lambda: trainers[1].exit_status() == -signal.SIGSEGV)
    assert trainers[2].exit_status() is None
    for trainer in trainers:
        trainer.close()


def test_a_server_that_is_killed_takes_its_trainers_along_and_another_comes(
    launcher: WarmLauncher, tmp_path: Path
) -> None:
    first = start(launcher, tmp_path)
    server = parent_of(first)
    os.kill(server, signal.SIGKILL)
    until(lambda: first.exit_status() == -signal.SIGKILL, seconds=2)
    second = start(launcher, tmp_path)
    assert parent_of(second) not in (server, os.getpid())
    first.close()
    second.close()


def test_a_server_that_cannot_start_leaves_cold_starts(tmp_path: Path) -> None:
    launcher = WarmLauncher(module="tests.engine.no_such_server", cold=cold())
    for _ in range(MOST_FAILURES + 1):
        trainer = start(launcher, tmp_path)
        assert is_cold(trainer)
        trainer.close()
    assert launcher._server is None
    launcher.close()


def test_a_cold_start_without_its_server_is_the_supervisors_own_child(tmp_path: Path) -> None:
    launcher = ColdLauncher("tests.engine.standin_trainer", server="tests.engine.no_such_server")
    trainer = start(launcher, tmp_path)
    assert parent_of(trainer) == os.getpid()
    trainer.send(ForkChild(keep=True))
    child = wait_for(trainer, ChildForked).pid
    trainer.send(RaiseSignal("SIGSEGV"))
    until(lambda: trainer.exit_status() == -signal.SIGSEGV)
    until(lambda: not is_alive(child), seconds=2)
    trainer.close()


def test_another_interpreter_is_started_cold_and_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\npwd\nexec {sys.executable} "$@"\n')
    other.chmod(0o700)
    wrong = replace(spec_of(tmp_path), version=0)  # it ends at once, and says why
    trainer = Trainer.start(wrong, launcher=ColdLauncher(python=str(other)))
    until(lambda: trainer.receive(0) is None and trainer.exit_status() == MISUNDERSTOOD, seconds=30)
    assert trainer.read_log().startswith(IMPORTABLE)
    trainer.close()
    with pytest.raises(FileNotFoundError, match="no_python"):
        Trainer.start(spec_of(tmp_path), launcher=ColdLauncher(python="/no_python"))


def test_a_server_with_a_second_thread_forks_nobody(tmp_path: Path) -> None:
    launcher = WarmLauncher(module=STANDIN, preload=["tests.engine.starts_a_thread"], cold=cold())
    trainer = start(launcher, tmp_path)
    assert is_cold(trainer)
    trainer.close()
    launcher.close()


def test_the_server_of_a_thread_that_has_ended_lives_on(launcher: WarmLauncher, tmp_path: Path) -> None:
    trainers: list[Trainer] = []
    thread = threading.Thread(target=lambda: trainers.append(start(launcher, tmp_path)))
    thread.start()
    thread.join()
    trainers[0].send(Echo(1))
    wait_for(trainers[0], Echoed)
    trainers[0].close()


def test_closing_ends_server_and_trainers(launcher: WarmLauncher, tmp_path: Path) -> None:
    trainer = start(launcher, tmp_path)
    server = parent_of(trainer)
    launcher.close()
    until(lambda: not is_alive(trainer.pid), seconds=1)
    assert not is_alive(server)
    until(lambda: trainer.exit_status() is not None)
    trainer.close()


def test_the_code_of_an_earlier_trainer_is_not_that_of_one_with_its_number(
    launcher: WarmLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(launcher, tmp_path)
    server = launcher._server
    assert server is not None
    with server._changed:  # as if the kernel had come round to the next number
        server._codes |= dict.fromkeys(range(first.pid + 1, first.pid + 2_000), 42)
    second = start(launcher, tmp_path)
    assert second.pid not in server._codes
    first.close()
    second.close()
