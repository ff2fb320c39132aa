"""What is shown of watches, subscriptions and deliveries. A secret is in none of it."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from training import policy
from training.lifecycle import Status
from training.models import Delivery, Subscription, TrainingJob, Watch
from training.queries import iso

UNFINISHED = (Status.QUEUED, Status.RUNNING, Status.PAUSED)


def is_watched(job_id: int, user: Any) -> bool:
    return Watch.objects.filter(user=user.pk, job=job_id).exists()


def watched_jobs(user: Any) -> QuerySet[TrainingJob]:
    """The jobs that the user watches and may still see, the newest first."""
    return policy.visible_jobs(user).filter(pk__in=Watch.objects.filter(user=user.pk).values("job"))


def subscription_dict(subscription: Subscription) -> dict[str, Any]:
    return {
        "id": subscription.pk,
        "via": subscription.via,
        "target": subscription.target,
        "team": subscription.team.name if subscription.team else None,
        "topics": subscription.topics,
        "format": subscription.format,
        "of_own": subscription.of_own,
        "of_watched": subscription.of_watched,
        "of_team": subscription.of_team,
        "active": subscription.active,
        "failures": subscription.failures,
        "resting_until": iso(subscription.resting_until),
        "created_at": iso(subscription.created_at),
    }


def deliveries_of(subscription: Subscription) -> QuerySet[Delivery]:
    return Delivery.objects.filter(subscription=subscription).order_by("-id")


def delivery_dict(delivery: Delivery) -> dict[str, Any]:
    is_waiting = delivery.state == Delivery.State.WAITING
    return {
        "id": delivery.pk,
        "key": str(delivery.key),
        "topic": delivery.topic,
        "job": delivery.job_id,
        "state": delivery.state,
        "tries": delivery.tries,
        "next_try_at": iso(delivery.next_try_at) if is_waiting else None,
        "last_try_at": iso(delivery.last_try_at),
        "answer_status": delivery.answer_status,
        "answer": delivery.answer,
        "content": delivery.content,
        "created_at": iso(delivery.created_at),
    }
