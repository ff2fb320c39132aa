"""How an attempt ends whose recipe raised (failed) or whose trainer died (crashed)."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings

from heimdall.trainer.exit_codes import ENDED_ITSELF, MEANING
from training.lifecycle import Status, Verb
from training.models import (
    Attempt,
    TrainingJob,
)
from training.services.landing import back_to_checkpoint
from training.services.leases import WORKER, end_attempt
from training.services.storable import MAX_DETAIL_CHARACTERS, MAX_SENTENCE_CHARACTERS, shortened
from training.services.transition import move


def fail(attempt: Attempt, *, code: str, message: str, exit_code: int | None = None) -> None:
    """The recipe raised, or the job cannot go on: failed, or cancelled where that was asked for."""
    changes = {"error_code": code[:40], "error_message": shortened(message, MAX_DETAIL_CHARACTERS)}
    first = shortened(message.strip().splitlines()[0] if message.strip() else code, MAX_SENTENCE_CHARACTERS)

    def act(job: TrainingJob) -> None:
        move(job, Verb.FAIL, by=WORKER, message=f"Failed: {first}", changes=changes, data={"code": code})

    end_attempt(attempt, Verb.FAIL, act, exit_code=exit_code, detail=message)


def crash(attempt: Attempt, *, exit_code: int | None, detail: str = "") -> Status:
    """The trainer died under us. Back to the last checkpoint, or failed where it dies again and again, or where its
    own code ended it: that would do so again."""

    def act(job: TrainingJob) -> None:
        again = job.crash_step is not None and job.current_step <= job.crash_step
        deaths = {
            "crashes_at_step": job.crashes_at_step + 1 if again else 1,
            "crash_step": max(job.current_step, job.crash_step or 0),
            "crashes_since_checkpoint": job.crashes_since_checkpoint + 1,
        }
        if exit_code == ENDED_ITSELF and not job.stop:
            sentence = f"The trainer ended by itself ({how_it_died(exit_code)})."
            _fail_for_good(job, "ended_itself", sentence, detail, deaths, exit_code)
        elif _is_crash_loop(deaths) and not job.stop:
            _fail_for_good(job, "crash_loop", _crash_words(deaths, exit_code), detail, deaths, exit_code)
        else:
            message = f"The trainer died ({how_it_died(exit_code)})."
            back_to_checkpoint(
                job, Verb.CRASH, message, by=WORKER, changes=deaths, data={"exit_code": exit_code}
            )

    return Status(end_attempt(attempt, Verb.CRASH, act, exit_code=exit_code, detail=detail).status)


def how_it_died(exit_code: int | None) -> str:
    """The exit code or the signal, in words, and what an end of ours means."""
    if exit_code is None:
        return "unknown how"
    if exit_code >= 0:
        meaning = MEANING.get(exit_code)
        return f"exit code {exit_code}" + (f": {meaning}" if meaning else "")
    try:
        return f"signal {-exit_code}, {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"


def _is_crash_loop(deaths: dict[str, Any]) -> bool:
    return (
        deaths["crashes_at_step"] >= settings.CRASHES_AT_ONE_STEP
        or deaths["crashes_since_checkpoint"] >= settings.CRASHES_WITHOUT_CHECKPOINT
    )


def _crash_words(deaths: dict[str, Any], exit_code: int | None) -> str:
    times = deaths["crashes_at_step"]
    sentence = f"The trainer died {times} times in succession near step {deaths['crash_step']}"
    if times < settings.CRASHES_AT_ONE_STEP:
        sentence = f"The trainer died {deaths['crashes_since_checkpoint']} times without a newer checkpoint"
    return f"{sentence} ({how_it_died(exit_code)})."


def _fail_for_good(
    job: TrainingJob, code: str, sentence: str, detail: str, deaths: dict[str, Any], exit_code: int | None
) -> None:
    shown = shortened(f"{sentence}\n{detail}".strip(), MAX_DETAIL_CHARACTERS)
    changes = deaths | {"error_code": code, "error_message": shown}
    move(job, Verb.FAIL, by=WORKER, message=sentence, changes=changes, data={"exit_code": exit_code})
