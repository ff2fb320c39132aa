"""The errors of the app. Those that a client meets too are at home in heimdall/errors.py."""

# Doors map errors to answers from this one module.
from heimdall.errors import BadCheckpoint as BadCheckpoint
from heimdall.errors import EditedMeanwhile as EditedMeanwhile
from heimdall.errors import HeimdallError as HeimdallError
from heimdall.errors import InvalidConfig as InvalidConfig
from heimdall.errors import InvalidInput as InvalidInput
from heimdall.errors import KeyReused as KeyReused
from heimdall.errors import LimitReached as LimitReached
from heimdall.errors import LocatorBusy as LocatorBusy
from heimdall.errors import NoGoodCheckpoint as NoGoodCheckpoint
from heimdall.errors import NotAllowed as NotAllowed
from heimdall.errors import NotFound as NotFound
from heimdall.errors import RequestInProgress as RequestInProgress
from heimdall.errors import StorageRefused as StorageRefused
from heimdall.errors import StorageUnavailable as StorageUnavailable
from heimdall.errors import SuggestionFailed as SuggestionFailed
from heimdall.errors import TransitionRefused as TransitionRefused
from heimdall.errors import UnknownRecipe as UnknownRecipe


class StaleAttempt(HeimdallError):
    """Another attempt owns the job by now: the worker that asks must drop everything."""

    code = "stale_attempt"


class AddressRefused(HeimdallError):
    """A webhook may not call this address, or it is no address."""

    code = "address_refused"


class NotDelivered(HeimdallError):
    """A message did not reach its receiver. It is tried again; `status` is the HTTP status where there was one."""

    code = "not_delivered"

    def __init__(self, message: str, *, status: int | None = None):
        super().__init__(message)
        self.status = status
