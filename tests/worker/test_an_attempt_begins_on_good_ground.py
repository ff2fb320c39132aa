"""What a supervisor does before there is a trainer: it finds a checkpoint that is good, a recipe that is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from django.db import OperationalError

from heimdall import codec
from tests.support.programs import submitted
from tests.support.running import PATIENCE
from tests.support.staged import staged_as
from training import host, services
from training.errors import StorageUnavailable
from training.models import Attempt, Checkpoint, Dataset, Event, Node, TrainingJob, checkpoint_storage
from training.runner import attempt, start
from training.runner.context import AttemptContext
from training.store import checkpoints, datasets
from training.store.file_system import AtomicFileSystemStorage

pytestmark = pytest.mark.django_db(transaction=True)
torch.set_num_threads(1)

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda content: None,
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "within the header": lambda content: content[:200],
    "within the tensors": lambda content: content[:-20],
    "one byte short": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "a flipped bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
}


@pytest.fixture(autouse=True)
def begun(settings, tmp_path, monkeypatch) -> list[dict]:
    """Folders of this test's own; and what trainers would have begun with, which then are at their end at once."""
    settings.STAGING_DIR, settings.SCRATCH_DIR = tmp_path / "staging", tmp_path / "scratch"
    store = {
        "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
        "OPTIONS": {"location": tmp_path / "store"},
    }
    settings.STORAGES = settings.STORAGES | {"checkpoints": store}
    checkpoints.leave_mark("of these tests")
    specs: list[dict] = []

    class Training:
        def __init__(self, context, spec):
            self.attempt = context.attempt
            content = codec.load(spec.checkpoint)[0] if spec.checkpoint else {}
            specs.append({"from": content.get("step"), "expected": spec.expected.get("step")})

        def follow(self) -> None:
            services.complete(self.attempt, None)

    monkeypatch.setattr(attempt, "TrainerSupervision", Training)
    return specs


@pytest.fixture
def claimed(alice, node, tmp_path) -> Attempt:
    """The second attempt of a job that crashed with checkpoints at the steps 2 and 4."""
    services.submit(by=alice, job_name="a job", recipe="tiny", config={})
    first = services.claim(node, slot=0, pid=1)
    for step in (2, 4):
        path = tmp_path / f"staged-{step}"
        saved = codec.save(path, {"model": torch.full((9,), float(step)), "step": step}, {})
        staged = staged_as(saved, step=step, epoch=0, kinds=("periodic",))
        stored = checkpoints.store(staged, job_id=first.job_id, attempt=1)
        services.record_checkpoint(first, stored)
    services.crash(first, exit_code=-9)
    return services.claim(node, slot=0, pid=1)


