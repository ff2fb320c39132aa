"""The code of programs as every door shows it, and who may see which."""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from training import policy
from training.models import CodeArchive, TrainingJob
from training.queries.values import iso


def visible_code(actor: Any) -> QuerySet[CodeArchive]:
    """What the actor brought, and what a job runs that the actor sees."""
    if policy.sees_all(actor):
        return CodeArchive.objects.all()
    of_jobs = policy.visible_jobs(actor).filter(code__isnull=False).values("code")
    return CodeArchive.objects.filter(Q(owner=actor.pk) | Q(pk__in=of_jobs))


def code_dict(code: CodeArchive, actor: Any) -> dict[str, Any]:
    jobs = TrainingJob.objects.filter(policy.visible(actor), code=code)
    return {
        "digest": code.digest,
        "size": code.size,
        "num_files": code.files,
        "files": code.names,
        "commit": code.commit,
        "is_dirty": code.is_dirty,
        "owner": code.owner.get_username() if _knows_owner(actor, code) else "",
        "jobs": list(jobs.order_by("-id").values_list("pk", flat=True)[:100]),
        "created_at": iso(code.created_at),
    }


def _knows_owner(actor: Any, code: CodeArchive) -> bool:
    """Whoever brings the same code as a stranger did learns nothing of the stranger."""
    seen = policy.visible_jobs(actor).filter(owner=code.owner_id)
    return policy.sees_all(actor) or code.owner_id == actor.pk or seen.exists()
