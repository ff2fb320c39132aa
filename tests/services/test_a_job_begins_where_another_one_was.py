"""Extend, fork, clone, going back: what the new job stands on is its own; what cannot be is refused by name."""

import pytest
import torch
from django.test import Client

from heimdall import codec
from heimdall.errors import InvalidInput
from heimdall.trainer.protocol import Started
from tests.pages.conftest import html, words
from tests.support.checkpoint_files import WEIGHT, stored
from training import services
from training.errors import BadCheckpoint, NoGoodCheckpoint, NotAllowed, NotFound, TransitionRefused
from training.models import Checkpoint, Metric, TrainingJob, checkpoint_storage
from training.store import checkpoints

pytestmark = pytest.mark.django_db
CONFIG = {"epochs": 3, "lr_scheduler": "constant"}


@pytest.fixture(autouse=True)
def _store(settings, tmp_path):
    settings.SCRATCH_DIR = tmp_path / "scratch"
    settings.STORAGES = settings.STORAGES | {
        "checkpoints": {
            "BACKEND": "training.store.file_system.AtomicFileSystemStorage",
            "OPTIONS": {"location": tmp_path / "store"},
        }
    }


@pytest.fixture
def parent(make_job, tmp_path) -> TrainingJob:
    job = make_job(status="completed", step=24, epoch=3, config=CONFIG, environment={"data_fingerprint": "f"})
    stored(job, tmp_path, step=8, epoch=1)
    stored(job, tmp_path, step=24, epoch=3)
    return job


def fields_of(refused) -> set[str]:
    return set(refused.value.fields)


def test_an_extended_training_goes_on_where_its_parent_ended(parent, bob):
    result = services.extend(parent, by=bob, epochs=2)
    job = result.job
    assert (job.parent, job.owner, job.config) == (parent, bob, parent.config | {"epochs": 5})
    assert (job.current_step, job.current_epoch, job.total_epochs) == (24, 3, 5)
    assert job.environment == {"data_fingerprint": "f"}  # other data would be noticed
    assert (job.origin["job"], job.origin["step"], job.origin["carries"]) == (parent.pk, 24, "training")
    assert result.resumes_from == {"epoch": 3, "step": 24}
    assert "rises again" not in result.message
    parent.config["lr_scheduler"] = "cosine"
    parent.save()
    assert "rises again" in services.extend(parent, by=bob, epochs=2).message


def test_only_a_training_that_came_to_its_end_is_extended(parent, make_job, alice, mallory):
    with pytest.raises(NotFound):
        services.extend(parent, by=mallory, epochs=1)
    for how_many in (None, 0, -1, True):
        with pytest.raises(InvalidInput) as refused:
            services.extend(parent, by=alice, epochs=how_many)
        assert fields_of(refused) == {"epochs"}
    with pytest.raises(InvalidInput, match="samples"):
        services.extend(parent, by=alice, samples=5)
    with pytest.raises(TransitionRefused, match="is paused; a fork begins from any checkpoint"):
        services.extend(make_job(status="paused"), by=alice, epochs=1)
    TrainingJob.objects.filter(pk=parent.pk).update(current_epoch=2)
    parent.refresh_from_db()
    with pytest.raises(TransitionRefused, match="stopped early"):
        services.extend(parent, by=alice, epochs=1)


def test_a_forks_state_is_its_own_whatever_becomes_of_its_parent(parent, alice):
    first = Checkpoint.objects.get(job=parent, step=8)
    job = services.fork(parent, by=alice, checkpoint=first.pk, config={"learning_rate": 0.5}).job
    assert (job.current_step, job.current_epoch, job.config["learning_rate"]) == (8, 1, 0.5)
    own = job.latest_checkpoint
    assert (own.digest, own.kinds, own.step) == (first.digest, ["start"], 8)
    assert own.file.name != first.file.name
    services.delete(parent, by=alice)
    assert torch.equal(codec.load(checkpoint_storage().path(own.file.name))[0]["model"]["weight"], WEIGHT)
    job.refresh_from_db()
    assert (job.parent, job.origin["digest"]) == (None, first.digest)


