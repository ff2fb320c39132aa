"""Finding attempts whose supervisor is gone: at once on its own host, and by the lease from any other."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from heimdall.files import write_whole
from training import host, services
from training.models import Attempt, Node


def reap_dead_supervisors(node: Node) -> list[Attempt]:
    """Attempts of this host whose process is known to be gone: an earlier boot, or no such process. At once."""
    lost = services.orphaned_attempts(node, host.is_alive)
    reason = "Its supervisor is gone."
    return [attempt for attempt in lost if services.reap(attempt, reason=reason, even_if_leased=True)]


def reap_expired() -> list[Attempt]:
    """Attempts of any host whose lease ran out, seen so in two looks that are a heartbeat apart.

    Looks are kept by this host's monotonic clock; a look that fails changes nothing.
    """
    first_seen = _read_looks()
    expired = {_look(attempt): attempt for attempt in services.expired_attempts()}
    now = time.monotonic()
    seen = {look: first_seen.get(look, now) for look in expired}
    _write_looks(seen)
    due = [expired[look] for look, since in seen.items() if now - since >= settings.HEARTBEAT_SECONDS]
    return [attempt for attempt in due if services.reap(attempt)]


def _look(attempt: Attempt) -> str:
    return f"{attempt.pk} {attempt.job.lease_expires_at.isoformat()}"


def _read_looks() -> dict[str, float]:
    with suppress(OSError, ValueError):
        kept = json.loads(_looks_file().read_text())
        if kept["boot"] == _boot_id():  # a monotonic clock starts anew with each boot
            return kept["looks"]
    return {}


def _write_looks(looks: dict[str, float]) -> None:
    write_whole(_looks_file(), json.dumps({"boot": _boot_id(), "looks": looks}), durable=False)


def _boot_id() -> str:
    return Node.objects.filter(name=settings.NODE_NAME).values_list("boot_id", flat=True).first() or ""


def _looks_file() -> Path:
    return host.folder() / "expired.json"
