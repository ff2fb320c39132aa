"""Supervisor and trainer: a start in a session of its own, messages both ways, the log, and an end in every case."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import psutil
import pytest

from heimdall.trainer import exit_codes, protocol
from heimdall.trainer.cold import ColdLauncher
from heimdall.trainer.handle import Trainer
from heimdall.trainer.launch import IMPORTABLE, Launcher, Process, base_environment
from heimdall.trainer.log import LogBuffer
from heimdall.trainer.protocol import Exit, FromTrainer, StepsDone, TrainerSpec
from heimdall.trainer.warm import WarmLauncher
from heimdall.trainer.zygote import Zygote
from tests.engine.standin_messages import (
    ChildFiles,
    ChildForked,
    ChildTerminated,
    CloseAllFiles,
    Echo,
    Echoed,
    ForkChild,
    Left,
    ListChildFiles,
    MakeRows,
    Print,
    Printed,
    RaiseSignal,
    Ready,
    RowsMade,
    StartDaemon,
    TerminateChild,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


class NoLauncher:
    """Where a warm start is looked at, a cold one in its place would be no proof."""

    def launch(self, *_: object) -> NoReturn:
        raise AssertionError("the fork server was of no use")


def cold() -> ColdLauncher:
    return ColdLauncher("tests.engine.standin_trainer")


def warm() -> WarmLauncher:
    return WarmLauncher(module="tests.engine.standin_forkserver", cold=NoLauncher())


@contextmanager
def launcher_of(start_method: str) -> Iterator[Launcher]:
    if start_method == "cold":
        yield cold()
        return
    with ExitStack() as closing:
        launcher = warm()
        if start_method == "zygote":
            zygote = Zygote("tests.engine.standin_zygote")
            closing.callback(zygote.close)
            zygote.start()
            launcher = WarmLauncher(module="no.such_server", cold=NoLauncher(), zygote=zygote.asking)
        closing.callback(launcher.close)
        yield launcher


@pytest.fixture(params=["cold", "warm", "zygote"])
def launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    with launcher_of(request.param) as launcher:
        yield launcher


def spec_of(folder: Path, **changes: object) -> TrainerSpec:
    return TrainerSpec(package="none", config={"x": 1}, staging=str(folder), scratch=str(folder), **changes)  # type: ignore[arg-type]


@pytest.fixture
def start(tmp_path: Path, launcher: Launcher) -> Iterator[Callable[..., Trainer]]:
    started = []

    def start(most_messages: int = 2_000, **changes: object) -> Trainer:
        trainer = Trainer.start(spec_of(tmp_path, **changes), launcher=launcher, most_messages=most_messages)
        started.append(trainer)
        return trainer

    yield start
    for trainer in started:
        trainer.close()


M = TypeVar("M", bound=FromTrainer)


def wait_for(trainer: Trainer, kind: type[M], seconds: float = 20) -> M:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = trainer.receive(0.5)
        if isinstance(message, kind):
            return message
    raise AssertionError(f"no {kind.__name__}; log: {trainer.read_log()}")


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_starts_in_its_own_session_with_its_own_environment(
    start: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDALL_SECRET_KEY", "secret")
    monkeypatch.setenv("HEIMDALL_RECIPES", "some.package")
    monkeypatch.setenv("HEIMDALL_TEXT_FOLDERS", "/some/folder")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:secret@host/db")
    trainer = start(gpus=[1], threads=1, name_title="heimdall trainer job 12")
    started = wait_for(trainer, Ready).facts
    assert started["pid"] == trainer.pid == started["session"] != os.getsid(0)
    assert started["config"] == {"x": 1}
    assert started["environment"] == {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    assert started["heimdall"] == ["HEIMDALL_RECIPES", "HEIMDALL_TEXT_FOLDERS"]
    assert started["modules"] == []
    assert psutil.Process(trainer.pid).cmdline()[0] == "heimdall trainer job 12"


def test_messages_go_both_ways_in_order_and_the_exit_comes_last(start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    for value in range(200):
        trainer.send(Echo(value))
    trainer.send(Exit())
    until(lambda: not is_alive(trainer.pid))
    assert trainer.exit_status() is None  # there are messages left
    values = [wait_for(trainer, Echoed).value for _ in range(200)]
    assert values == list(range(200))
    assert wait_for(trainer, Left).heard == ["echo"] * 200 + ["exit"]
    until(lambda: trainer.exit_status() == 3)
    assert trainer.receive(0) is None


def read_rows(trainer: Trainer) -> int:
    rows = 0
    while isinstance(message := trainer.receive(10), StepsDone):
        rows += len(message.rows)
    assert isinstance(message, RowsMade)
    return rows


def test_a_supervisor_that_does_not_read_for_a_while_holds_up_no_step(start: Callable[..., Trainer]) -> None:
    trainer = start(most_messages=10)
    wait_for(trainer, Ready)
    # Twice what the pipe and the queue take in.
    trainer.send(MakeRows(100_000))
    log: list[str] = []
    until(lambda: log.append(trainer.read_log()) or "every step is made" in "".join(log), seconds=30)
    assert read_rows(trainer) == 100_000


def test_one_that_does_not_read_for_long_fills_no_memory(start: Callable[..., Trainer]) -> None:
    trainer = start(most_messages=10)
    wait_for(trainer, Ready)
    trainer.send(MakeRows(300_000))
    until(lambda: trainer._inbox.full() and rests(trainer.pid), seconds=30)
    assert trainer.read_log() == ""  # it waits with its steps
    assert read_rows(trainer) == 300_000


def rests(pid: int) -> bool:
    before = psutil.Process(pid).cpu_times().user
    time.sleep(0.3)
    return psutil.Process(pid).cpu_times().user == before


def test_messages_that_a_dead_trainer_left_in_the_pipe_come_before_its_end(
    start: Callable[..., Trainer],
) -> None:
    trainer = start(most_messages=10)
    wait_for(trainer, Ready)
    trainer.send(MakeRows(20_000))
    trainer.send(Exit())
    until(lambda: not is_alive(trainer.pid))
    time.sleep(1.2)  # longer than its end is waited for where nothing comes any more
    received = []
    while trainer.exit_status() is None:
        if message := trainer.receive(0):
            received.append(message)
    assert isinstance(received[-1], Left)


def test_the_log_is_what_was_printed(start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    trainer.send(Print("gr\u00fc\u00df dich\n"))
    wait_for(trainer, Printed)
    text = ""
    deadline = time.monotonic() + 5
    while text.count("\n") < 2 and time.monotonic() < deadline:
        text += trainer.read_log()
        time.sleep(0.01)
    assert text == "gr\u00fc\u00df dich\n" * 2


def test_what_was_printed_before_a_message_is_in_the_log_with_it(start: Callable[..., Trainer]) -> None:
    """Else the last words of one that fails would miss its attempt."""
    trainer = start()
    text = "x" * 9_999 + "\n"
    for _ in range(20):
        trainer.send(Print(text))
        wait_for(trainer, Printed)
        assert trainer.read_log() == text * 2


def test_a_long_log_keeps_its_beginning_and_its_end() -> None:
    log = LogBuffer(most=1000)
    log.add(b"begin ")
    for number_ in range(1000):
        log.add(f"line {number_}\n".encode())
    text = log.take()
    assert text.startswith("begin line 0\n")
    assert text.endswith("line 999\n")
    assert "characters of the log were left out" in text
    assert len(text) < 1300
    log.add("\u00fc".encode()[:1])
    assert log.take() == ""
    log.add("\u00fc".encode()[1:])
    assert log.take() == "\u00fc"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_death_by_signal_is_told(name: str, start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    trainer.send(RaiseSignal(name))
    until(lambda: trainer.exit_status() is not None)
    assert trainer.exit_status() == -getattr(signal, name)
    trainer.send(Exit())  # to nobody, without harm
    assert trainer.receive(0.2) is None


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_to_everybody_does_not_end_it(name: str, start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    trainer.send(RaiseSignal(name))
    trainer.send(Echo(1))
    wait_for(trainer, Echoed)


def test_closing_ends_it_at_once(start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    begin = time.monotonic()
    trainer.close()
    assert time.monotonic() - begin < 1
    assert not is_alive(trainer.pid)


def test_one_that_is_stopped_is_killed_with_all_of_its_session(start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    trainer.send(ForkChild(keep=True))
    worker = wait_for(trainer, ChildForked).pid
    os.kill(trainer.pid, signal.SIGSTOP)
    trainer.kill()
    until(lambda: trainer.exit_status() == -signal.SIGKILL)
    until(lambda: not is_alive(worker))


def test_its_pipe_ends_belong_to_nobody_else(start: Callable[..., Trainer]) -> None:
    first, second = start(), start()
    fds = [set(wait_for(trainer, Ready).facts["fds"]) for trainer in (first, second)]
    assert len(fds[0]) == len(fds[1]) == 3  # control, messages, and the log twice
    assert not fds[0] & fds[1]
    first.send(ListChildFiles())
    assert wait_for(first, ChildFiles).fds == []
    # A forked worker that hangs on does not hide the trainer's end: it holds no end of the message pipe.
    first.send(ForkChild(keep=True))
    worker = wait_for(first, ChildForked).pid
    os.kill(first.pid, signal.SIGKILL)
    begin = time.monotonic()
    until(lambda: first.exit_status() is not None)
    assert time.monotonic() - begin < 0.9
    until(lambda: not is_alive(worker))


def test_a_loader_worker_goes_with_its_trainer(start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    trainer.send(ForkChild(keep=False))
    worker = wait_for(trainer, ChildForked).pid
    os.kill(trainer.pid, signal.SIGKILL)
    until(lambda: not is_alive(worker), seconds=1)


ENDS = {
    "exits": lambda trainer: trainer.send(Exit()),
    "dies": lambda trainer: trainer.send(RaiseSignal("SIGSEGV")),
    "is killed": lambda trainer: trainer.kill(),
    "is let go": lambda trainer: trainer.close(),
}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_that_it_forked_outlives_it(end: str, start: Callable[..., Trainer]) -> None:
    trainer = start()
    trainer.send(ForkChild(keep=True))
    child = wait_for(trainer, ChildForked).pid
    assert is_alive(child)
    ENDS[end](trainer)
    until(lambda: trainer._process.poll() is not None)
    until(lambda: not is_alive(child), seconds=2)


@pytest.mark.parametrize("end", ENDS)
def test_no_daemon_that_it_started_outlives_it(end: str, start: Callable[..., Trainer]) -> None:
    """In a session of its own, and with no parent left that is the trainer's."""
    trainer = start()
    trainer.send(StartDaemon())
    daemon = wait_for(trainer, ChildForked).pid
    assert is_alive(daemon)
    ENDS[end](trainer)
    until(lambda: trainer._process.poll() is not None)
    until(lambda: not is_alive(daemon), seconds=2)


