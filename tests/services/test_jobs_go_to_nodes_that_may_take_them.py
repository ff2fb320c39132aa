"""Pools, drained nodes and nodes that are taken out: who gets which job, and what a waiting job says of it."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db.models.functions import Now

from heimdall.errors import InvalidInput
from tests.support.programs import HELLO, submitted
from training import host, queries, queue, services
from training.errors import NotAllowed, TransitionRefused
from training.lifecycle import Answer
from training.models import Attempt, Node, NodeEvent, TrainingJob
from training.scheduling import preemption
from training.worker import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]
FOR_UV = HELLO | {"requirements.txt": "numpy\n"}


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path


def node_named(name: str, *, pools: tuple[str, ...] = (), slots: int = 1, seen: float = 0.0) -> Node:
    node = Node.objects.create(name=name, pools=list(pools), slots=slots)
    Node.objects.filter(pk=node.pk).update(last_seen_at=Now() - timedelta(seconds=seen))
    return Node.objects.get(pk=node.pk)


def claim(node: Node) -> int | None:
    attempt = services.claim(node, slot=0, pid=1)
    return attempt.job_id if attempt else None


def waiting(job: TrainingJob) -> tuple[str, int | None]:
    found = queries.job_dict(job)["waiting"]
    return found["code"], found["ahead"]


def test_a_node_takes_only_jobs_of_its_pools_and_of_none(make_job):
    big, none, small = make_job(pool="big"), make_job(), make_job(pool="small")
    both, plain = node_named("both", pools=("big", "small")), node_named("plain")
    assert claim(plain) == none.pk
    assert claim(plain) is None
    assert [claim(both), claim(both), claim(both)] == [big.pk, small.pk, None]


def test_the_pool_is_a_name_and_may_be_changed_while_the_job_waits(alice):
    result = services.submit(by=alice, job_name="a", recipe="tiny", config={}, pool="nowhere")
    assert "No live node is in the pool nowhere" in result.message
    node = node_named("n", pools=("here",))
    assert claim(node) is None
    services.edit(result.job, by=alice, pool="here")
    assert claim(node) == result.job.pk
    with pytest.raises(InvalidInput, match="pool"):
        services.edit(result.job, by=alice, pool="not a name")


def test_a_program_goes_to_a_node_that_has_its_environment_and_to_no_other(admin_user, settings):
    settings.ENVIRONMENTS = {"torch26": sys.executable, "gone": "/nowhere/python"}
    assert services.register_node().environments == ["torch26"]
    Node.objects.all().delete()
    settings.ENVIRONMENTS = {}
    elsewhere = Node.objects.create(name="elsewhere", environments=["torch26"])  # silent by now
    program = {"command": ["ls"], "environment": "torch26"}
    job = submitted(admin_user, program=program)
    plain = node_named("plain")
    assert (claim(plain), waiting(job)[0]) == (None, "no_environment")
    said = queries.job_dict(job)["waiting"]["message"]
    assert said == "No connected host has the environment torch26 (HEIMDALL_ENVIRONMENTS)."
    Node.objects.filter(pk=elsewhere.pk).update(last_seen_at=Now())
    assert (waiting(job)[0], claim(plain), claim(elsewhere)) == ("next", None, job.pk)
    anywhere = [
        submitted(admin_user, files=FOR_UV, program={"command": ["ls"], "environment": name})
        for name in ("", "uv")
    ]
    assert [waiting(one)[0] for one in anywhere] == ["next", "turn"]
    assert [claim(plain), claim(plain)] == [one.pk for one in anywhere]
    with pytest.raises(InvalidInput, match="choose one of torch26, uv"):
        submitted(admin_user, program={"command": ["ls"], "environment": "torch27"})


def test_a_drained_node_claims_nothing_until_it_is_undrained(make_job, admin_user):
    job, node = make_job(), node_named("n")
    assert services.drain(node, by=admin_user)[0] is Answer.DONE
    assert services.drain(node, by=admin_user)[0] is Answer.ALREADY
    assert claim(node) is None
    assert not services.jobs_for(node).exists()
    services.undrain(node, by=admin_user)
    assert claim(node) == job.pk
    told = NodeEvent.objects.filter(name="n").order_by("id").values_list("kind", "actor")
    assert list(told) == [("drain", "root"), ("undrain", "root")]


def test_a_drain_outlives_the_worker_that_it_found(settings, admin_user):
    node = services.register_node()
    services.drain(node, by=admin_user)
    assert services.register_node().drained_at is not None


def test_the_supervisor_of_a_drained_node_hears_of_it_with_each_wish_and_each_beat(make_job, admin_user):
    make_job()
    node = node_named("n")
    attempt = services.claim(node, slot=0, pid=1)
    assert not services.read_stop_request(attempt).is_node_drained
    word, sentence = services.drain(node, by=admin_user)
    assert (word, "1 job lands" in sentence) == (Answer.NOTED, True)
    assert services.read_stop_request(attempt).is_node_drained
    assert services.beat(attempt).is_node_drained
    services.undrain(node, by=admin_user)
    assert not services.read_stop_request(attempt).is_node_drained


def test_who_may_steer_nodes(alice, viewer, admin_user):
    node = node_named("n", seen=10_000)
    alice.is_staff = True
    alice.save()
    for verb in services.NODE_VERBS.values():
        with pytest.raises(NotAllowed, match="Can change node"):
            verb(node, by=alice)
    viewer.user_permissions.add(Permission.objects.get(codename="change_node"))
    for verb in services.NODE_VERBS.values():
        verb(node, by=type(viewer).objects.get(pk=viewer.pk))
    assert not Node.objects.exists()


def test_only_a_silent_node_without_a_job_is_taken_out_and_its_history_stays(make_job, admin_user):
    job, node = make_job(), node_named("n")
    with pytest.raises(TransitionRefused, match="is alive"):
        services.remove(node, by=admin_user)
    claim(node)
    Node.objects.update(last_seen_at=Now() - timedelta(days=1))
    with pytest.raises(TransitionRefused, match="still holds a job"):
        services.remove(node, by=admin_user)
    services.reap(Attempt.objects.get(job=job), even_if_leased=True)
    services.remove(node, by=admin_user)
    assert not Node.objects.exists()
    assert Attempt.objects.get(job=job).node_name == "n"
    assert NodeEvent.objects.get().message == "Taken out."


def test_a_worker_whose_node_was_taken_out_brings_it_back_with_its_next_beat():
    node = services.register_node()
    Node.objects.all().delete()
    services.beat_node(node)
    assert Node.objects.get().pk == node.pk


def test_a_worker_writes_down_what_its_machine_is(settings):
    settings.POOLS, settings.SLOTS, settings.GPUS = ["big"], 2, []
    node = services.register_node()
    assert node.pools == ["big"]
    assert [device["device"] for device in node.devices] == ["cpu", "cpu"]
    assert node.versions["torch"].startswith("2.")
    assert 0 < node.load["memory_free"] <= node.load["memory_total"]
    assert node.load["gpus"] == []  # none is made up


def test_a_waiting_job_says_why(make_job, admin_user):
    first, job = make_job(), make_job(pool="big")
    assert waiting(job) == ("no_node", 1)
    plain = node_named("plain")
    assert waiting(job) == ("no_pool", 1)
    big = node_named("big", pools=("big",))
    assert waiting(job) == ("turn", 1)
    assert (claim(plain), waiting(job)) == (first.pk, ("next", 0))
    services.drain(big, by=admin_user)
    assert waiting(job) == ("drained", 0)
    services.undrain(big, by=admin_user)
    claim(big)
    last = make_job(pool="big")
    assert waiting(last) == ("no_slot", 0)
    assert (
        queries.job_dict(last)["waiting"]["message"] == "The only slot of the pool big is taken. It is next."
    )
    TrainingJob.objects.filter(pk=last.pk).update(not_before=Now() + timedelta(hours=1))
    assert waiting(last)[0] == "not_before"
    TrainingJob.objects.filter(pk=last.pk).update(not_before=Now() - timedelta(hours=1))
    assert waiting(last)[0] == "no_slot"
    assert queries.job_dict(make_job(status="paused"))["waiting"] is None


def test_a_job_that_asks_for_a_gpu_waits_for_a_slot_with_one(make_job, settings):
    settings.NODE_NAME = "plain"
    asks, plain = make_job(config={"device": "cuda"}), node_named("plain", slots=2)
    Node.objects.update(devices=[{"device": "cpu", "name": "a processor"}] * 2)
    plain.refresh_from_db()
    assert (claim(plain), services.jobs_for(plain).exists()) == (None, False)
    assert waiting(asks) == ("no_gpu", 0)
    others = [make_job(), make_job(job_type="synthetic_data")]  # the device `auto`, and no such field
    assert [claim(plain), claim(plain), claim(plain)] == [*(job.pk for job in others), None]
    TrainingJob.objects.filter(pk=asks.pk).update(priority=5)
    assert preemption.make_room() is None

    both = node_named("both", slots=2)
    Node.objects.filter(pk=both.pk).update(devices=[{"device": "cuda:0", "name": "GPU"}, {"device": "cpu"}])
    both.refresh_from_db()
    assert waiting(asks) == ("next", 0)
    assert services.jobs_for(both).exists()
    assert services.claim(both, slot=1, pid=1) is None
    on_cpu, on_gpu = make_job(), make_job(priority=6)
    assert services.claim(both, slot=0, pid=1).job_id == on_gpu.pk
    assert services.claim(both, slot=1, pid=1).job_id == on_cpu.pk
    assert waiting(asks) == ("no_slot", 0)
    assert preemption.make_room() is None  # the GPU's job is more urgent, and the CPU's slot would not do
    TrainingJob.objects.filter(pk=on_gpu.pk).update(priority=1)
    assert preemption.make_room() == on_gpu


def test_the_reasons_of_a_list_cost_the_same_few_queries(make_job, django_assert_num_queries):
    def read(**wanted) -> list[TrainingJob]:
        return list(queries.with_relations(TrainingJob.objects.filter(**wanted)))

    for _ in range(2):
        make_job(), make_job()
        jobs = read()
        with django_assert_num_queries(4):
            queries.dicts(jobs, None)
    make_job(status="paused")
    jobs = read(status="paused")
    with django_assert_num_queries(0):
        queries.dicts(jobs, None)


def woken(node: Node, settings) -> list[int]:
    """The numbers of the wake-ups that this host's cluster gets, which it takes."""
    settings.NODE_NAME = node.name
    taken = iter(queue.Broker("heimdall").look, [])
    return [int(payload.split()[1]) for messages in taken for _, payload in messages]


