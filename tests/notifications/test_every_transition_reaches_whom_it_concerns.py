"""Each transition puts a message into the outbox, in its own transaction, for exactly those who asked for it."""

from __future__ import annotations

import itertools

import pytest
from django.db import transaction

from heimdall.errors import InvalidInput
from tests.support.programs import submitted
from training import lifecycle, services
from training.errors import NotAllowed, NotFound
from training.lifecycle import Status
from training.models import Delivery, Subscription, Watch
from training.notifications import Topic, topic_of

pytestmark = pytest.mark.django_db
SECRET = "correct horse battery"


def topics(subscription: Subscription | None = None) -> list[str]:
    found = Delivery.objects.filter(subscription=subscription) if subscription else Delivery.objects.all()
    return list(found.order_by("id").values_list("topic", flat=True))


def test_every_rule_that_leads_somewhere_has_a_topic():
    found = {topic_of(verb, rule.to_status) for (verb, _, _), rule in lifecycle.RULES.items() if rule.writes}
    assert found == set(Topic) - {Topic.SUBMITTED}


def test_a_whole_life_is_told_in_order(subscribed, alice, node):
    hook = subscribed()
    job = services.submit(by=alice, job_name="mine", recipe="tiny", config={}).job
    attempt = services.claim(node=node, slot=0, pid=1, pid_started_at=1.0)
    services.pause(job, by=alice, at="step")
    services.resume(job, by=alice)
    services.crash(attempt, exit_code=-9)
    services.cancel(job, by=alice)
    services.delete(job, by=alice)
    told = ["submitted", "started", "stopping", "stopping", "crashed", "cancelled", "deleted"]
    assert topics(hook) == told


def test_a_deletion_is_told_though_the_job_is_gone(subscribed, make_job, alice):
    subscribed(topics=["deleted"])
    job = make_job(status="completed")
    services.delete(job, by=alice)
    delivery = Delivery.objects.get()
    content = delivery.content
    assert (delivery.topic, delivery.job, content["job"]["id"]) == ("deleted", None, job.pk)
    assert content["job"]["url"] is None  # it leads nowhere any more
    assert content["text"] == f"a job (job {job.pk}): deleted. Deleted by alice."
    assert (content["event"]["kind"], content["event"]["actor"]) == ("delete", "alice")


def test_a_message_says_what_a_receiver_needs(subscribed, make_job, alice):
    subscribed()
    job = make_job(status="running", step=7, epoch=1)
    job.train_loss = float("nan")
    services.cancel(job, by=alice)
    content = Delivery.objects.get().content
    assert content["job"] | {"status": "running", "stop": "cancel", "current_step": 7} == content["job"]
    assert content["event"]["actor"] == "alice"
    assert content["event"]["created_at"].endswith("Z")
    assert content["id"] == str(Delivery.objects.get().key)
    assert content["job"]["url"].endswith(f"/jobs/{job.pk}/")
    assert content["text"].startswith(f"a job (job {job.pk}): stopping. Asked to cancel. http")


def test_a_message_of_a_program_says_its_command_and_none_of_its_secrets(subscribed, admin_user):
    hook = subscribed(by=admin_user)
    program = {"command": ["python", "train.py", "--lr", "1"], "variables": {"MODE": "fast"}}
    job = submitted(admin_user, program=program, secrets={"API_KEY": SECRET})
    services.cancel(job, by=admin_user)
    assert topics(hook) == ["submitted", "cancelled"]
    for delivery in Delivery.objects.all():
        told = delivery.content["job"]
        assert (told["recipe"], told["command"]) == (None, program["command"])
        assert SECRET not in str(delivery.content)
        assert "fast" not in str(delivery.content)


def test_chosen_topics_alone_are_told(subscribed, make_job, alice):
    hook = subscribed(topics=["completed", "cancelled"])
    services.pause(make_job(status="running"), by=alice)
    services.cancel(make_job(status="queued"), by=alice)
    assert topics(hook) == ["cancelled"]


@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        ({"of_own": True, "of_watched": False}, ["own"]),
        ({"of_own": False, "of_watched": True}, ["watched"]),
        ({"of_own": False, "of_watched": False, "of_team": True}, ["own", "team", "watched"]),
        ({"of_own": False, "of_watched": False, "of_team": False}, []),
    ],
)
def test_own_watched_and_team_jobs(scopes, told, subscribed, make_job, alice, bob):
    hook = subscribed(by=bob, **scopes)
    jobs = {
        "own": make_job(owner=bob, job_name="own"),
        "watched": make_job(job_name="watched"),
        "team": make_job(job_name="team"),
        "none": make_job(job_name="none", team=None),
    }
    services.watch(jobs["watched"], by=bob)
    for job in jobs.values():
        services.cancel(job, by=job.owner)
    assert sorted({row.job.job_name for row in Delivery.objects.filter(subscription=hook)}) == told


