"""The outbox: what people are to be told is written with the transition itself, and sent later by a worker's guard.

So a crash loses no message, and no receiver ever holds up a job. A message may arrive twice (its key tells), but it
does arrive if its receiver answers within a day.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.urls import get_script_prefix, reverse

from heimdall.plain_json import with_nulls
from training import policy
from training.lifecycle import Status, Verb
from training.models import Delivery, Event, Subscription, TrainingJob, Watch
from training.notifications import Topic, topic_of
from training.services.clock import in_seconds
from training.statements import made_once, rows_of

BACKOFF_SECONDS = (10, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 21_600, 28_800)  # together almost 22 hours
REST_SECONDS = 300  # that a receiver which fails is left alone at most
CLAIM_SECONDS = 60  # after which a message is due again whose sender vanished
KEEP_SECONDS = 30 * 86_400
ANSWER_LENGTH = 1_000


def announce(job: TrainingJob, event: Event, verb: Verb) -> None:
    """Put a message for each subscription that wants it into the outbox. Call it in the transition's transaction."""
    if not rows_of(_any_subscription()):
        return  # most installations most of the time; asking who wants it costs seven times as much
    topic = topic_of(verb, Status(job.status))
    wanted = [one for one in _subscriptions_for(job) if _wants(one, topic, job)]
    if not wanted:
        return
    event.refresh_from_db(fields=["created_at"])  # the database's clock wrote it
    for subscription in wanted:
        put(subscription, topic, _payload(job, event, topic), job=job)


_any_subscription = made_once(lambda: Subscription.objects.filter(active=True).order_by().values("pk")[:1])


def put(
    subscription: Subscription, topic: str, content: dict[str, Any], *, job: TrainingJob | None = None
) -> Delivery:
    delivery = Delivery(subscription=subscription, job=job, topic=topic)
    delivery.content = content | {
        "id": str(delivery.key),
        "topic": topic,
        "settings_url": _address_of("notifications"),
    }
    delivery.save()
    return delivery


def claim_deliveries(limit: int) -> list[Delivery]:
    """Messages that are due now and ours to send, one a subscription at most. Each claim is counted as a try."""
    due = _due().select_related("subscription").order_by("next_try_at", "id")
    chosen: dict[int, Delivery] = {}
    for delivery in due[: limit * 25]:
        chosen.setdefault(delivery.subscription_id, delivery)
    return [delivery for delivery in list(chosen.values())[:limit] if _claim(delivery)]


def note_delivered(delivery: Delivery, *, status: int | None, answer: str) -> None:
    changes = {"state": Delivery.State.DELIVERED, "answer_status": status, "answer": answer[:ANSWER_LENGTH]}
    if _ours(delivery).update(**changes):
        rested = Subscription.objects.filter(pk=delivery.subscription_id).exclude(failures=0)
        rested.update(failures=0, resting_until=None)


def note_failed(delivery: Delivery, *, status: int | None, reason: str) -> None:
    """Try again later, or give up; and leave the receiver alone for a moment, however many messages wait for it."""
    is_last = delivery.tries > len(BACKOFF_SECONDS)
    changes: dict[str, Any] = {"answer_status": status, "answer": reason[:ANSWER_LENGTH]}
    if is_last:
        changes["state"] = Delivery.State.GIVEN_UP
    else:
        changes["next_try_at"] = in_seconds(BACKOFF_SECONDS[delivery.tries - 1])
    if _ours(delivery).update(**changes):
        failures = min(delivery.subscription.failures, len(BACKOFF_SECONDS) - 1)
        rest = min(BACKOFF_SECONDS[failures], REST_SECONDS)
        receiver = Subscription.objects.filter(pk=delivery.subscription_id)
        receiver.update(failures=F("failures") + 1, resting_until=in_seconds(rest))


def forget_deliveries() -> int:
    """Delete messages that nobody will look for any more; return how many."""
    old = Delivery.objects.filter(created_at__lt=in_seconds(-KEEP_SECONDS))
    return old.delete()[0]


def _subscriptions_for(job: TrainingJob) -> QuerySet[Subscription]:
    """Those that ask for this job, by one query."""
    chosen = Q(user=job.owner_id, of_own=True)
    chosen |= Q(of_watched=True, user__in=Watch.objects.filter(job=job).values("user"))
    if job.team_id is not None:
        chosen |= Q(team=job.team_id) | Q(of_team=True, user__groups=job.team_id)
    return Subscription.objects.filter(chosen, active=True).select_related("user").distinct()


def _wants(subscription: Subscription, topic: Topic, job: TrainingJob) -> bool:
    """Whoever may not see the job any more is told nothing of it."""
    if subscription.topics and topic not in subscription.topics:
        return False
    return subscription.user is None or policy.may(subscription.user, policy.SEE, job)


def _due() -> QuerySet[Delivery]:
    awake = Q(subscription__resting_until=None) | Q(subscription__resting_until__lte=Now())
    somebody = Q(subscription__user=None) | Q(subscription__user__is_active=True)
    return Delivery.objects.filter(
        awake | Q(tries=0, topic="test"),
        somebody,
        state=Delivery.State.WAITING,
        next_try_at__lte=Now(),
        subscription__active=True,
    )


def _claim(delivery: Delivery) -> bool:
    seen = Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.WAITING, tries=delivery.tries)
    taken = seen.update(tries=F("tries") + 1, last_try_at=Now(), next_try_at=in_seconds(CLAIM_SECONDS))
    delivery.tries += 1
    return taken == 1


def _ours(delivery: Delivery) -> QuerySet[Delivery]:
    """Unless somebody else tried since, because we were too slow."""
    return Delivery.objects.filter(pk=delivery.pk, state=Delivery.State.WAITING, tries=delivery.tries)


def _address_of(page: str, *args: Any) -> str:
    """For somebody who reads it elsewhere. PUBLIC_URL has the path that Django would add in some threads only."""
    return settings.PUBLIC_URL + "/" + reverse(page, args=args).removeprefix(get_script_prefix())


def _payload(job: TrainingJob, event: Event, topic: Topic) -> dict[str, Any]:
    """What a receiver gets to know. `text` is for people, and the field that chat servers show."""
    url = _address_of("job", job.pk) if topic is not Topic.DELETED else None
    return {
        "text": " ".join(filter(None, (f"{job.job_name} (job {job.pk}): {topic}.", event.message, url))),
        "event": {
            "seq": event.seq,
            "kind": event.kind,
            "message": event.message,
            "actor": event.actor,
            "created_at": event.created_at.isoformat().replace("+00:00", "Z"),
        },
        "job": {
            "id": job.pk,
            "job_name": job.job_name,
            "recipe": job.recipe or None,
            "command": job.program["command"] if job.program else None,
            "owner": job.owner.get_username(),
            "team": job.team.name if job.team else None,
            "status": job.status,
            "stop": job.stop or None,
            "attempt": job.attempt,
            "current_epoch": job.current_epoch,
            "total_epochs": job.total_epochs,
            "current_step": job.current_step,
            "total_steps": job.total_steps,
            "train_loss": with_nulls(job.train_loss),
            "best_val_loss": with_nulls(job.best_val_loss),
            "error_code": job.error_code or None,
            "url": url,
        },
    }
