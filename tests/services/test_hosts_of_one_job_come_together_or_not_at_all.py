"""A job of several hosts: each offers its slots for some seconds, and all of them begin one attempt, or none does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from training import placement, queries, services
from training.errors import StaleAttempt
from training.models import Attempt, GangMember, HeldSlot, Node, TrainingJob
from training.scheduling import preemption

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]

WHO = services.Supervisor(slot=0, pid=1)


@pytest.fixture
def job(make_job) -> TrainingJob:
    """It needs two slots of each of two hosts."""
    return make_job(fewest_devices=2, most_devices=2, num_hosts=2, is_gang=True)


def node_named(name: str, slots: int = 2) -> Node:
    node = Node.objects.create(name=name, slots=slots, last_seen_at=Now())
    node.refresh_from_db()
    return node


def claim(node: Node, slot: int = 0) -> Attempt | GangMember | None:
    return services.claim(node, slot=slot, pid=1)


def waiting(job: TrainingJob) -> tuple[str, str]:
    job.refresh_from_db()
    found = queries.job_dict(job)["waiting"]
    return found["code"], found["message"]


def started(job: TrainingJob) -> tuple[Attempt, GangMember]:
    """The attempt that the second of two hosts leads, and the first one's part in it."""
    first, second = node_named("a"), node_named("b")
    offer, attempt = claim(first), claim(second)
    assert isinstance(offer, GangMember)
    assert isinstance(attempt, Attempt)
    return attempt, services.look(offer, WHO)


def test_the_last_host_that_is_needed_leads_and_the_others_belong_to_its_attempt(job):
    attempt, member = started(job)
    assert (attempt.ranks, attempt.node_name, member.attempt_id, member.first_rank) == (4, "b", attempt.pk, 2)
    places = [(row["rank"], row["node"], row["slot"]) for row in attempt.rank_devices]
    assert places == [(0, "b", 0), (1, "b", 1), (2, "a", 0), (3, "a", 1)]
    assert (attempt.slots, member.slots) == ([0, 1], [0, 1])
    assert attempt.rendezvous.rpartition(":")[2].isdigit()
    assert HeldSlot.objects.filter(attempt=attempt).count() == 4
    job.refresh_from_db()
    assert (job.status, job.ranks, job.attempt) == ("running", 4, 1)


@pytest.mark.parametrize("end", ["land", "complete", "fail", "crash", "reap"])
def test_every_end_of_the_attempt_frees_the_slots_of_all_hosts(job, end):
    attempt, member = started(job)
    ends = {
        "land": lambda: services.land(attempt, final=True),
        "complete": lambda: services.complete(attempt, None),
        "fail": lambda: services.fail(attempt, code="x", message="x"),
        "crash": lambda: services.crash(attempt, exit_code=-9),
        "reap": lambda: services.reap(attempt, even_if_leased=True),
    }
    services.beat_member(member)
    ends[end]()
    assert (HeldSlot.objects.count(), GangMember.objects.count()) == (0, 0)
    with pytest.raises(StaleAttempt):
        services.beat_member(member)


def test_nothing_is_offered_before_enough_hosts_are_free(job, make_job):
    first, second = node_named("a"), node_named("b")
    assert waiting(job)[0] == "next"
    runs = make_job(priority=1)
    claim(second)
    assert waiting(job) == (
        "needs_slots", "It needs 2 free slots of each of 2 hosts; 1 of them has them. It is next.",
    )  # fmt: skip
    assert claim(first) is None
    assert not GangMember.objects.exists()
    services.complete(Attempt.objects.get(job=runs), None)
    assert isinstance(claim(first), GangMember)


def test_a_job_of_more_hosts_than_there_are_keeps_no_slots(job, make_job):
    node, single = node_named("a"), make_job()
    assert waiting(job) == (
        "too_few_slots", "It needs 2 slots of each of 2 hosts, and 1 of the live nodes has them.",
    )  # fmt: skip
    assert waiting(single)[0] == "next"
    assert claim(node).job_id == single.pk


def test_of_two_hosts_that_offer_at_once_one_leads(job):
    nodes = [node_named("a"), node_named("b")]
    offers = []
    for node in nodes:  # as if neither had seen the other one's
        offers.append(claim(node))
        GangMember.objects.filter(pk=offers[-1].pk).update(leaves=True)
    GangMember.objects.update(leaves=False)
    assert all(isinstance(offer, GangMember) for offer in offers)
    attempt = services.look(offers[0], WHO)
    assert (attempt.node_name, services.look(offers[1], WHO).attempt_id) == ("a", attempt.pk)
    assert GangMember.objects.count() == 1


def test_an_offer_is_taken_back_or_runs_out_and_its_slots_are_free(job, make_job):
    first, second = node_named("a"), node_named("b")
    offer = claim(first)
    assert placement.busy_slots()[first.pk] == {0, 1}
    assert services.withdraw(offer)
    assert services.look(offer, WHO) is None
    offer = claim(first)
    GangMember.objects.update(seen_at=Now() - timedelta(seconds=60))
    assert isinstance(claim(second), GangMember)  # nobody knows whether the first one's supervisor lives
    assert services.forget_offers() == 3  # with its two slots
    assert placement.busy_slots()[first.pk] == set()
    assert claim(first).node_name == "a"
    assert not services.withdraw(GangMember.objects.get())


def test_an_offer_ends_where_the_job_waits_no_more_or_the_node_is_drained(job, alice, admin_user):
    first, _ = node_named("a"), node_named("b")
    offer = claim(first)
    assert services.look(offer, WHO).pk == offer.pk
    services.drain(first, by=admin_user)
    assert services.look(offer, WHO) is None
    services.undrain(first, by=admin_user)
    services.cancel(job, by=alice)
    assert services.look(offer, WHO) is None


def test_the_leader_hears_of_a_host_that_stops_is_drained_or_is_lost(job, admin_user):
    attempt, member = started(job)
    assert not services.read_stop_request(attempt).is_node_drained
    services.drain(member.node, by=admin_user)
    assert services.read_stop_request(attempt).is_node_drained
    services.undrain(member.node, by=admin_user)
    services.leave_gang(member)
    assert services.beat(attempt).is_node_drained
    assert services.lost_member(attempt, silent_seconds=60) is None
    GangMember.objects.update(seen_at=Now() - timedelta(seconds=100))
    assert services.lost_member(attempt, silent_seconds=60).why == "Node a: nothing was heard of it"
    services.beat_member(member)
    services.lose_member(member, "its ranks ended (signal 9, SIGKILL).")
    lost = services.lost_member(attempt, silent_seconds=60)
    assert (lost.why, lost.error_code) == ("Node a: its ranks ended (signal 9, SIGKILL).", "")


def test_those_that_fill_the_slots_of_two_hosts_make_room_together(job, make_job):
    first, second = node_named("a"), node_named("b")
    long = [make_job(priority=1), make_job(priority=1)]
    held = [claim(first), claim(second)]
    fillers = [make_job(), make_job()]
    assert [claim(first, 1).fills, claim(second, 1).fills] == [True, True]
    services.complete(held[0], None)
    assert preemption.make_room_for_gangs() == []  # the second host cannot take part yet
    services.complete(held[1], None)
    assert long[0].pk != long[1].pk
    assert {one.pk for one in preemption.make_room_for_gangs()} == {one.pk for one in fillers}
    for one in Attempt.objects.filter(ended_at=None):
        services.land(one)
    assert isinstance(claim(first), GangMember)
    assert claim(second).job_id == job.pk
