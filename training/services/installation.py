"""Which hosts may work for this installation."""

from __future__ import annotations

import uuid

from django.conf import settings

from heimdall.errors import HeimdallError
from training.models import Checkpoint, Installation, Node, Shard
from training.services.clock import in_seconds
from training.store import checkpoints


class NotOurs(HeimdallError):
    """This host would work on another store, or with a database that cannot be shared."""

    code = "not_ours"


def join_installation() -> None:
    """Compare the store's mark with the database's; the first worker of all leaves it in both.

    Raises StorageUnavailable where the store cannot be asked.
    """
    found = checkpoints.mark()
    known, is_new = Installation.objects.get_or_create(pk=1, defaults={"store_id": uuid.uuid4().hex})
    if is_new and found and not checkpoints.can_be_shared():
        known.store_id = found  # a new database over the folder of an old one
        known.save(update_fields=["store_id"])
    if not found and not _has_stored_anything():
        found = checkpoints.leave_mark(known.store_id)
    if found != known.store_id:
        raise NotOurs(
            "The store of checkpoints is not the one that this database belongs to: its mark is "
            f"{found or 'missing'}, not {known.store_id}. Check DATABASE_URL, HEIMDALL_DATA_DIR and the HEIMDALL_S3 "
            "variables. A new database needs a bucket, or a HEIMDALL_S3_PREFIX, that no other one has used: each "
            "sweeps away files that it does not know."
        )
    if settings.SQLITE:
        _refuse_a_second_host()


def _has_stored_anything() -> bool:
    return Checkpoint.objects.exists() or Shard.objects.exists()


def _refuse_a_second_host() -> None:
    """SQLite cannot be shared between hosts: its locks and its journal stand on one kernel."""
    recent = in_seconds(-max(60.0, 3 * settings.HEARTBEAT_SECONDS))
    others = Node.objects.filter(last_seen_at__gt=recent).exclude(name=settings.NODE_NAME)
    other = others.first()
    if other:
        raise NotOurs(
            f"Host {other.name} works with this SQLite database, and SQLite serves one host. "
            "Use PostgreSQL (DATABASE_URL), or stop the other worker and wait a minute."
        )
