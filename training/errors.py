"""The errors of jobs and of what keeps them. Each is a sentence for the reader and a `code` for programs."""

# Doors map errors to answers from this one module.
from heimdall.errors import HeimdallError as HeimdallError
from heimdall.errors import InvalidConfig as InvalidConfig
from heimdall.errors import InvalidInput as InvalidInput
from heimdall.errors import UnknownRecipe as UnknownRecipe


class NotFound(HeimdallError):
    """The thing does not exist, or the actor may not know that it does."""

    code = "not_found"


class NotAllowed(HeimdallError):
    """The actor may see the job but may not do this to it."""

    code = "not_allowed"


class TransitionRefused(HeimdallError):
    """The job's state, or a guard, does not allow the verb. Nothing was changed."""

    code = "transition_refused"

    def __init__(
        self,
        message: str,
        *,
        status: str = "",
        stop: str = "",
        stop_at: str = "",
        verbs: tuple[str, ...] = (),
    ):
        super().__init__(message)
        self.status = status
        self.stop = stop
        self.stop_at = stop_at
        self.verbs = verbs


class LimitReached(InvalidInput):
    """One person has as much as one person may have."""

    code = "limit_reached"


class StaleAttempt(HeimdallError):
    """Another attempt owns the job by now: the worker that asks must drop everything."""

    code = "stale_attempt"


class KeyReused(HeimdallError):
    """An idempotency key came back with another request."""

    code = "idempotency_key_reused"


class RequestInProgress(HeimdallError):
    """The first request with an idempotency key is not answered yet. Asking again later helps."""

    code = "request_in_progress"


class StorageUnavailable(HeimdallError):
    """The store of checkpoints cannot be reached or written now. Trying again later may help."""

    code = "storage_unavailable"


class StorageRefused(StorageUnavailable):
    """The store was reached and refuses: somebody has to change a key, a permission or a setting."""

    code = "storage_refused"


class BadCheckpoint(HeimdallError):
    """A checkpoint was read and failed its check."""

    code = "bad_checkpoint"


class NoGoodCheckpoint(HeimdallError):
    """Checkpoints were stored, and every one of them failed its check."""

    code = "no_good_checkpoint"


class AddressRefused(HeimdallError):
    """A webhook may not call this address, or it is no address."""

    code = "address_refused"


class NotDelivered(HeimdallError):
    """A message did not reach its receiver. It is tried again; `status` is the HTTP status where there was one."""

    code = "not_delivered"

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(message)
        self.status = status
