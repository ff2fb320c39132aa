"""A job of several devices takes all its slots at once or none, holds none while it waits, and is not starved."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from training import placement, queries, services
from training.models import Attempt, CodeArchive, HeldSlot, Node, TrainingJob
from training.scheduling import elastic, preemption

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]

CPU, GPU = {"device": "cpu", "name": "a processor"}, {"device": "cuda:0", "name": "a GPU"}


@pytest.fixture
def make_gang(make_job):
    def make(devices: int, *, most: int | None = None, **wanted) -> TrainingJob:
        fields = {"fewest_devices": devices, "most_devices": most or devices, "is_gang": devices > 1}
        return make_job(**fields | wanted)

    return make


def node_of(
    slots: int, *, name: str = "node", devices: list | None = None, pools: tuple[str, ...] = ()
) -> Node:
    node = Node.objects.create(
        name=name, slots=slots, last_seen_at=Now(), devices=devices or [], pools=list(pools)
    )
    node.refresh_from_db()
    return node


def claim(node: Node, slot: int = 0) -> Attempt | None:
    return services.claim(node, slot=slot, pid=1)


def waiting(job: TrainingJob) -> tuple[str, str]:
    job.refresh_from_db()
    found = queries.job_dict(job)["waiting"]
    return found["code"], found["message"]


def slots_of(attempt: Attempt) -> list[int]:
    held = HeldSlot.objects.filter(attempt=attempt).values_list("slot", flat=True)
    assert list(held) == (attempt.slots if attempt.ranks > 1 else [])
    return attempt.slots


def test_a_gang_takes_its_own_slot_and_the_first_free_ones(make_gang, make_job):
    node, gang = node_of(4, devices=[GPU] * 4), make_gang(3)
    attempt = claim(node, slot=2)
    assert (attempt.job_id, slots_of(attempt), attempt.ranks) == (gang.pk, [0, 1, 2], 3)
    assert attempt.rank_devices[2] == {
        "rank": 2, "node": "node", "slot": 2, "device": "cuda:0", "device_name": "a GPU", "pid": None,
    }  # fmt: skip
    assert placement.busy_slots()[node.pk] == {0, 1, 2}
    gang.refresh_from_db()
    assert gang.ranks == 3
    single = make_job()
    assert [claim(node, slot) for slot in (0, 1, 2)] == [None] * 3  # a slot that is held claims nothing
    assert claim(node, slot=3).job_id == single.pk


@pytest.mark.parametrize("end", ["land", "complete", "fail", "crash", "reap"])
def test_every_end_of_the_attempt_gives_its_slots_back(make_gang, end):
    node, gang = node_of(2), make_gang(2)
    attempt = claim(node)
    ends = {
        "land": lambda: services.land(attempt, final=True),
        "complete": lambda: services.complete(attempt, None),
        "fail": lambda: services.fail(attempt, code="x", message="x"),
        "crash": lambda: services.crash(attempt, exit_code=-9),
        "reap": lambda: services.reap(attempt, even_if_leased=True),
    }
    ends[end]()
    assert not HeldSlot.objects.exists()
    assert not placement.busy_slots()[node.pk]
    gang.refresh_from_db()
    if gang.status == "queued":
        assert claim(node).job_id == gang.pk


def test_a_gang_that_does_not_fit_holds_nothing_and_says_how_many_slots_are_free(make_gang, make_job):
    node = node_of(4)
    runs = make_job()
    assert claim(node, slot=1).job_id == runs.pk
    gang = make_gang(4)
    assert claim(node) is None
    assert not HeldSlot.objects.exists()
    assert waiting(gang) == (
        "needs_slots", "It needs 4 free slots of one host; 3 are free. It is next.",
    )  # fmt: skip
    services.complete(Attempt.objects.get(job=runs), None)
    assert waiting(gang)[0] == "next"
    assert slots_of(claim(node, slot=3)) == [0, 1, 2, 3]


def test_a_gang_larger_than_every_host_is_told_so_and_keeps_nothing_from_others(make_gang, make_job):
    node, gang, single = node_of(2), make_gang(3), make_job()
    node_of(8, name="other", pools=("big",))
    TrainingJob.objects.filter(pk=gang.pk).update(pool="big")
    Node.objects.filter(name="other").update(slots=2)
    assert waiting(gang) == (
        "too_few_slots",
        "It needs 3 slots of one host, and the largest live node of the pool big has 2.",
    )
    assert claim(node).job_id == single.pk


def test_nobody_nibbles_at_the_slots_of_the_first_gang_who_could_not_make_room_again(make_gang, make_job):
    """A command without checkpoints would lose all its work where it made room: it waits behind the gang."""
    node, first = node_of(3), make_job(priority=1)
    claim(node, slot=0)
    gang, command = make_gang(3), make_job()
    turn_into_a_command(command, folder="")
    assert claim(node, slot=1) is None
    assert waiting(command) == (
        "kept",
        f"Free slots are kept for job {gang.pk}, which needs 3 of one host. 1 job goes first.",
    )
    TrainingJob.objects.filter(pk=command.pk).update(priority=1)
    command.refresh_from_db()
    assert claim(node, slot=1).job_id == command.pk  # what is more urgent goes before the gang
    for job in (first, command):
        services.complete(Attempt.objects.get(job=job), None)
    assert claim(node, slot=2).job_id == gang.pk


def test_jobs_that_lose_nothing_fill_the_gap_until_the_gang_can_start(make_gang, make_job):
    node, runs = node_of(4), make_job(priority=1)
    first = claim(node, slot=0)
    gang, fill_1, fill_2 = make_gang(4), make_job(), make_job()
    assert waiting(fill_1)[0] == "next"
    fillers = [claim(node, slot=1), claim(node, slot=2)]
    assert [(one.job_id, one.fills) for one in fillers] == [(fill_1.pk, True), (fill_2.pk, True)]
    assert not first.fills
    assert waiting(gang)[0] == "needs_slots"
    assert preemption.make_room_for_gangs() == []  # it could not start yet
    services.complete(Attempt.objects.get(job=runs), None)

    late = make_job()
    assert claim(node, slot=0) is None  # the fillers are to make room: nobody takes what they leave
    assert waiting(late)[0] == "kept"
    assert {job.pk for job in preemption.make_room_for_gangs()} == {fill_1.pk, fill_2.pk}
    assert preemption.make_room_for_gangs() == []  # once
    message = fill_1.events.get(kind="preempt").message
    assert message == f"Makes room for job {gang.pk}, which waited for 4 slots before."
    services.land(fillers[0])
    assert claim(node, slot=1) is None
    services.land(fillers[1])
    assert slots_of(claim(node, slot=1)) == [0, 1, 2, 3]
    services.complete(Attempt.objects.get(job=gang), None)
    again = [claim(node, slot) for slot in (0, 1, 2)]
    assert [one.job_id for one in again] == [fill_1.pk, fill_2.pk, late.pk]  # their place was kept
    assert not any(one.fills for one in again)


def test_no_two_gangs_wait_for_each_other(make_gang):
    """Of three that overlap each starts as soon as its slots are free, in the order of the queue."""
    node = node_of(4)
    gangs = [make_gang(3), make_gang(2), make_gang(4)]
    order = []
    for _ in range(10):
        attempts = [claim(node, slot) for slot in placement.free_slots(node, placement.busy_slots())]
        order += [one.job_id for one in attempts if one]
        preemption.make_room_for_gangs()
        for one in Attempt.objects.filter(ended_at=None):
            job = TrainingJob.objects.get(pk=one.job_id)
            services.land(one) if job.stop else services.complete(one, None)
    assert set(TrainingJob.objects.values_list("status", flat=True)) == {"completed"}
    assert order == [job.pk for job in gangs]


def test_an_urgent_gang_stops_as_many_as_it_takes_on_one_host_at_once(make_gang, make_job):
    full, half = node_of(2, name="a"), node_of(3, name="b")
    low = [make_job() for _ in range(4)]
    held = [claim(full, 0), claim(full, 1), claim(half, 0), claim(half, 1)]
    gang = make_gang(3, priority=5)
    assert {job.pk for job in preemption.make_room_for_gangs()} == {low[2].pk, low[3].pk}
    for one in held[2:]:
        services.land(one)
    assert claim(half, 2).job_id == gang.pk


@pytest.mark.parametrize(
    ("devices", "most", "free", "ranks"),
    [(4, 4, 3, 0), (4, 4, 9, 4), (1, 4, 3, 2), (1, 4, 1, 1), (1, 8, 8, 8), (3, 3, 3, 3), (1, 1, 5, 1)],
)
def test_an_elastic_job_takes_the_largest_power_of_two_that_is_free(make_gang, devices, most, free, ranks):
    job = make_gang(devices, most=most)
    assert placement.num_ranks(job, free) == ranks
    attempt = claim(node_of(free))
    assert (len(slots_of(attempt)) if attempt else 0) == ranks


def test_the_ranks_of_a_job_compute_on_devices_of_one_kind(make_gang):
    node = node_of(4, devices=[GPU, GPU, CPU, CPU])
    on_gpu = make_gang(2, config={"device": "cuda"})
    assert claim(node, slot=2) is None
    assert slots_of(claim(node, slot=1)) == [0, 1]
    either, too_large = make_gang(2), make_gang(3)
    assert slots_of(claim(node, slot=3)) == [2, 3]
    assert waiting(too_large)[0] == "too_few_slots"
    assert {on_gpu.pk, either.pk} == set(HeldSlot.objects.values_list("attempt__job", flat=True))


def test_two_claims_of_one_slot_cannot_both_stand(make_gang):
    node = node_of(2)
    make_gang(2), make_gang(2)
    claim(node)
    other = claim(node_of(2, name="other"))
    with pytest.raises(IntegrityError), transaction.atomic():
        HeldSlot.objects.filter(attempt=other).update(node=node)


def test_whoever_does_not_hold_the_slots_is_told_which_to_lock(make_gang):
    node, gang = node_of(3), make_gang(3)
    with pytest.raises(services.SlotsNeeded) as needed:
        services.claim(node, slot=1, pid=1, held=[0])
    assert needed.value.slots == [0, 1, 2]
    gang.refresh_from_db()
    assert (gang.status, HeldSlot.objects.count()) == ("queued", 0)
    assert services.claim(node, slot=1, pid=1, held=[0, 2]).job_id == gang.pk


@pytest.mark.parametrize("taken", [(), (0,), (1, 2)], ids=str)
def test_a_claim_and_the_reasons_agree_where_gangs_wait(make_gang, make_job, taken):
    """In every order of two gangs, a job that can make room and one that cannot."""
    node = node_of(3)
    for slot in taken:
        job = make_job(status="running", priority=9)
        Attempt.objects.filter(job=job).update(node=node, slot=slot)
    jobs = [make_gang(3), make_gang(2), make_job(), make_job()]
    turn_into_a_command(jobs[3], folder="")
    for order in itertools.permutations(range(4)):
        for job, priority in zip(jobs, order, strict=True):
            TrainingJob.objects.filter(pk=job.pk).update(priority=priority)
        said = {job.pk for job in jobs if waiting(job)[0] == "next"}
        assert said >= first_claimed(node), (order, said)
        assert bool(said) == bool(first_claimed(node)) == services.has_work_for(node)


def first_claimed(node: Node) -> set[int]:
    """What a free slot of the node would take, without taking it."""
    for slot in placement.free_slots(node, placement.busy_slots()):
        with transaction.atomic():
            attempt = claim(node, slot)
            transaction.set_rollback(True)
        return {attempt.job_id} if attempt else set()
    return set()


def turn_into_a_command(job: TrainingJob, *, folder: str) -> None:
    code = CodeArchive.objects.create(
        digest="0" * 64, size=1, names=[], file="x", file_size=1, owner=job.owner
    )
    program = {"kind": "command", "checkpoint_folder": folder, "environment": ""}
    TrainingJob.objects.filter(pk=job.pk).update(recipe="", code=code, program=program)
    job.refresh_from_db()


def test_an_elastic_job_leaves_a_slot_to_each_job_that_waits_and_grows_when_none_does(
    make_gang, make_job, settings
):
    settings.ELASTIC_SECONDS = 30
    node, job = node_of(4), make_gang(1, most=4)
    single = make_job()
    assert slots_of(claim(node)) == [0, 1]
    assert claim(node, slot=2).job_id == single.pk
    assert resized(seconds=60) == []  # three slots are its own or free, and it takes two or four
    services.complete(Attempt.objects.get(job=single), None)
    assert resized(seconds=10) == []
    assert resized(seconds=60) == [job]
    assert resized(seconds=60) == []  # it stops already
    message = job.events.get(kind="preempt").message
    assert message == "Goes on with 4 ranks in the place of 2."
    land(job)
    assert len(slots_of(claim(node))) == 4
    make_job(), make_job()
    assert resized(seconds=60) == [job]
    land(job)
    assert len(slots_of(claim(node))) == 2
    settings.ELASTIC_SECONDS = 0
    assert resized(seconds=60) == []


def land(job: TrainingJob) -> None:
    services.land(Attempt.objects.get(job=job, ended_at=None))


def resized(*, seconds: float) -> list[TrainingJob]:
    """Who is asked where the open attempts have trained for so long."""
    Attempt.objects.filter(ended_at=None).update(started_at=Now() - timedelta(seconds=seconds))
    return elastic.resize_elastic_jobs()
