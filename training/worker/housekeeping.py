"""Who runs next, and what a host looks after every few seconds.

Nothing here is needed for safety: messages may be lost, and lost attempts are fenced.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from heimdall.errors import HeimdallError
from heimdall.files import write_whole
from training import host, queue, services
from training.models import Attempt, Node
from training.scheduling import preemption

logger = logging.getLogger(__name__)
RETIRE_SECONDS = 600
_OWNER = re.compile(r"([0-9]{1,18})-a([0-9]{1,9})")  # job and attempt, in the name of a staging folder


def keep_house(number: int) -> None:
    """One round of this host's housekeeping."""
    host.answer_canary(number)
    node = Node.objects.get(name=settings.NODE_NAME)
    reap_dead_supervisors(node)
    reap_expired()
    wake_waiting(node)
    preemption.make_room()
    sweep_staging(node)
    if _is_due("retire", RETIRE_SECONDS):
        retire()


def after_a_vain_wake_up(number: int, *, has_slot: bool) -> None:
    """A message of which this host could make nothing: others get it, and a full host makes room for urgent work."""
    if not has_slot:
        preemption.make_room()
    if number != queue.FOR_ONE_HOST:
        services.pass_on(Node.objects.get(name=settings.NODE_NAME))


def wake_waiting(node: Node) -> int:
    """Send again what may have been lost: a wake-up for each waiting job that this host has a slot for."""
    return services.wake(node, max(settings.SLOTS - len(host.supervisors()), 0))


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


def sweep_staging(node: Node) -> None:
    """Remove the staging folders of attempts of this host that are over."""
    if not settings.STAGING_DIR.is_dir():
        return
    for folder in settings.STAGING_DIR.iterdir():
        owner = _OWNER.fullmatch(folder.name)
        if not owner:
            continue
        attempt = Attempt.objects.filter(job_id=int(owner[1]), number=int(owner[2])).first()
        if attempt is None or (attempt.node_id == node.pk and attempt.ended_at is not None):
            shutil.rmtree(folder, ignore_errors=True)


def retire() -> None:
    """What is done now and then: messages of long ago, retention, and files that no row names."""
    services.forget_deliveries()
    try:
        services.retire_all_checkpoints()
        services.delete_orphaned_files()
    except HeimdallError as error:
        logger.warning("The store of checkpoints was not swept: %s", error)


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


def _is_due(name: str, seconds: float) -> bool:
    """Whether the thing was last done so long ago; if so, it counts as done now."""
    mark = host.folder() / f"{name}.done"
    with suppress(OSError):
        if 0 <= time.time() - mark.stat().st_mtime < seconds:  # else the clock went back: do it once more
            return False
    mark.touch()
    return True
