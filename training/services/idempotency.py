"""A request that is sent twice with the same idempotency key is done once; the second gets the first one's answer.

Short requests hold one transaction. Those that take long (a fork copies a file) take the key in a transaction of its
own first, so that nobody waits for the database meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, transaction

from training.errors import KeyReused, RequestInProgress
from training.models import KeptAnswer
from training.services.clock import in_seconds

KEPT_SECONDS = 24 * 3600
CLAIM_SECONDS = 15 * 60
Keep = Callable[[dict[str, Any]], None]


def answer_once(
    *, by: Any, key: str, request_digest: str, act: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """What `act` answers, or what it answered to this key before; and whether it is from before.

    The key and what `act` writes are one transaction: either both stand, or, where `act` refuses, neither does. A
    twin that comes meanwhile waits for the row of the first.
    """
    with transaction.atomic():
        row = _take(by, key, request_digest)
        if row.answer is not None:
            return row.answer, True
        row.answer = act()
        row.save(update_fields=["answer"])
        return row.answer, False


def answer_slow_request_once(
    *, by: Any, key: str, request_digest: str, act: Callable[[Keep], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """As `answer_once`, for what takes long: a twin that comes meanwhile is refused instead of waiting.

    `act` hands its answer to the function that it is given, in the transaction of what it did. Where it dies before,
    the key is free again after CLAIM_SECONDS; where it was only slow, it finds its claim gone and undoes its work.
    """
    row = _claim(by, key, request_digest)
    if row.answer is not None:
        return row.answer, True
    try:
        return act(lambda answer: _keep(row, answer)), False
    except BaseException:
        KeptAnswer.objects.filter(pk=row.pk, answer__isnull=True).delete()
        raise


def forget_answers() -> int:
    """Answers are kept for a day."""
    return _expired().delete()[0]


@transaction.atomic
def _claim(by: Any, key: str, request_digest: str) -> KeptAnswer:
    """A row of our own without an answer, or the one that was answered before."""
    claims = KeptAnswer.objects.filter(owner=by, key=key)
    claims.filter(answer__isnull=True, created_at__lt=in_seconds(-CLAIM_SECONDS)).delete()
    _expired().filter(owner=by, key=key).delete()
    try:
        with transaction.atomic():
            return KeptAnswer.objects.create(owner=by, key=key, request_digest=request_digest)
    except IntegrityError:
        row = claims.first()
    if row is not None:
        _require_the_same_request(row, request_digest)
    if row is None or row.answer is None:
        raise RequestInProgress("The first request with this Idempotency-Key is still being done. Ask again.")
    return row


def _keep(row: KeptAnswer, answer: dict[str, Any]) -> None:
    if KeptAnswer.objects.filter(pk=row.pk, answer__isnull=True).update(answer=answer) != 1:
        raise RequestInProgress(
            "This request took so long that another one with its Idempotency-Key took its place; nothing was kept."
        )


def _take(by: Any, key: str, request_digest: str) -> KeptAnswer:
    _expired().filter(owner=by, key=key).delete()
    fresh = KeptAnswer(owner=by, key=key, request_digest=request_digest)
    KeptAnswer.objects.bulk_create([fresh], ignore_conflicts=True)  # waits for a twin's transaction
    row = KeptAnswer.objects.select_for_update().get(owner=by, key=key)
    _require_the_same_request(row, request_digest)
    return row


def _require_the_same_request(row: KeptAnswer, request_digest: str) -> None:
    if row.request_digest != request_digest:
        raise KeyReused(
            "This Idempotency-Key came with another request within the last day. Use a new key for a new request."
        )


def _expired() -> Any:
    return KeptAnswer.objects.filter(created_at__lt=in_seconds(-KEPT_SECONDS))
