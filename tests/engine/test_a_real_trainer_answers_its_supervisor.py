"""The engine behind its pipes: `python -m heimdall.trainer.__main__`, as a supervisor starts it."""

import os
import signal
import time
from typing import Any

import psutil
import pytest

from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import Exit, FileStored, GoOn, StopTraining
from tests.engine.attempts import config_of, resumed_from, spec_of
from tests.support.running import PATIENCE

pytestmark = pytest.mark.processes
LONG = {"epochs": 100_000, "samples": 16, "checkpoint_every_epochs": 0, "keep_best": 0}


class Talk:
    """A conversation with a trainer; every wait has a deadline."""

    def __init__(self, spec) -> None:
        self.trainer = Trainer.start(spec)
        self.messages: list[Any] = []

    def until(self, kind: str) -> Any:
        deadline = time.monotonic() + 90 * PATIENCE
        while time.monotonic() < deadline:
            message = self.trainer.receive(1.0)
            if message is not None:
                self.messages.append(message)
                if message.kind == kind:
                    return message
            elif self.trainer.exit_status() is not None:
                break
        raise AssertionError(f"no {kind}; the log: {self.trainer.read_log()}")

    def exit_status(self) -> int:
        deadline = time.monotonic() + 30 * PATIENCE
        while time.monotonic() < deadline:
            self.trainer.receive(0.05)
            status = self.trainer.exit_status()
            if status is not None:
                return status
        raise AssertionError("it does not end")


@pytest.fixture
def talk():
    talks = []

    def start(spec) -> Talk:
        talks.append(Talk(spec))
        return talks[-1]

    yield start
    for each in talks:
        each.trainer.kill()
        each.trainer.close()


def test_stop_go_on_stop_and_exit_and_then_on_to_the_end(talk, tmp_path):
    one = talk(spec_of(tmp_path, config_of(**LONG)))
    one.until("steps")
    one.trainer.send(StopTraining("step"))
    first = one.until("staged")
    assert one.until("stopped").step == first.step
    one.trainer.send(FileStored(first.path))
    one.trainer.send(GoOn())
    assert one.until("steps").rows[0]["step"] == first.step + 1
    one.trainer.send(StopTraining("epoch"))
    second = one.until("staged")
    assert second.epoch * 2 == second.step > first.step
    one.until("stopped")
    one.trainer.send(Exit())
    assert one.exit_status() == 0

    # The end is near: the last epoch is the one after the pause.
    rest = config_of(**(LONG | {"epochs": second.epoch + 1, "lr_scheduler": "constant"}))
    two = talk(spec_of(tmp_path / "rest", rest, **resumed_from(second)))
    assert two.until("started").step == second.step
    assert two.until("finished").step == second.step + 2
    assert "final" in two.messages[-2].kinds
    two.trainer.send(Exit())
    assert two.exit_status() == 0


def test_a_recipe_that_raises_fails_with_its_traceback(talk, tmp_path):
    one = talk(spec_of(tmp_path, config_of(fail_at_step=2)))
    failed = one.until("failed")
    assert failed.code == "recipe_error"
    assert failed.error == "ZeroDivisionError: the recipe fails on purpose"
    assert "recipe.py" in failed.traceback
    assert one.exit_status() == 1
    assert "on purpose" in one.trainer.read_log()


def test_the_last_steps_before_an_exception_are_reported_before_it(talk, tmp_path):
    one = talk(spec_of(tmp_path, config_of(epochs=9, fail_at_step=6)))
    one.until("failed")
    steps = [row["step"] for message in one.messages if message.kind == "steps" for row in message.rows]
    assert steps == [1, 2, 3, 4, 5]


def test_a_recipe_that_is_not_there(talk, tmp_path):
    failed = talk(spec_of(tmp_path, {}, package="tests.engine.nowhere")).until("failed")
    assert failed.code == "unknown_recipe"


def _exit_without_a_worker(one) -> int:
    """The exit code of a trainer whose loader worker is killed while it trains."""
    one.until("steps")
    os.kill(workers_of(one)[0].pid, signal.SIGKILL)
    return one.exit_status()


def test_a_loader_worker_that_dies_is_a_crash_and_a_killed_trainer_leaves_none_behind(talk, tmp_path):
    spec = spec_of(tmp_path, config_of(**LONG, num_workers=2))
    killed = talk(spec)
    killed.until("steps")
    # Now and then the first that comes up is another error, of the pipe from the worker: then it is the recipe's.
    assert 71 in (_exit_without_a_worker(talk(spec)) for _ in range(3))

    workers = workers_of(killed)
    assert len(workers) == 2
    killed.trainer.kill()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def workers_of(talk: Talk) -> list[psutil.Process]:
    children = psutil.Process(talk.trainer.pid).children(recursive=True)
    return [
        child for child in children if child.name() == "pt_data_worker"
    ]  # a resume may be tried beside them
