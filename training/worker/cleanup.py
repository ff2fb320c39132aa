"""Removing what nobody needs any more: folders on this host, retired checkpoints, files that no row names."""

from __future__ import annotations

import logging
import re
import shutil

from django.conf import settings

from heimdall.errors import HeimdallError
from training import services
from training.models import Attempt, Node

logger = logging.getLogger(__name__)
_OWNER = re.compile(r"([0-9]{1,18})-a([0-9]{1,9})")  # job and attempt, in the name of a staging folder


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
