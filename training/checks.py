"""What `manage.py check --deploy` looks at beside Django's own list."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import Error as DatabaseError

from heimdall.site import database, private_files
from training.errors import StorageRefused, StorageUnavailable


@register(deploy=True)
def the_store_can_be_used(**_: Any) -> list[CheckMessage]:
    """The bucket is there and its keys fit; a worker that is misconfigured would not start."""
    from training.store import checkpoints  # not for each command that starts

    try:
        checkpoints.mark()
    except StorageRefused as error:
        return [Error(str(error), id="heimdall.E001")]
    except StorageUnavailable as error:
        return [Error(str(error), hint="Is the store running, and is its address right?", id="heimdall.E002")]
    return []


@register(deploy=True)
def nobody_else_of_this_machine_reads_the_data(**_: Any) -> list[CheckMessage]:
    """`make run`, the web server and the worker close the folder when they start."""
    found = private_files.open_to_others(settings.DATA_DIR)
    if not found:
        return []
    message = f"Other accounts of this machine can use {', '.join(str(path) for path in found[:5])}."
    return [Warning(message, hint=f"Run chmod -R go-rwx {settings.DATA_DIR}", id="heimdall.W003")]


@register(deploy=True)
def the_database_does_all_that_is_asked_of_it(**_: Any) -> list[CheckMessage]:
    try:
        return [*shortcomings()]
    except DatabaseError as error:
        hint = "Is the database running, and is DATABASE_URL right?"
        return [Error(f"The database cannot be used: {error}", hint=hint, id="heimdall.E003")]


def shortcomings() -> list[Warning]:
    """What a pooler of transactions takes away. Raises django.db.Error where the database cannot be asked."""
    from training.queue import commits

    found = []
    if not commits.notifications_arrive():
        message = "What PostgreSQL says (LISTEN) is not heard: jobs start, pauses and pages are seen up to 2 s late."
        remedy = (
            "Set HEIMDALL_LISTEN_URL to the address of PostgreSQL itself, or let the pooler pool sessions."
        )
        found.append(Warning(message, hint=remedy, id="heimdall.W001"))
    if lost := database.lost_limits():
        message = f"The pooler leaves out limits of Heimdall's connections: {', '.join(lost)}."
        remedy = (
            "Set them in PostgreSQL: ALTER ROLE heimdall SET idle_in_transaction_session_timeout = '30s'."
        )
        found.append(Warning(message, hint=remedy, id="heimdall.W002"))
    return found
