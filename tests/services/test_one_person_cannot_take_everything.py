"""Each bound on what one person may ask for and keep: refused with a sentence, and nothing was written."""

import pytest
from django.contrib.auth.models import Permission

from heimdall.errors import InvalidInput
from tests.services.test_a_job_lives_by_the_rules import stored
from training import services
from training.errors import LimitReached
from training.models import Checkpoint, TrainingJob

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]


def submit(by, **more):
    return services.submit(by=by, job_name="x", recipe="tiny", **{"config": {}} | more).job


@pytest.fixture
def attempt(node, alice):
    submit(alice)
    return services.claim(node, slot=0, pid=1)


def keep(attempt, step, size, *, pinned=False, kinds=("periodic",)):
    row = services.record_checkpoint(attempt, stored(attempt, step, 0, kinds))
    Checkpoint.objects.filter(pk=row.pk).update(size=size, pinned=pinned)
    return row


def test_a_priority_above_the_ceiling_needs_a_permission(alice, settings):
    settings.MAX_PRIORITY = 10
    job = submit(alice, priority=10)
    for refused in (lambda: submit(alice, priority=11), lambda: services.edit(job, by=alice, priority=11)):
        with pytest.raises(InvalidInput, match="10 is the highest priority that you may give"):
            refused()
    assert TrainingJob.objects.get().priority == 10
    alice.user_permissions.add(Permission.objects.get(codename="urgent_priority"))
    alice = type(alice).objects.get(pk=alice.pk)
    assert services.edit(job, by=alice, priority=100).priority == 100


def test_who_may_not_give_a_high_priority_may_lower_it(alice, make_job):
    job = make_job(priority=50)
    assert services.edit(job, by=alice, priority=40).priority == 40


def test_a_person_has_so_many_jobs_queued_or_running(alice, bob, make_job, settings):
    settings.MAX_UNFINISHED_JOBS = 2
    make_job(status="running"), make_job(status="completed")
    last = submit(alice)
    paused, failed = make_job(status="paused", step=4, with_checkpoint=True), make_job(status="failed")
    for refused in (
        lambda: submit(alice),
        lambda: services.clone(last, by=alice),
        lambda: services.resume(paused, by=alice),
        lambda: services.resume(paused, by=bob),  # of the owner's team: the owner's bound counts
        lambda: services.restart(failed, by=alice),
    ):
        with pytest.raises(LimitReached, match="alice has 2 jobs queued or running"):
            refused()
    submit(bob)
    services.cancel(last, by=alice)
    assert services.resume(paused, by=alice).job.status == "queued"


def test_administrators_queue_as_many_as_they_like(admin_user, settings):
    settings.MAX_UNFINISHED_JOBS = 1
    assert {submit(admin_user).status, submit(admin_user, priority=100).status} == {"queued"}


def test_checkpoints_by_the_minute_are_not_closer_than_the_least(alice, settings):
    settings.MIN_CHECKPOINT_SECONDS = 30
    with pytest.raises(
        InvalidInput, match=r"0\.5 is the least \(HEIMDALL_MIN_CHECKPOINT_SECONDS\)"
    ) as refused:
        submit(alice, config={"checkpoint_every_minutes": 0.0001})
    assert set(refused.value.fields) == {"checkpoint_every_minutes"}
    assert submit(alice, config={"checkpoint_every_minutes": 0.5})
    assert submit(alice, config={"checkpoint_every_minutes": 0})


def test_a_job_keeps_no_more_than_its_bytes_and_always_its_newest_checkpoint(attempt, settings):
    settings.MAX_CHECKPOINT_GB_PER_JOB = 5e-9 * 10
    job = attempt.job
    TrainingJob.objects.filter(pk=job.pk).update(config=job.config | {"keep_last": 1_000, "keep_best": 0})
    for step in range(1, 10):
        keep(attempt, step, 20)
    services.retire_checkpoints(job)
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [8, 9]
    keep(attempt, 10, 500)
    services.retire_checkpoints(job)
    assert list(Checkpoint.objects.values_list("step", flat=True)) == [10]


def test_what_a_job_or_a_person_has_too_much_of_is_not_stored(attempt, alice, settings):
    keep(attempt, 1, 40, pinned=True), keep(attempt, 2, 40)
    assert services.why_not_stored(attempt, 30) == ""
    settings.MAX_CHECKPOINT_GB_PER_JOB = 60e-9
    assert "the pinned checkpoints of this job hold" in services.why_not_stored(attempt, 30)
    assert services.why_not_stored(attempt, 19) == ""
    settings.MAX_CHECKPOINT_GB_PER_PERSON = 90e-9
    assert "one person may keep" in services.why_not_stored(attempt, 19)
    assert services.why_not_stored(attempt, 9) == ""
    with pytest.raises(LimitReached, match="Nothing was copied"):
        services.fork(attempt.job, by=alice, checkpoint=Checkpoint.objects.latest("id").pk)


def test_below_the_floor_of_free_disk_nothing_is_stored_on_the_way(attempt, settings):
    assert services.why_not_stored(attempt, 9) == ""
    settings.MIN_FREE_DISK_GB = 1e9
    assert "(HEIMDALL_MIN_FREE_DISK_GB) only pauses and ends are stored" in services.why_not_stored(
        attempt, 10
    )