def test_a_file_from_before_its_header_was_hashed_is_forked_and_the_copy_is_named(parent, alice):
    Checkpoint.objects.filter(job=parent).update(header_sha256="")
    own = services.fork(parent, by=alice, config={"epochs": 9}).job.latest_checkpoint
    assert own.header_sha256 == codec.verify(checkpoint_storage().path(own.file.name)).header_sha256


def test_with_the_weights_alone_everything_may_change_and_step_0_is_next(parent, alice):
    config = {"batch_size": 16, "seed": 9, "optimizer": "sgd", "epochs": 1}
    job = services.fork(parent, by=alice, carry="weights", config=config).job
    assert (job.current_step, job.current_epoch, job.environment) == (0, 0, {})
    assert (job.latest_checkpoint.step, job.latest_checkpoint.val_loss) == (0, None)
    assert job.config == parent.config | config


def test_what_the_state_is_made_for_cannot_change_and_is_named(parent, alice):
    before = set(checkpoints.stored_names())
    changes = {"batch_size": 16, "seed": 9, "optimizer": "sgd", "epochs": 3, "ema_decay": 0.9}
    with pytest.raises(InvalidInput) as refused:
        services.fork(parent, by=alice, config=changes)
    assert fields_of(refused) == {"batch_size", "seed", "optimizer", "epochs", "ema_decay"}
    with pytest.raises(InvalidInput) as refused:
        services.fork(parent, by=alice, config={"epochs": 4, "learning_rate": -1.0})
    assert fields_of(refused) == {"learning_rate"}
    for wrong, field in (({"carry": "all"}, "carry"), ({"checkpoint": 10**6}, "checkpoint")):
        with pytest.raises(InvalidInput) as refused:
            services.fork(parent, by=alice, **wrong)
        assert fields_of(refused) == {field}
    assert set(checkpoints.stored_names()) == before  # nothing is left of what was refused
    assert TrainingJob.objects.count() == 1


def test_an_imported_model_has_weights_and_no_training(make_job, tmp_path, alice):
    job = make_job(status="completed", step=24, epoch=3)
    stored(job, tmp_path, step=24, epoch=3, parts=("model",))
    with pytest.raises(InvalidInput, match="Carry the weights alone"):
        services.fork(job, by=alice, config={"epochs": 9})
    assert services.fork(job, by=alice, carry="weights").job.origin["carries"] == "weights"


def test_a_damaged_file_is_found_before_there_is_a_job(parent, alice):
    checkpoints.leave_mark("of these tests")
    checkpoint_storage().delete(parent.latest_checkpoint.file.name)
    checkpoints.leave_mark("ours")  # without it the whole store would seem to be away
    with pytest.raises(BadCheckpoint, match="missing"):
        services.extend(parent, by=alice, epochs=1)
    assert TrainingJob.objects.count() == 1


def test_a_restarted_fork_begins_where_it_began_and_retention_keeps_that(parent, alice, node):
    job = services.fork(parent, by=alice, config={"epochs": 9}).job
    start = job.latest_checkpoint
    attempt = services.claim(node, slot=0, pid=1, job_id=job.pk)
    assert (attempt.started_from, attempt.started_step) == (start, 24)
    started = Started(step=24, epoch=4, total_steps=72, learning_rate=0.25)
    services.note_started(attempt, started)
    assert "0.001 asked, 0.25 effective" in job.events.get(kind="carried").message
    services.beat(
        attempt, services.Report(steps=[{"step": 25, "epoch": 4, "loss": 1.0, "learning_rate": 0.25}])
    )
    services.fail(attempt, code="recipe_error", message="x")
    job.refresh_from_db()
    services.restart(job, by=alice)
    job.refresh_from_db()
    assert (job.current_step, job.latest_checkpoint, job.generation) == (24, start, 1)
    assert services.retire_checkpoints(job) == 0
    assert not Metric.objects.filter(job=job).exists()
    Checkpoint.objects.filter(pk=start.pk).update(quarantined_at=job.created_at)
    services.cancel(job, by=alice)
    with pytest.raises(TransitionRefused, match="no beginning"):
        services.restart(job, by=alice)


def test_a_clone_has_the_settings_and_begins_from_nothing(parent, bob):
    job = services.clone(parent, by=bob, config={"seed": 4}, tags=["again"]).job
    assert (job.config, job.parent, job.origin) == (parent.config | {"seed": 4}, parent, None)
    assert (job.job_name, job.tags, job.current_step) == ("a job (copy)", ["again"], 0)


