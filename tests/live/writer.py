"""Another process that writes into a server's database: one JSON command a line in, one JSON answer a line out.

python -m tests.live.writer       with the environment of the server
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from typing import Any

import django

django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402

from heimdall.trainer.protocol import EpochDone  # noqa: E402
from tests.support.stored import stored_checkpoint  # noqa: E402
from tests.support.tokens import token_of  # noqa: E402
from training import services  # noqa: E402
from training.models import ApiToken, Attempt, LogChunk, TrainingJob  # noqa: E402
from training.services.tokens import digest_of, revoke_token  # noqa: E402

COMMANDS = {}


def command(function):
    COMMANDS[function.__name__] = function
    return function


@command
def migrate() -> None:
    call_command("migrate", verbosity=0)


@command
def person(name: str, team: str = "", superuser: bool = False, views: bool = False) -> dict[str, str]:
    """Somebody with a session and a token."""
    user = User.objects.create(username=name, is_superuser=superuser)
    user.set_unusable_password()
    user.save()
    if team:
        user.groups.add(Group.objects.get_or_create(name=team)[0])
    if views:
        user.user_permissions.add(Permission.objects.get(codename="view_trainingjob"))
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.create()
    return {"name": name, "session": session.session_key, "token": token_of(user)}


@command
def submit(by: str, name: str = "a job", team: str = "", epochs: int = 3) -> int:
    group = Group.objects.get(name=team) if team else None
    user = User.objects.get(username=by)
    return services.submit(
        by=user, job_name=name, recipe="tiny", config={"epochs": epochs}, team=group
    ).job.pk


@command
def claim(job: int) -> int:
    attempt = services.claim(services.register_node(), slot=0, pid=1, job_id=job)
    assert attempt
    return attempt.number


@command
def beat(
    job: int, first: int = 1, last: int = 0, epoch: int = 1, log: str = "", closes: bool = False
) -> None:
    """Steps first..last of an epoch, a piece of log, and with `closes` the epoch's values."""
    steps = [{"step": step, "epoch": epoch, "loss": 1 / step} for step in range(first, last + 1)]
    values = {"train_loss": 1 / last, "val_loss": 2 / last, "odd": "nan"} if closes else {}
    epochs = [EpochDone(last, epoch, values)] if closes else []
    services.beat(_attempt(job), services.Report(steps=steps, epochs=epochs, log=log))


@command
def store(job: int, step: int, epoch: int) -> None:
    digest = f"{job:032x}{step:032x}"
    stored = stored_checkpoint(f"jobs/{job}/{digest}", step=step, epoch=epoch, digest=digest, size=1)
    services.record_checkpoint(_attempt(job), stored)


@command
def crash(job: int) -> None:
    services.crash(_attempt(job), exit_code=-9)


@command
def verb(verb: str, job: int, by: str) -> None:
    services.VERBS[verb](TrainingJob.objects.get(pk=job), by=User.objects.get(username=by))


@command
def note(job: int, count: int, pause: float = 0.0) -> list[float]:
    """That many events; and when each was committed, by the clock that the processes of a host share."""
    attempt, moments = _attempt(job), []
    for number in range(count):
        services.note(attempt, "note", f"note {number}")
        moments.append(time.monotonic())
        time.sleep(pause)
    return moments


@command
def touch(job: int, count: int, pause: float) -> float:
    """A beat with one step, again and again: how long the slowest took."""
    slowest = 0.0
    for number in range(count):
        began = time.monotonic()
        beat(job, number + 1, number + 1)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(pause)
    return slowest


@command
def long_log(job: int, chunks: int, characters: int) -> None:
    """Much log, in one transaction: as if the training had printed for hours."""
    attempt = _attempt(job)
    with transaction.atomic():
        LogChunk.objects.bulk_create(
            LogChunk(job_id=job, attempt=attempt.number, text=chr(97 + number % 26) * characters)
            for number in range(chunks)
        )
        services.beat(attempt)


@command
def log_out(session: str) -> None:
    SessionStore(session).delete()


@command
def revoke(token: str) -> None:
    revoke_token(ApiToken.objects.get(digest=digest_of(token)))


@command
def deactivate(name: str) -> None:
    user = User.objects.get(username=name)
    user.is_active = False
    user.save()


@command
def leave_team(name: str, team: str) -> None:
    User.objects.get(username=name).groups.remove(Group.objects.get(name=team))


@command
def join_team(name: str, team: str) -> None:
    User.objects.get(username=name).groups.add(Group.objects.get(name=team))


def _attempt(job: int) -> Attempt:
    return Attempt.objects.select_related("job").get(job=job, ended_at=None)


def main() -> None:
    for line in sys.stdin:
        message: dict[str, Any] = json.loads(line)
        try:
            answer = {"result": COMMANDS[message["call"]](**message["with"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