def test_one_trainers_daemon_lives_as_long_as_it_may_be_anothers(tmp_path: Path) -> None:
    launcher = warm()
    first, second = (Trainer.start(spec_of(tmp_path), launcher=launcher) for _ in range(2))
    second.send(StartDaemon())
    daemon = wait_for(second, ChildForked).pid
    first.close()
    until(lambda: first._process.poll() is not None)
    assert is_alive(daemon)
    second.close()
    until(lambda: not is_alive(daemon), seconds=2)
    launcher.close()


def test_what_it_starts_can_be_terminated(start: Callable[..., Trainer]) -> None:
    """A program inherits which signals are ignored, and would ignore them too."""
    trainer = start()
    trainer.send(TerminateChild())
    assert wait_for(trainer, ChildTerminated).code == -signal.SIGTERM


_SUPERVISOR = """
import sys, time
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import TrainerSpec
from tests.engine.standin_messages import ChildForked, StartDaemon
from tests.engine.test_a_trainer_process_is_started_read_and_ended import launcher_of
spec = TrainerSpec(package="none", config={}, staging=".")
trainer = Trainer.start(spec, launcher=(started := launcher_of(sys.argv[1])).__enter__())
while trainer.receive(1) is None:
    pass
trainer.send(StartDaemon())
while not isinstance(message := trainer.receive(1), ChildForked):
    pass
print(trainer.pid, message.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("start_method", ["cold", "warm", "zygote"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_it_dies_within_a_second_of_its_supervisor(stopped: bool, start_method: str) -> None:
    command = [sys.executable, "-c", _SUPERVISOR, start_method]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    pid, daemon = (int(number) for number in supervisor.stdout.readline().split())
    if stopped:
        os.kill(pid, signal.SIGSTOP)  # now only the kernel can end it
    supervisor.kill()
    begin = time.monotonic()
    supervisor.communicate()
    until(lambda: not is_alive(pid), seconds=1)
    assert time.monotonic() - begin < 1
    until(lambda: not is_alive(daemon), seconds=1)


def test_the_end_of_the_control_pipe_is_enough(tmp_path: Path, launcher: Launcher) -> None:
    """As on a system without the kernel's help: the parent lives on, the pipe ends."""
    trainer = Trainer.start(spec_of(tmp_path), launcher=launcher)
    wait_for(trainer, Ready)
    trainer._outbox.put(None)
    until(lambda: trainer.exit_status() == 70, seconds=1)
    trainer.close()


