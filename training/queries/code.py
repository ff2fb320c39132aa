"""The code of programs as every door shows it, and who may see which."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from training import policy
from training.models import BroughtCode, CodeArchive, TrainingJob
from training.queries.values import iso


def visible_code(actor: Any) -> QuerySet[CodeArchive]:
    """What the actor brought, and what a job runs that the actor sees."""
    of_jobs = policy.visible_jobs(actor).filter(code__isnull=False).values("code")
    brought = BroughtCode.objects.filter(owner=actor.pk).values("code")
    return CodeArchive.objects.filter(Q(pk__in=brought) | Q(pk__in=of_jobs))


def commit_of(job: TrainingJob) -> BroughtCode | None:
    """Where git stood for the owner of the job when they brought its code."""
    if job.code_id is None:
        return None  # most jobs run a recipe: nothing is asked for them
    return BroughtCode.objects.filter(code=job.code_id, owner=job.owner_id).first()


def code_dict(code: CodeArchive, actor: Any) -> dict[str, Any]:
    jobs = TrainingJob.objects.filter(policy.visible(actor), code=code).order_by("-id")
    brought = code.brought.filter(owner=actor.pk).first()
    if brought is None and (newest := jobs.first()) is not None:
        brought = commit_of(newest)
    return {
        "digest": code.digest,
        "size": code.size,
        "num_files": code.files,
        "files": code.names,
        "commit": brought.commit if brought else "",
        "is_dirty": bool(brought and brought.is_dirty),
        "owner": code.owner.get_username() if _knows_owner(actor, code) else "",
        "jobs": list(jobs.values_list("pk", flat=True)[:100]),
        "created_at": iso(brought.created_at if brought else code.created_at),
    }


def _knows_owner(actor: Any, code: CodeArchive) -> bool:
    """Whoever brings the same code as a stranger did learns nothing of the stranger."""
    seen = policy.visible_jobs(actor).filter(owner=code.owner_id)
    return policy.sees_all(actor) or code.owner_id == actor.pk or seen.exists()
