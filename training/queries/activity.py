"""Who did what: the events of all jobs that somebody can see, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from training import policy
from training.models import Event
from training.queries import event_dict

SYSTEM = "system"  # whoever acts and is no person
_ROUTINE = Q(kind__in=("epoch", "checkpoint"))
_TROUBLE = (
    "fail",
    "crash",
    "reap",
    "rollback",
    "quarantine",
    "checkpoint_failed",
    "checkpoint_left_out",
    "replay_differs",
    "approximate",
)
# What one may ask for. "" is what people look at all day.
KINDS: dict[str, Q] = {
    "": ~_ROUTINE,
    "people": Q(user__isnull=False),
    "runs": Q(kind__in=("claim", "start", "preempt", "land", "complete")),
    "trouble": Q(kind__in=_TROUBLE),
    "routine": _ROUTINE,
}


@dataclass(frozen=True)
class Wanted:
    """Which events; empty: those of everybody, but epochs and checkpoints."""

    who: str = ""  # a user's name, or SYSTEM
    kind: str = ""  # of KINDS
    job: int | None = None


def activity(actor: Any, wanted: Wanted, *, limit: int, before: int | None = None) -> list[Event]:
    """The events that fit, newest first, from the one before the cursor (an event's id) on."""
    found = Event.objects.filter(policy.visible(actor, "job__"), KINDS[wanted.kind])
    if wanted.who == SYSTEM:
        found = found.filter(user=None)
    elif wanted.who:
        found = found.filter(user__username=wanted.who)
    if wanted.job is not None:
        found = found.filter(job=wanted.job)
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.select_related("job", "user").order_by("-pk")[:limit])


def activity_dicts(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What doors show of them: an event's fields, its cursor, and the job's name."""
    return [
        event_dict(event)
        | {
            "id": event.pk,
            "job_name": event.job.job_name,
            "by": event.user.get_username() if event.user else None,
            "message": _without_name(event),
        }
        for event in events
    ]


def _without_name(event: Event) -> str:
    """Some messages end with who it was, and the line begins with that."""
    said, name, _ = event.message.rpartition(f" by {event.actor}.")
    return f"{said}." if name and event.message.endswith(name) else event.message