def test_one_that_closed_all_its_files_ends(start: Callable[..., Trainer]) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    trainer.send(CloseAllFiles(above=-1))
    until(lambda: trainer.exit_status() == exit_codes.CANNOT_SPEAK)


def test_one_whose_pipes_were_closed_says_so_and_writes_into_no_other_file(
    start: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = start()
    wait_for(trainer, Ready)
    precious = tmp_path / "precious"
    precious.write_text("kept")
    trainer.send(CloseAllFiles(above=2, in_their_place=str(precious)))
    until(lambda: trainer.exit_status() is not None)
    assert trainer.exit_status() == exit_codes.CANNOT_SPEAK
    assert "has closed the pipe to its supervisor" in trainer.read_log()
    assert precious.read_text() == "kept"


def test_a_cold_start_leaves_no_process_behind(tmp_path: Path) -> None:
    before = psutil.Process().children()
    trainer = Trainer.start(spec_of(tmp_path), launcher=cold())
    wait_for(trainer, Ready)
    trainer.send(Exit())
    wait_for(trainer, Left)
    until(lambda: trainer.exit_status() is not None)
    assert psutil.Process().children() == before
    trainer.close()


def test_a_trainer_that_cannot_start_says_why(tmp_path: Path) -> None:
    trainer = Trainer.start(spec_of(tmp_path), launcher=ColdLauncher("tests.engine.no_such_module"))
    until(lambda: trainer.exit_status() == 1)
    assert "no_such_module" in trainer.read_log()
    trainer.close()


def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, opened = os.pipe, []

    def scarce_pipe() -> tuple[int, int]:
        if len(opened) == 4:
            raise OSError(24, "Too many open files")
        ends = pipe()
        opened.extend(ends)
        return ends

    monkeypatch.setattr(os, "pipe", scarce_pipe)
    with pytest.raises(OSError, match="Too many"):
        Trainer.start(spec_of(tmp_path), launcher=ColdLauncher())
    for end in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)