def damage(row: Checkpoint, how: str) -> None:
    path = Path(checkpoint_storage().path(row.file.name))
    content = DAMAGES[how](path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def supervised(claimed: Attempt) -> TrainingJob:
    attempt.Supervision(AttemptContext(claimed, slot=0)).run()
    return TrainingJob.objects.get(pk=claimed.job_id)


def test_it_begins_with_the_newest_checkpoint(claimed, begun):
    assert supervised(claimed).status == "completed"
    assert begun == [{"from": 4, "expected": 4}]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_one_is_set_aside_for_the_one_before(claimed, begun, how):
    damage(claimed.started_from, how)
    assert supervised(claimed).status == "completed"
    assert begun == [{"from": 2, "expected": 2}]
    assert list(Checkpoint.objects.filter(quarantined_at=None).values_list("step", flat=True)) == [2]
    (event,) = Event.objects.filter(kind="quarantine")
    assert event.message.startswith("The checkpoint at step 4 was set aside: ")


def test_where_all_are_damaged_the_job_fails_and_does_not_begin_again_by_itself(claimed, begun):
    for row in Checkpoint.objects.all():
        damage(row, "a flipped bit")
    job = supervised(claimed)
    assert (job.status, job.error_code, begun) == ("failed", "no_good_checkpoint", [])


def test_where_the_store_cannot_be_reached_the_job_waits_and_no_checkpoint_is_blamed(
    claimed, begun, monkeypatch
):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route to the store")

    monkeypatch.setattr(AtomicFileSystemStorage, "open", refuse)
    job = supervised(claimed)
    assert (job.status, job.current_step, begun) == ("queued", 4, [])
    assert job.not_before is not None
    assert not Checkpoint.objects.exclude(quarantined_at=None).exists()
    assert "no route to the store" in Event.objects.get(kind="land").message


def test_where_the_disk_of_the_store_is_not_mounted_no_checkpoint_is_blamed(claimed, begun, tmp_path):
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").mkdir()
    job = supervised(claimed)
    assert (job.status, job.error_code, begun) == ("queued", "", [])
    assert not Checkpoint.objects.exclude(quarantined_at=None).exists()
    assert "Is its disk mounted?" in Event.objects.get(kind="land").message


def test_a_host_whose_disk_is_full_gives_the_job_back_and_fails_none(claimed, begun, settings, tmp_path):
    (tmp_path / "a file").touch()
    settings.STAGING_DIR = tmp_path / "a file" / "staging"  # no folder can be made there
    job = supervised(claimed)
    assert (job.status, job.error_code, begun) == ("queued", "", [])
    assert job.not_before is not None  # a host that cannot work does not go through the queue in a frenzy
    said = Event.objects.get(kind="land").message
    assert f"{claimed.node_name} cannot run it now: " in said
    assert "Not a directory" in said


def test_a_recipe_that_is_gone_fails_the_job_once_and_is_named(claimed, begun):
    TrainingJob.objects.update(recipe="gone")
    claimed.job.refresh_from_db()
    job = supervised(claimed)
    assert (job.status, job.error_code, job.attempt, begun) == ("failed", "unknown_recipe", 2, [])
    assert "There is no recipe 'gone'" in job.error_message


@pytest.fixture
def slow_store(monkeypatch) -> Iterator[None]:
    """A checkpoint that is still on its way when the test ends."""
    end = threading.Event()

    def fetch(*_: object) -> Path:
        assert end.wait(30 * PATIENCE), "it was waited for"
        raise StorageUnavailable("the test is over")

    monkeypatch.setattr(checkpoints, "fetch", fetch)
    yield
    end.set()


EARLY = {
    "the worker stops": (lambda job, alice: setattr(host.stop_signals, "drain", True), "queued"),
    "the node is drained": (lambda job, alice: services.drain(Node.objects.get(), by=alice), "queued"),
    "a cancel": (lambda job, alice: services.cancel(job, by=alice), "cancelled"),
    "a pause at the next step": (lambda job, alice: services.pause(job, by=alice, at="step"), "paused"),
}


@pytest.mark.parametrize("stop", EARLY)
def test_a_stop_waits_for_no_checkpoint_that_is_still_on_its_way(
    stop, claimed, begun, slow_store, alice, monkeypatch
):
    """Nothing was executed: there is nothing to store, and the checkpoint that it was to start from stays."""
    monkeypatch.setattr(host.stop_signals, "drain", False)  # and again after the test
    act, status = EARLY[stop]
    alice.is_staff = alice.is_superuser = True
    act(claimed.job, alice)
    job = supervised(claimed)
    assert (job.status, job.latest_checkpoint.step, begun) == (status, 4, [])
    assert job.not_before is None


def test_a_database_that_goes_away_while_data_are_brought_is_waited_for(claimed, begun, alice, monkeypatch):
    claimed.job.dataset = Dataset.objects.create(name="seen", recipe="rf_dataset", owner=alice)
    tries: list[int] = []

    def bring(*_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("the server closed the connection unexpectedly")

    monkeypatch.setattr(datasets, "bring", bring)
    assert supervised(claimed).status == "completed"
    assert (len(tries), len(begun)) == (2, 1)


def test_a_trainer_is_not_told_the_digest_by_which_its_code_may_be_run(admin_user, node_of_two, tmp_path):
    """What it is told stands in its checkpoints, whose files go to other people."""
    told = []
    for slot in range(2):
        code = submitted(admin_user).code.digest
        attempt = services.claim(node_of_two, slot=slot, pid=1)
        places = {"folder": tmp_path, "checkpoint": None, "staging": tmp_path, "scratch": tmp_path}
        told.append(start.spec(attempt, package="", python="", **places).program)
    assert code not in str(told)
    assert told[0]["code"] == told[1]["code"] != ""