def test_a_team_is_told_once_of_each_of_its_jobs(subscribed, make_job, alice, bob, team):
    hook = subscribed(by=bob, team=team)
    services.cancel(make_job(), by=alice)
    services.cancel(make_job(team=None), by=alice)
    assert topics(hook) == ["cancelled"]


def test_who_may_not_see_the_job_any_more_is_told_nothing(subscribed, make_job, alice, bob, team):
    job = make_job()
    services.watch(job, by=bob)
    hook = subscribed(by=bob)
    bob.groups.remove(team)
    services.cancel(job, by=alice)
    assert topics(hook) == []


def test_a_transition_that_is_undone_is_not_told(subscribed, make_job, alice):
    subscribed()
    with transaction.atomic():
        services.cancel(make_job(), by=alice)
        assert topics() == ["cancelled"]
        transaction.set_rollback(True)
    assert topics() == []


def test_nobody_asked_costs_one_query(make_job, alice, django_assert_num_queries):
    job = make_job()
    event = services.transition.add_event(job, "cancel", "x", by=alice, seq=77)
    with django_assert_num_queries(1):
        services.outbox.announce(job, event, lifecycle.Verb.CANCEL)


def test_what_is_off_is_told_nothing_and_deleting_drops_what_waits(subscribed, make_job, alice):
    hook = subscribed()
    services.cancel(make_job(), by=alice)
    services.change_subscription(hook, by=alice, active=False)
    services.cancel(make_job(), by=alice)
    assert topics(hook) == ["cancelled"]
    assert services.claim_deliveries(limit=8) == []
    services.unsubscribe(hook, by=alice)
    assert topics() == []


def test_a_deleted_job_leaves_its_messages(subscribed, make_job, alice):
    subscribed()
    job = make_job()
    services.cancel(job, by=alice)
    job.refresh_from_db()
    services.delete(job, by=alice)
    told = {row.topic: row for row in Delivery.objects.all()}
    assert told["cancelled"].content["job"]["status"] == Status.CANCELLED
    assert [row.job for row in told.values()] == [None, None]


def test_a_subscription_is_its_users_or_its_teams_alone(subscribed, alice, bob, mallory, admin_user, team):
    own, teams = subscribed(), subscribed(team=team)
    for user, may in itertools.product((alice, bob, mallory, admin_user), (own, teams)):
        allowed = (user, may) in {(alice, own), (alice, teams), (bob, teams)}
        for act in (services.send_test, services.renew_secret):
            if allowed:
                act(may, by=user)
            else:
                with pytest.raises(NotAllowed):
                    act(may, by=user)
        if not allowed:
            with pytest.raises(NotFound):
                services.subscription_named(may.pk, by=user)
            with pytest.raises(NotAllowed):
                services.unsubscribe(may, by=user)
            with pytest.raises(NotAllowed):
                services.change_subscription(may, by=user, active=False)


def test_who_cannot_see_a_job_cannot_watch_it(make_job, bob, mallory):
    job = make_job()
    services.watch(job, by=bob)
    services.watch(job, by=bob)
    with pytest.raises(NotFound):
        services.watch(job, by=mallory)
    assert Watch.objects.filter(job=job).count() == 1
    services.unwatch(job, by=bob)
    services.unwatch(job, by=bob)
    assert not Watch.objects.exists()


def test_bad_input_names_the_field(subscribed, alice, mallory, team, settings):
    settings.OFFERS_EMAIL = False
    for wanted, field in (
        ({"via": "pigeon"}, "via"),
        ({"via": "email", "target": "alice@example.org"}, "via"),
        ({"topics": ["finished"]}, "topics"),
        ({"by": mallory, "team": team}, "team"),
    ):
        with pytest.raises(InvalidInput) as refused:
            subscribed(**wanted)
        assert list(refused.value.fields) == [field]
    settings.OFFERS_EMAIL = True
    with pytest.raises(InvalidInput):
        subscribed(via="email", target="no address")


def test_nobody_has_more_subscriptions_than_fit(subscribed, alice, monkeypatch):
    monkeypatch.setattr(services.notifications, "MOST", 2)
    subscribed(), subscribed()
    with pytest.raises(InvalidInput, match="2 is the limit"):
        subscribed()