CPU, GPU = {"device": "cpu"}, {"device": "cuda:0"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("job", "wrong", "right"),
    [
        ({"pool": "big"}, {}, {"pools": ["big"]}),
        ({"config": {"device": "cuda"}}, {"devices": [CPU]}, {"devices": [GPU]}),
        ({}, {"drained_at": Now()}, {}),
    ],
)
def test_a_wake_up_that_a_host_cannot_use_is_passed_on_to_those_that_can(alice, settings, job, wrong, right):
    here, there, full, other = (node_named(name) for name in ("here", "there", "full", "other"))
    Node.objects.filter(pk__in=[here.pk, other.pk]).update(**wrong)
    Node.objects.filter(pk__in=[there.pk, full.pk]).update(**right)
    running = services.submit(by=alice, job_name="a", recipe="tiny", **({"config": {}} | job)).job
    assert claim(full) == running.pk
    queue.messages.OrmQ.objects.all().delete()
    waits = services.submit(by=alice, job_name="b", recipe="tiny", **({"config": {}} | job)).job
    (number,) = woken(here, settings)
    tasks.supervise(number)
    assert [woken(node, settings) for node in (here, full, other)] == [[], [], []]
    assert woken(there, settings) == [queue.FOR_ONE_HOST]
    settings.NODE_NAME = here.name
    tasks.supervise(queue.FOR_ONE_HOST)  # no further: two hosts would send it to and fro
    assert woken(there, settings) == []
    assert claim(there) == waits.pk
    settings.NODE_NAME = here.name
    tasks.supervise(number)
    assert woken(there, settings) == []  # nothing waits any more


@pytest.mark.django_db(transaction=True)
def test_a_host_whose_slots_are_taken_passes_a_wake_up_on(make_job, settings):
    here, there = node_named("here"), node_named("there")
    make_job()
    settings.NODE_NAME = here.name
    with host.hold_free_slot():
        tasks.supervise(0)
    assert woken(there, settings) == [queue.FOR_ONE_HOST]


def test_room_is_made_in_the_pool_where_it_is_wanted(make_job, settings):
    mine, other = node_named("mine", pools=("big",)), node_named("other")
    low, high = make_job(pool="big", priority=1), make_job(priority=5)
    assert (claim(mine), claim(other)) == (high.pk, None)
    assert claim(other) is None
    services.land(Attempt.objects.get(job=high), final=True)
    assert (claim(other), claim(mine)) == (high.pk, low.pk)
    make_job(pool="nowhere", priority=100)  # holds up nobody
    urgent = make_job(pool="big", priority=3)
    assert preemption.make_room() == low
    low.refresh_from_db()
    assert (low.stop, urgent.status) == ("preempt", "queued")
    assert preemption.make_room() is None  # room is being made already
