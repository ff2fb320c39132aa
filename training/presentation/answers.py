"""What a verb's answer says: one word for scripts, in a header too, and the sentence for people."""

from __future__ import annotations

import signal
from typing import Any

from heimdall.errors import HeimdallError, InvalidInput
from training import services
from training.errors import TransitionRefused

ANSWER = "X-Heimdall-Answer"


def words_of(asked: services.Asked) -> tuple[str, str]:
    """The answer in one word, and the sentence for people."""
    match asked:
        case services.Asked(result=services.Result() as result):
            return str(result.answer), result.message
        case services.Asked(error=TransitionRefused() as error):
            return "refused", str(error)
        case services.Asked(error=InvalidInput() as error):
            return "invalid", error.sentences
        case services.Asked(error=HeimdallError() as error):
            return error.code, str(error)
    raise AssertionError(asked)


def too_late(job: dict[str, Any], verb: str) -> str:
    """What a confirmation says of a verb that is not among the job's; nothing where it may still be asked."""
    return "" if verb in job["verbs"] else f"Not possible any more: the job is {job['headline']}."


def how_it_ended(exit_code: int | None) -> str:
    """What a trainer's exit code says: the signal by its name."""
    if exit_code is None:
        return ""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"
