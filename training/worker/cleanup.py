"""Removing what nobody needs any more: folders on this host, retired checkpoints, files that no row names."""

from __future__ import annotations

import logging
import re
import shutil
import time
from pathlib import Path

from django.conf import settings
from django.db import transaction

from heimdall.errors import HeimdallError
from training import host, services
from training.lifecycle import TERMINAL, Status
from training.models import Attempt, Node, TrainingJob
from training.services import tokens

logger = logging.getLogger(__name__)
FOLDERS_A_ROUND = 500
_JOB = re.compile(r"[0-9]{1,18}")  # the name of a scratch folder
_ASIDE = ".removed"
# Job and attempt in the name of a staging folder, and the host, where another one leads the attempt.
_OWNER = re.compile(r"([0-9]{1,18})-a([0-9]{1,9})(?:-of-(.+))?")


def sweep_staging(node: Node) -> None:
    """Remove the staging folders of attempts of this host that are over."""
    if not settings.STAGING_DIR.is_dir():
        return
    for left in settings.STAGING_DIR.glob("code-*"):  # of an upload that was killed
        if left.stat().st_mtime < time.time() - settings.ORPHAN_GRACE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    for folder in settings.STAGING_DIR.iterdir():
        owner = _OWNER.fullmatch(folder.name)
        if not owner:
            continue
        attempt = Attempt.objects.filter(job_id=int(owner[1]), number=int(owner[2])).first()
        is_ours = owner[3] == host.folder().name if owner[3] else attempt and attempt.node_id == node.pk
        if attempt is None or (is_ours and attempt.ended_at is not None):
            shutil.rmtree(folder, ignore_errors=True)


def sweep_scratch() -> None:
    """Remove the scratch folders of jobs that are over or gone, and empty ones of jobs that do not run.

    They are caches: what a resume needs is brought again.
    """
    if not settings.SCRATCH_DIR.is_dir():
        return
    folders = [folder for folder in settings.SCRATCH_DIR.iterdir() if folder.is_dir()]
    of_jobs = {int(folder.name): folder for folder in folders if _JOB.fullmatch(folder.name)}
    some = sorted(of_jobs)[:FOLDERS_A_ROUND]
    statuses = dict(TrainingJob.objects.filter(pk__in=some).values_list("pk", "status"))
    for job in some:
        if _may_go(statuses.get(job), of_jobs[job]):
            _put_aside(job, of_jobs[job])
    for left in settings.SCRATCH_DIR.glob(f"*{_ASIDE}"):
        shutil.rmtree(left, ignore_errors=True)


def retire() -> None:
    """What is done now and then: messages of long ago, retention, and files that no row names."""
    services.forget_deliveries()
    services.forget_answers()
    tokens.forget_job_tokens()
    while services.fold_resources():
        pass
    try:
        services.retire_all_checkpoints()
        services.delete_orphaned_files()
        services.delete_unused_code()
    except HeimdallError as error:
        logger.warning("The store of checkpoints was not swept: %s", error)


def _may_go(status: str | None, folder: Path) -> bool:
    return status is None or status in TERMINAL or (status != Status.RUNNING and not any(folder.iterdir()))


def _put_aside(job: int, folder: Path) -> None:
    """Take the folder away from its job while the job's row is locked: no attempt can begin meanwhile and use it."""
    with transaction.atomic():
        row = TrainingJob.objects.select_for_update().only("status").filter(pk=job).first()
        if _may_go(row.status if row else None, folder):
            folder.rename(folder.with_name(f"{folder.name}{_ASIDE}"))
