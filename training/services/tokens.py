"""API tokens: made, shown once, looked up by their hash, revoked."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Now

from heimdall.errors import InvalidInput
from training import policy
from training.errors import NotFound
from training.fields import clean_name
from training.lifecycle import Status
from training.models import ApiToken, TrainingJob
from training.services.clock import in_seconds

PREFIX = "heimdall_"  # by which scanners for leaked secrets, and people, know what it is
MOST, LONGEST_DAYS = 100, 3_650
SEEN_EVERY = timedelta(minutes=1)  # how exact `last_used_at` is: not every request writes
_VALUE = re.compile(rf"{PREFIX}[0-9a-f]{{48}}")
_HEADER = re.compile(r"(?:bearer|token) +(\S.*?) *", re.IGNORECASE)

logger = logging.getLogger(__name__)


def make_token(
    user: User, *, name: Any, scope: str = ApiToken.Scope.ADMIN, days: int | None = None
) -> tuple[ApiToken, str]:
    """A new token and its value, which is kept nowhere. `days` until it expires; None: it does not."""
    fields = {"name": _clean_name(name), "scope": _clean_scope(scope), "expires_at": _expiry(days)}
    if tokens_of(user).count() >= MOST:
        raise InvalidInput({"name": [f"There are {MOST} tokens already; revoke one first."]})
    value = _new_value()
    try:
        with transaction.atomic():
            token = ApiToken.objects.create(user=user, digest=digest_of(value), **fields)
    except IntegrityError as error:
        raise InvalidInput(
            {"name": [f"There is a token called {fields['name']}; revoke it or take another name."]}
        ) from error
    token.refresh_from_db()
    logger.info("Token %r of %s was made, scope %s", token.name, user.get_username(), token.scope)
    return token, value


def issue_job_token(job: TrainingJob) -> str:
    """The value of a new token with which the job's newest attempt reports what it measures, and does nothing else.

    It is refused once the attempt is over, and the one before it from now on.
    """
    value = _new_value()
    ApiToken.objects.filter(job=job).delete()
    ApiToken.objects.create(
        user=job.owner,
        name=f"reports of job {job.pk}",
        digest=digest_of(value),
        scope=ApiToken.Scope.REPORT,
        job=job,
        attempt=job.attempt,
    )
    return value


def forget_job_tokens() -> int:
    """Delete those that will not hold any more: their attempts are over."""
    over = ~Q(job__status=Status.RUNNING) | ~Q(job__attempt=F("attempt"))
    return ApiToken.objects.filter(over, job__isnull=False).delete()[0]


def revoke_token(token: ApiToken) -> None:
    """From the commit on it is refused; sockets that were opened with it are closed."""
    token.delete()  # of the row, not of a query: announcements hear of it
    logger.info("Token %r of %s was revoked", token.name, token.user.get_username())


def tokens_of(user: User) -> QuerySet[ApiToken]:
    """Those that the user made; jobs have their own."""
    return ApiToken.objects.filter(user=user, job=None).annotate(has_expired=_has_expired())


def token_named(user: User, name: str) -> ApiToken:
    found = tokens_of(user).filter(name=name).first() if "\x00" not in name else None
    if found is None:
        raise NotFound(f"{user.get_username()} has no token {name}.")
    return found


def value_in(header: str | None) -> str | None:
    """The token in an Authorization header; None where it has none: 'Bearer' and 'Token' say the same."""
    match = _HEADER.fullmatch(header or "")
    return match[1] if match else None


def person_with(value: str, *, notes_use: bool = True) -> User | None:
    """The active user for whom the token stands now, with the rights of its scope."""
    if not _VALUE.fullmatch(value):
        return None
    valid = (Q(expires_at__isnull=True) | Q(expires_at__gt=Now())) & (
        Q(job__isnull=True) | Q(job__status=Status.RUNNING, job__attempt=F("attempt"))
    )
    of_user = ApiToken.objects.select_related("user").filter(valid, digest=digest_of(value))
    token = of_user.annotate(is_unseen=_is_unseen()).first()
    if token is None or not token.user.is_active:
        return None
    if notes_use and token.is_unseen:
        _note_use(token)
    return policy.bind_scope(token.user, token.scope, token.job_id)


def digest_of(value: str) -> str:
    """Without salt and stretching: nobody guesses 192 random bits."""
    return hashlib.sha256(value.encode()).hexdigest()


def _note_use(token: ApiToken) -> None:
    try:
        with transaction.atomic():
            ApiToken.objects.filter(pk=token.pk).update(last_used_at=Now())
    except DatabaseError as error:  # a full disk keeps nobody from reading
        logger.warning("When a token was used cannot be noted: %s", error)


def _is_unseen() -> Case:
    seen = Q(last_used_at__gt=Now() - SEEN_EVERY)
    return Case(When(seen, then=Value(False)), default=Value(True))


def _has_expired() -> Case:
    return Case(When(expires_at__lte=Now(), then=Value(True)), default=Value(False))


def _clean_name(name: Any) -> str:
    return clean_name(name, field="name", of="the token", longest=80)


def _clean_scope(scope: str) -> str:
    if scope not in policy.SCOPES_OF_PEOPLE:
        known = ", ".join(policy.SCOPES_OF_PEOPLE)
        raise InvalidInput({"scope": [f"{scope!r} is no scope; there are: {known}."]})
    return scope


def _new_value() -> str:
    return PREFIX + secrets.token_hex(24)


def _expiry(days: int | None) -> Any:
    if days is None:
        return None
    if not 1 <= days <= LONGEST_DAYS:
        raise InvalidInput({"days": [f"Give a number of days from 1 to {LONGEST_DAYS}."]})
    return in_seconds(timedelta(days=days).total_seconds())
