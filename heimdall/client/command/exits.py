"""Exit codes, which are the same as those of the server's own command line where both know them."""

from __future__ import annotations

from heimdall import errors
from heimdall.client import errors as client_errors

BAD_INPUT, UNREADABLE, REFUSED, NOT_ALLOWED, NOT_FOUND = 1, 2, 3, 4, 5
FAILED, CANCELLED, PAUSED = 6, 7, 8
UNREACHABLE, LOGGED_OUT = 9, 10
TIMED_OUT, STOPPED = 124, 130

ENDED = {"completed": 0, "failed": FAILED, "cancelled": CANCELLED, "paused": PAUSED}
AS_ASKED = {"pause": "paused", "cancel": "cancelled", "discard": "cancelled"}
_OF_KIND: dict[type[Exception], int] = {
    errors.TransitionRefused: REFUSED,
    errors.NotAllowed: NOT_ALLOWED,
    errors.NotFound: NOT_FOUND,
    client_errors.ServerUnreachable: UNREACHABLE,
    client_errors.NotHeimdall: UNREACHABLE,
    client_errors.ServerFailed: UNREACHABLE,
    client_errors.DatabaseUnavailable: UNREACHABLE,
    errors.StorageUnavailable: UNREACHABLE,
    client_errors.LoginRequired: LOGGED_OUT,
    client_errors.ProfileUnknown: LOGGED_OUT,
}


def code_of(error: Exception) -> int:
    return next((_OF_KIND[kind] for kind in type(error).__mro__ if kind in _OF_KIND), BAD_INPUT)


def of_waiting(verb: str, status: str) -> int:
    """0 where a job ended as it was asked to, or is completed."""
    return 0 if AS_ASKED.get(verb) == status else ENDED.get(status, 0)
