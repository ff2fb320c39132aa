"""The reads of sweeps: what each job reached at each rung, and how a whole sweep stands."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q

from training import policy
from training.lifecycle import Status
from training.models import Metric, Sweep, SweepMember, TrainingJob
from training.queries.values import iso
from training.sweeps.plan import SweepPlan
from training.sweeps.rungs import MemberState, num_brackets, rungs
from training.sweeps.suggesting import TriedCombination

_OVER = {Status.COMPLETED, Status.FAILED, Status.CANCELLED}


@dataclass(frozen=True)
class SweepJob:
    """A member of a sweep with what its job measured. values: the metric, as measured, by the closed epoch."""

    member: SweepMember
    job: TrainingJob | None
    values: dict[int, float]

    @property
    def is_over(self) -> bool:
        return self.job is None or self.job.status in _OVER

    @property
    def is_active(self) -> bool:
        return self.job is not None and self.job.status in (Status.QUEUED, Status.RUNNING)

    @property
    def newest(self) -> float | None:
        return self.values[max(self.values)] if self.values else None


def jobs_of_sweep(sweep: Sweep) -> list[SweepJob]:
    """All of its members, by number, with what they reached at the rungs and at their end. Two queries."""
    members = list(SweepMember.objects.filter(sweep=sweep).select_related("job"))
    values = _values_at_rungs(sweep, [member.job_id for member in members if member.job_id])
    return [SweepJob(member, member.job, values.get(member.job_id or 0, {})) for member in members]


def num_active(sweep: Sweep) -> int:
    """How many of its jobs are queued or running."""
    return SweepMember.objects.filter(sweep=sweep, job__status__in=(Status.QUEUED, Status.RUNNING)).count()


def _values_at_rungs(sweep: Sweep, numbers: Sequence[int]) -> dict[int, dict[int, float]]:
    plan = SweepPlan(**sweep.plan)
    epochs = {
        rung
        for bracket in range(num_brackets(plan, sweep.epochs))
        for rung in rungs(plan, sweep.epochs, bracket)
    }
    closed = Metric.objects.filter(job__in=numbers, epoch_values__isnull=False)
    newest = closed.filter(job__status__in=_OVER) if plan.is_staged else closed
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for rows in (newest.order_by("step"), closed.filter(epoch__in=epochs).order_by("step")):
        for job, epoch, measured in rows.values_list("job", "epoch", "epoch_values"):
            value = measured.get(plan.metric)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[job][epoch] = float(value)
    return found


def member_states(sweep: Sweep, jobs: Iterable[SweepJob]) -> list[MemberState]:
    """As the rungs see them: lower is better there."""
    sign = -1.0 if sweep.plan["goal"] == "maximize" else 1.0
    return [
        MemberState(
            number=one.member.number,
            bracket=one.member.bracket,
            epochs=one.job.current_epoch if one.job else 0,
            is_resting=one.job is not None and one.job.status == Status.PAUSED,
            is_active=one.is_active,
            values={epoch: sign * value for epoch, value in one.values.items()},
        )
        for one in jobs
    ]


def tried_combinations(jobs: Iterable[SweepJob]) -> list[TriedCombination]:
    """One for each number: what its repeats measured is averaged, and it is over when all of them are."""
    by_number: dict[int, list[SweepJob]] = defaultdict(list)
    for one in jobs:
        by_number[one.member.number].append(one)
    return [
        TriedCombination(
            params=repeats[0].member.params,
            values=_mean_values(repeats),
            is_over=all(one.is_over for one in repeats),
        )
        for _, repeats in sorted(by_number.items())
    ]


def _mean_values(repeats: Sequence[SweepJob]) -> dict[int, float]:
    """Where every repeat has been: one that failed early must not make the others look better."""
    epochs = set.intersection(*(set(one.values) for one in repeats))
    return {epoch: statistics.fmean(one.values[epoch] for one in repeats) for epoch in epochs}


def sweep_dict(sweep: Sweep, actor: Any, verbs: Sequence[str] = ()) -> dict[str, Any]:
    """What every door shows of a sweep."""
    counts = SweepMember.objects.filter(sweep=sweep).aggregate(
        started=Count("pk"), **{status: Count("pk", filter=Q(job__status=status)) for status in Status}
    )
    plan = SweepPlan(**sweep.plan)
    return {
        "id": sweep.pk,
        "name": sweep.name,
        "description": sweep.description,
        "owner": sweep.owner.get_username(),
        "team": sweep.team.name if sweep.team else None,
        "recipe": sweep.recipe or None,
        "program": sweep.program or None,
        "code": sweep.code.digest if sweep.code else None,
        "config": sweep.config,
        "space": sweep.space,
        "plan": sweep.plan,
        "epochs": sweep.epochs,
        "priority": sweep.priority,
        "pool": sweep.pool,
        "tags": sweep.tags,
        "state": sweep.state,
        "trouble": sweep.trouble,
        "num_jobs": plan.num_members,
        "num_started": counts["started"],
        "jobs_by_status": {str(status): counts[status] for status in Status},
        "created_at": iso(sweep.created_at),
        "ended_at": iso(sweep.ended_at),
        "verbs": list(verbs),
    }


def leaders(sweep: Sweep, actor: Any) -> list[dict[str, Any]]:
    """Each combination, the best first: those that came farther stand above those that rest earlier. Only jobs that
    the actor may see have a number."""
    jobs = jobs_of_sweep(sweep)
    seen = set(policy.visible_jobs(actor).filter(sweep_member__sweep=sweep).values_list("pk", flat=True))
    by_number: dict[int, list[SweepJob]] = defaultdict(list)
    for one in jobs:
        by_number[one.member.number].append(one)
    rows = [_leader(sweep, number, repeats, seen) for number, repeats in by_number.items()]
    sign = -1.0 if sweep.plan["goal"] == "maximize" else 1.0
    return sorted(
        rows,
        key=lambda row: (row["value"] is None, -row["at_epoch"], sign * (row["value"] or 0.0), row["number"]),
    )


def _leader(sweep: Sweep, number: int, repeats: Sequence[SweepJob], seen: set[int]) -> dict[str, Any]:
    values = _mean_values(repeats)
    at_epoch = max(values, default=0)
    finals = [one.values[at_epoch] for one in repeats if at_epoch in one.values]
    return {
        "number": number,
        "params": repeats[0].member.params,
        "value": values.get(at_epoch),
        "spread": statistics.stdev(finals) if len(finals) > 1 else None,
        "at_epoch": at_epoch,
        "jobs": [
            {
                "id": one.job.pk,
                "status": one.job.status,
                "epochs": one.job.current_epoch,
                "steps": one.job.current_step,
                "value": one.newest,
            }
            for one in repeats
            if one.job is not None and one.job.pk in seen
        ],
    }


def saved_by_pausing(sweep: Sweep) -> dict[str, Any]:
    """How many epochs its jobs trained, of how many if nothing had stopped any of them."""
    jobs = [one.job for one in jobs_of_sweep(sweep) if one.job is not None]
    whole = sweep.epochs * len(jobs)
    trained = sum(min(job.current_epoch, sweep.epochs) for job in jobs)
    return {"epochs_trained": trained, "epochs_of_all": whole, "share": trained / whole if whole else None}
