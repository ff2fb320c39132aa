"""What a client meets beside the refusals of heimdall/errors.py, and the exception for an answer of the API."""

from __future__ import annotations

from typing import Any

from heimdall import errors
from heimdall.errors import HeimdallError


class ApiError(HeimdallError):
    """The server refused with a code that has no class of its own; `code` is the server's."""


class ServerUnreachable(HeimdallError):
    """Nothing answered at the address, or the connection ended and did not come back."""

    code = "server_unreachable"


class CertificateRefused(ServerUnreachable):
    """The server's certificate is not one that this machine trusts."""

    code = "certificate_refused"


class NotHeimdall(HeimdallError):
    """Something answered, and it was not Heimdall's API: a proxy's page, or another program."""

    code = "not_heimdall"


class OlderServer(HeimdallError):
    """The server does not know what it was asked: it is older than this client."""

    code = "older_server"


class LoginRequired(HeimdallError):
    """There is no token, or it is wrong, was revoked or has expired."""

    code = "not_authenticated"


class TooManyRequests(HeimdallError):
    """The server asks to slow down, and did so several times in a row."""

    code = "throttled"


class BodyTooLarge(HeimdallError):
    """What was sent is larger than the server takes."""

    code = "too_large"


class ServerFailed(HeimdallError):
    """The server made a mistake; its log says which."""

    code = "server_error"


class DatabaseUnavailable(HeimdallError):
    """The server cannot reach its database now. Trying again later may help."""

    code = "database_unavailable"


class DatasetDamaged(HeimdallError):
    """The file of a dataset is gone or damaged on the server."""

    code = "bad_dataset"


class CodeDamaged(HeimdallError):
    """The archive of a program's code is gone or damaged on the server."""

    code = "bad_code"


class DownloadBroken(HeimdallError):
    """A file did not arrive whole, or failed its check. Asking again goes on where it stopped, or begins anew."""

    code = "download_broken"


class ProfileUnknown(HeimdallError):
    """No server is known by this name, or none at all."""

    code = "profile_unknown"


class MissingPackage(HeimdallError):
    """Something asked for needs a package that is not installed here."""

    code = "missing_package"


BY_CODE: dict[str, type[HeimdallError]] = {
    kind.code: kind
    for kind in (
        errors.BadCheckpoint,
        errors.EditedMeanwhile,
        errors.InvalidConfig,
        errors.InvalidInput,
        errors.KeyReused,
        errors.LimitReached,
        errors.LocatorBusy,
        errors.NoGoodCheckpoint,
        errors.NotAllowed,
        errors.NotFound,
        errors.RequestInProgress,
        errors.StorageRefused,
        errors.StorageUnavailable,
        errors.SuggestionFailed,
        errors.TransitionRefused,
        errors.UnknownRecipe,
        BodyTooLarge,
        CodeDamaged,
        DatasetDamaged,
        DatabaseUnavailable,
        LoginRequired,
        ServerFailed,
        TooManyRequests,
    )
}


def from_detail(detail: dict[str, Any]) -> HeimdallError:
    """The `error` of an answer as an exception, with the sentence that the server wrote."""
    code = str(detail.get("code", "error"))
    kind = BY_CODE.get(code, ApiError)
    found = kind.__new__(kind)
    Exception.__init__(found, str(detail.get("message", code)))
    if kind is ApiError:
        found.code = code
    if issubclass(kind, errors.InvalidInput):
        found.fields = detail.get("fields") or {}
    if isinstance(found, errors.TransitionRefused):
        stop = detail.get("stop") or {}
        found.status = detail.get("status") or ""
        found.stop, found.stop_at = stop.get("kind", ""), stop.get("at", "")
        found.verbs = tuple(detail.get("verbs") or ())
    return found
