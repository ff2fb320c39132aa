"""What both wings raise on purpose. Each is a sentence for the reader and a `code` for programs."""


class HeimdallError(Exception):
    """The base: `str(error)` is a sentence, `error.code` names the kind."""

    code = "error"


class InvalidInput(HeimdallError):
    """Input was refused; `fields` maps a field's name to its messages."""

    code = "invalid"

    def __init__(self, fields: dict[str, list[str]]):
        self.fields = fields
        super().__init__(sentence_of(fields))

    @property
    def sentences(self) -> str:
        """Without the names of the fields, for people who have them before their eyes."""
        return " ".join(message for messages in self.fields.values() for message in messages)


def sentence_of(fields: dict[str, list[str]]) -> str:
    """Every message behind the name of its field, unless it begins with that name anyway."""
    return "; ".join(_named(name, " ".join(messages)) for name, messages in fields.items())


def _named(name: str, message: str) -> str:
    names_itself = message.split(" ", 1)[0].rstrip(":") in (name, name.rpartition(".")[2])
    return message if names_itself else f"{name}: {message}"


class InvalidConfig(InvalidInput):
    """A recipe's config was refused."""

    code = "invalid_config"


class UnknownRecipe(InvalidInput):
    """No recipe has this name."""

    code = "unknown_recipe"

    def __init__(self, name: str, known: list[str]):
        shown = ", ".join(known) or "none"
        super().__init__({"recipe": [f"There is no recipe {name!r}. Choose one of: {shown}."]})


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


class EditedMeanwhile(HeimdallError):
    """Somebody changed what is to be changed since it was read."""

    code = "precondition_failed"


class KeyReused(HeimdallError):
    """An idempotency key came back with another request."""

    code = "idempotency_key_reused"


class RequestInProgress(HeimdallError):
    """The first request with an idempotency key is not answered yet. Asking again later helps."""

    code = "request_in_progress"


class LocatorBusy(HeimdallError):
    """As many transmitters are being located as this server locates at once. Trying again later helps."""

    code = "locator_busy"


class SuggestionFailed(HeimdallError):
    """What a sweep is to try next could not be found out. It is asked again later."""

    code = "suggestion_failed"


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
