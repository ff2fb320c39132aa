"""Who did what: the events of all jobs that somebody can see, and the deletions of others, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from training import policy
from training.lifecycle import Verb
from training.models import Deletion, Event
from training.queries import event_dict, iso

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
    "loss_not_finite",
    "replay_differs",
    "verify_differs",
    "verify_failed",
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
_WITH_DELETIONS = ("", "people")
Entry = Event | Deletion


@dataclass(frozen=True)
class WantedActivity:
    """Which events; empty: those of everybody, but epochs and checkpoints."""

    who: str = ""  # a user's name, or SYSTEM
    kind: str = ""  # of KINDS
    job: int | None = None


def activity(actor: Any, wanted: WantedActivity, *, limit: int, before: int | None = None) -> list[Entry]:
    """What fits, newest first, from what came before the cursor (an event's id) on."""
    events = Event.objects.filter(policy.visible(actor, "job__"), KINDS[wanted.kind]).select_related("job")
    entries: list[Entry] = list(_fitting(events, wanted, "job", before)[:limit])
    if wanted.kind in _WITH_DELETIONS:
        deletions = Deletion.objects.filter(policy.visible(actor))
        entries += _fitting(deletions, wanted, "job_number", before)[:limit]
    return sorted(entries, key=lambda one: one.pk, reverse=True)[:limit]


def activity_dicts(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What the page shows of them: an event's fields, its cursor, the job's name, and whether the job is gone."""
    return [
        (_dict_of_deletion(one) if isinstance(one, Deletion) else _dict_of_event(one))
        | {
            "id": one.pk,
            "by": one.user.get_username() if one.user else None,
            "message": _without_name(one),
        }
        for one in entries
    ]


def _fitting(found: QuerySet[Any], wanted: WantedActivity, job: str, before: int | None) -> QuerySet[Any]:
    if wanted.who == SYSTEM:
        found = found.filter(user=None)
    elif wanted.who:
        found = found.filter(user__username=wanted.who)
    if wanted.job is not None:
        found = found.filter(**{job: wanted.job})
    if before is not None:
        found = found.filter(pk__lt=before)
    return found.select_related("user").order_by("-pk")


def _dict_of_event(event: Event) -> dict[str, Any]:
    return event_dict(event) | {"job_name": event.job.job_name, "is_gone": False}


def _dict_of_deletion(deletion: Deletion) -> dict[str, Any]:
    return {
        "job": deletion.job_number,
        "kind": str(Verb.DELETE),
        "actor": deletion.actor,
        "status": deletion.status,
        "step": deletion.step,
        "epoch": deletion.epoch,
        "created_at": iso(deletion.created_at),
        "job_name": deletion.job_name,
        "is_gone": True,
    }


def _without_name(event: Entry) -> str:
    """Some messages end with who it was, and the line begins with that."""
    text, name, _ = event.message.rpartition(f" by {event.actor}.")
    return f"{text}." if name and event.message.endswith(name) else event.message