def test_a_trainer_that_no_thread_can_listen_to_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Process] = []

    class Noted(ColdLauncher):
        def launch(self, *asked: Any) -> Process:
            started.append(super().launch(*asked))
            return started[0]

    start, threads = threading.Thread.start, []

    def scarce(thread: threading.Thread) -> None:
        threads.append(thread)
        if thread.name == "trainer-messages":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(OSError, match="no further thread"):
        Trainer.start(spec_of(tmp_path), launcher=Noted("tests.engine.standin_trainer"))
    assert started[0].wait(5)


def test_what_json_has_no_word_for_travels_all_the_same() -> None:
    rows = [{"a": math.nan, "b": [math.inf, -math.inf], "c": 1.5, "path": Path("/tmp")}]
    line = protocol.encode(StepsDone(rows))
    assert b'"rows":[{"a":"nan","b":["inf","-inf"],"c":1.5,"path":"/tmp"}]' in line


def test_the_spec_comes_through_as_it_was(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, gpus=[3], about={"job": 1}, expected={"step": 2}, checkpoint="/a/b")
    assert protocol.decode(protocol.encode(spec), TrainerSpec) == spec


def test_the_python_path_leads_to_heimdall() -> None:
    passed = base_environment({"PYTHONPATH": "/somewhere"})
    assert passed["PYTHONPATH"] == f"{IMPORTABLE}{os.pathsep}/somewhere"
    assert [path.name for path in Path(IMPORTABLE).glob("[!_]*")] == ["heimdall.py"]


def test_threads_that_wait_leave_their_cores_to_others_unless_one_wants_it_otherwise() -> None:
    assert base_environment({})["OMP_WAIT_POLICY"] == "PASSIVE"
    assert base_environment({"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"
