"""A request that is sent twice with the same idempotency key is done once; the second gets the first one's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from training.errors import KeyReused
from training.models import KeptAnswer
from training.services.clock import in_seconds

KEPT_SECONDS = 24 * 3600


def answer_once(
    *, by: Any, key: str, request_digest: str, act: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """What `act` answers, or what it answered to this key before; and whether it is from before.

    The key and what `act` writes are one transaction: either both stand, or, where `act` refuses, neither does. A
    twin that comes meanwhile waits for the row of the first.
    """
    with transaction.atomic():
        row = _take(by, key, request_digest)
        if row.request_digest != request_digest:
            raise KeyReused(
                "This Idempotency-Key came with another request within the last day. Use a new key for a new request."
            )
        if row.answer is not None:
            return row.answer, True
        row.answer = act()
        row.save(update_fields=["answer"])
        return row.answer, False


def forget_answers() -> int:
    """Answers are kept for a day."""
    return _expired().delete()[0]


def _take(by: Any, key: str, request_digest: str) -> KeptAnswer:
    _expired().filter(owner=by, key=key).delete()
    fresh = KeptAnswer(owner=by, key=key, request_digest=request_digest)
    KeptAnswer.objects.bulk_create([fresh], ignore_conflicts=True)  # waits for a twin's transaction
    return KeptAnswer.objects.select_for_update().get(owner=by, key=key)


def _expired() -> Any:
    return KeptAnswer.objects.filter(created_at__lt=in_seconds(-KEPT_SECONDS))