def test_going_back_to_an_older_checkpoint_gives_up_what_came_after(make_job, tmp_path, alice, bob, node):
    job = make_job(status="paused", step=24, epoch=3, with_checkpoint=True)
    old = stored(job, tmp_path, step=8, epoch=1)
    new = stored(job, tmp_path, step=24, epoch=3)
    for step in range(1, 25):
        Metric.objects.create(job=job, step=step, epoch=1 + (step - 1) // 8, attempt=1, values={"loss": 1.0})
    with pytest.raises(NotAllowed):  # a member of the team may resume, and not give up what was trained
        services.resume(job, by=bob, checkpoint=old.pk)
    result = services.resume(job, by=alice, checkpoint=old.pk)
    assert (result.resumes_from, result.message) == (
        {"epoch": 1, "step": 8},
        f"Job {job.pk} is queued and goes on from step 8.",
    )
    job.refresh_from_db()
    assert (job.status, job.current_step, job.latest_checkpoint, job.generation) == ("queued", 8, old, 1)
    assert job.events.last().message == "Resumed from step 8. Rolled back to step 8."
    assert Metric.objects.filter(job=job).count() == 8
    assert Checkpoint.objects.filter(pk=new.pk).exists()  # it stays for a while
    services.cancel(job, by=alice)
    for pk, says in ((new.pk, "was given up"), (10**6, "has no checkpoint")):
        with pytest.raises(InvalidInput, match=says):
            services.resume(job, by=alice, checkpoint=pk)
    services.resume(job, by=alice)
    attempt = services.claim(node, slot=0, pid=1)
    assert attempt.started_from == old
    with pytest.raises(NoGoodCheckpoint):  # the newer one is not ahead any more
        services.quarantine(attempt, old, "damaged")


def test_a_running_job_is_not_taken_back(make_job, tmp_path, alice):
    job = make_job(status="running", stop="pause", step=24, epoch=3)
    old = stored(job, tmp_path, step=8, epoch=1)
    stored(job, tmp_path, step=24, epoch=3)
    with pytest.raises(InvalidInput, match="pause it"):
        services.resume(job, by=alice, checkpoint=old.pk)


def test_the_pages_ask_first_and_name_what_is_refused(parent, make_job, tmp_path, alice):
    client = Client()
    client.force_login(alice)
    fork = f"/jobs/{parent.pk}/fork/"
    filled = {name: field.value() for name, field in fields(client.get(fork))}
    assert filled["config.epochs"] == 3
    wrong = client.post(fork, send(filled | {"config.seed": 5}))
    assert wrong.status_code == 400
    assert "the order of the data follows from it" in words(html(wrong))
    right = client.post(fork, send(filled | {"config.epochs": 6, "config.learning_rate": 0.5}))
    assert TrainingJob.objects.get(pk=int(right["Location"].split("/")[2])).config["learning_rate"] == 0.5
    assert client.post(f"/jobs/{parent.pk}/extend/", {"epochs": "2"}).status_code == 302
    assert "Only a completed training" in words(html(client.get(f"/jobs/{make_job().pk}/extend/")))

    paused = make_job(status="paused", step=24, epoch=3, with_checkpoint=True)
    old = stored(paused, tmp_path, step=8, epoch=1)
    stored(paused, tmp_path, step=24, epoch=3)
    address = f"/jobs/{paused.pk}/resume/"
    assert f"{address}?checkpoint={old.pk}" in html(client.get(f"/jobs/{paused.pk}/"))
    asked = words(html(client.get(f"{address}?checkpoint={old.pk}")))
    assert "The 16 steps after it are discarded" in asked
    assert client.post(address, {"checkpoint": old.pk})["X-Heimdall-Answer"] == "noted"
    paused.refresh_from_db()
    assert paused.current_step == 8


def fields(answer):
    form = answer.context["form"]
    return [(name, form[name]) for name in form.fields]


def send(filled: dict) -> dict:
    """As a browser sends it: nothing for an empty field or a box that is not ticked."""
    shown = {name: " ".join(value) if isinstance(value, list) else value for name, value in filled.items()}
    return {name: value for name, value in shown.items() if value is not None and value is not False}
