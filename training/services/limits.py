"""How much one person may ask for and keep, so that nobody takes the whole installation. Each bound is a setting.

What is asked for beyond a bound is refused with a sentence. What a training would store beyond one is not stored,
except for what it ends with: a pause is always kept.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q, Sum

from heimdall.errors import InvalidConfig, InvalidInput
from training import policy
from training.errors import LimitReached
from training.lifecycle import Status
from training.models import Attempt, Checkpoint, CodeArchive, TrainingJob
from training.services.storable import gigabytes
from training.store import checkpoints

UNFINISHED = [Status.QUEUED, Status.RUNNING]


def require_priority(priority: int, *, by: Any, before: int = 0) -> None:
    """Raise InvalidInput for a priority above the ceiling. before: what the job has; lowering it is never refused."""
    ceiling = max(settings.MAX_PRIORITY, before)
    if priority > ceiling and not policy.may_be_urgent(by):
        raise InvalidInput(
            {
                "priority": [
                    f"{ceiling} is the highest priority that you may give (HEIMDALL_MAX_PRIORITY); "
                    "administrators may give more, and users with the permission 'urgent_priority'."
                ]
            }
        )


def require_room_in_queue(owner: Any) -> None:
    """Raise LimitReached where the owner has as many unfinished jobs as one person may. Call it in a transaction.

    Two that submit at once for one person come one after the other.
    """
    if owner.is_superuser:
        return
    get_user_model().objects.select_for_update(no_key=True).filter(pk=owner.pk).values_list("pk").first()
    most = settings.MAX_UNFINISHED_JOBS
    if TrainingJob.objects.filter(owner=owner, status__in=UNFINISHED).count() >= most:
        raise LimitReached(
            {
                "jobs": [
                    f"{owner.get_username()} has {most} jobs queued or running, and more one person may not have "
                    "(HEIMDALL_MAX_UNFINISHED_JOBS). Wait for some to end, or cancel some."
                ]
            }
        )


def require_rare_checkpoints(config: dict[str, Any]) -> None:
    """Raise InvalidConfig for checkpoints by the minute that follow each other too closely."""
    minutes, shortest = config.get("checkpoint_every_minutes", 0), settings.MIN_CHECKPOINT_SECONDS
    if 0 < minutes * 60 < shortest:
        raise InvalidConfig(
            {
                "checkpoint_every_minutes": [
                    f"{shortest / 60:.3g} is the least (HEIMDALL_MIN_CHECKPOINT_SECONDS); "
                    "0 makes none by the minute."
                ]
            }
        )


def why_not_stored(attempt: Attempt, size: int) -> str:
    """The sentence that keeps a checkpoint of so many bytes out of the store; empty where there is room.

    Not to be asked for what an attempt ends with, such as a pause.
    """
    # The retention makes room among those that are not pinned.
    stays = _bytes_of(Q(job=attempt.job_id, pinned=True))
    if stays + size > settings.MAX_CHECKPOINT_GB_PER_JOB * 1e9:
        return (
            f"the pinned checkpoints of this job hold {gigabytes(stays)}, and it may keep "
            f"{settings.MAX_CHECKPOINT_GB_PER_JOB:g} GB (HEIMDALL_MAX_CHECKPOINT_GB_PER_JOB)"
        )
    # A staged file lies on the same disk already, as a rule.
    return _why_the_disk_is_full(0) or _why_one_person_has_enough(attempt.job.owner_id, size)


def require_room_in_store(owner: Any, size: int) -> None:
    """Raise LimitReached where a copy of so many bytes may not be made for this person."""
    if sentence := _why_the_disk_is_full(size) or _why_one_person_has_enough(owner.pk, size):
        raise LimitReached({"checkpoint": [f"Nothing was copied: {sentence}."]})


def require_room_for_code(owner: Any, size: int) -> None:
    """Raise LimitReached where this person may bring no further code of so many bytes: it counts with checkpoints."""
    most = settings.MAX_CHECKPOINT_GB_PER_PERSON * 1e9
    code = CodeArchive.objects.filter(owner=owner).aggregate(size=Sum("file_size", default=0))["size"]
    sentence = _why_the_disk_is_full(size)
    if not sentence and _bytes_of(Q(job__owner=owner)) + code + size > most:
        sentence = (
            f"{owner}'s checkpoints and code would hold more than {settings.MAX_CHECKPOINT_GB_PER_PERSON:g} GB "
            "(HEIMDALL_MAX_CHECKPOINT_GB_PER_PERSON): delete jobs that are over"
        )
    if sentence:
        raise LimitReached({"code": [f"The code was not kept: {sentence}."]})


def _why_the_disk_is_full(more: int) -> str:
    free = checkpoints.free_bytes()
    if free is not None and free - more < settings.MIN_FREE_DISK_GB * 1e9:
        return (
            f"the store has {gigabytes(free)} left, and below {settings.MIN_FREE_DISK_GB:g} GB "
            "(HEIMDALL_MIN_FREE_DISK_GB) only pauses and ends are stored"
        )
    return ""


def _why_one_person_has_enough(owner_id: int, size: int) -> str:
    owned = _bytes_of(Q(job__owner=owner_id))
    if owned + size > settings.MAX_CHECKPOINT_GB_PER_PERSON * 1e9:
        return (
            f"the checkpoints of this job's owner hold {gigabytes(owned)}, and one person may keep "
            f"{settings.MAX_CHECKPOINT_GB_PER_PERSON:g} GB (HEIMDALL_MAX_CHECKPOINT_GB_PER_PERSON)"
        )
    return ""


def _bytes_of(which: Q) -> int:
    return Checkpoint.objects.filter(which).aggregate(size=Sum("size", default=0))["size"]
