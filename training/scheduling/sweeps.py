"""Sweeps: which of the jobs that rest at a rung go on, and which combinations are tried next.

Decided again and again from the rows alone, so a crash at any moment loses nothing; what was decided twice is made
once (the number of a member is unique, and a resume of a job that runs changes nothing).
"""

from __future__ import annotations

import logging

from heimdall.errors import HeimdallError
from heimdall.failpoints import failpoint
from training import services
from training.errors import LimitReached, SuggestionFailed
from training.lifecycle import Status
from training.models import Sweep
from training.queries.sweeps import SweepJob, jobs_of_sweep, member_states, num_active, tried_combinations
from training.sweeps.plan import SweepPlan
from training.sweeps.rungs import promotable
from training.sweeps.space import read_space
from training.sweeps.suggesting import suggest

logger = logging.getLogger(__name__)


def advance_sweeps() -> int:
    """Decide on each running sweep that nobody else decides on; return how many jobs were queued."""
    return sum(
        advance(sweep)
        for sweep in Sweep.objects.filter(state=Sweep.SweepState.RUNNING).select_related("owner")
    )


def advance(sweep: Sweep) -> int:
    """One decision on a sweep: promote, then try something new, as far as there is room; or see that it is over."""
    if not _has_something_to_decide(sweep) or not services.hold_sweep(sweep):
        return 0
    trouble = ""
    try:
        sweep.refresh_from_db()
        return _advance(sweep)
    except (LimitReached, SuggestionFailed) as error:
        trouble = str(error)
    except HeimdallError as error:
        trouble = f"A job could not be queued: {error}"
        logger.warning("Sweep %s: %s", sweep.pk, trouble)
    finally:
        services.let_go_of_sweep(sweep, trouble=trouble)
    return 0


def _has_something_to_decide(sweep: Sweep) -> bool:
    """Cheap: while as many jobs as may are active, nothing can be started and nothing goes on."""
    return num_active(sweep) < SweepPlan(**sweep.plan).at_once


def _advance(sweep: Sweep) -> int:
    plan, jobs = SweepPlan(**sweep.plan), jobs_of_sweep(sweep)
    room = plan.at_once - sum(one.is_active for one in jobs)
    queued = _promote(sweep, plan, jobs, room)
    queued += _start_new(sweep, plan, jobs, room - queued)
    if not queued and not any(one.is_active for one in jobs):
        services.finish_sweep(sweep)
    return queued


def _promote(sweep: Sweep, plan: SweepPlan, jobs: list[SweepJob], room: int) -> int:
    """Those that have earned more epochs; and without rungs those that were paused with the sweep."""
    by_number = {one.member.number: one for one in jobs}
    chosen = [by_number[number] for number in promotable(plan, sweep.epochs, member_states(sweep, jobs))]
    interrupted = [one for one in jobs if _was_interrupted(one, plan, sweep)]
    count = 0
    for one in [*interrupted, *chosen][: max(room, 0)]:
        failpoint("sweep_promotes")
        if one.job is not None and services.ask(one.job, "resume", by=services.SWEEPER).result:
            count += 1
    return count


def _was_interrupted(one: SweepJob, plan: SweepPlan, sweep: Sweep) -> bool:
    """Paused between rungs: with the whole sweep, for no job rests there by itself."""
    if one.job is None or one.job.status != Status.PAUSED:
        return False
    return not services.rests_at_rung(one.member, plan, sweep.epochs, one.job.current_epoch)


def _start_new(sweep: Sweep, plan: SweepPlan, jobs: list[SweepJob], room: int) -> int:
    """New combinations, and repeats that a crash left out."""
    wanted = _missing_repeats(plan, jobs)
    num_tried = len({one.member.number for one in jobs})
    num_new = min(-(-max(room - len(wanted), 0) // plan.repeats), plan.jobs - num_tried)
    if num_new > 0:
        failpoint("sweep_asks")
        found = suggest(plan, read_space(sweep.space), tried_combinations(jobs), num_new)
        wanted += [
            (num_tried + place, repeat, params)
            for place, params in enumerate(found)
            for repeat in range(plan.repeats)
        ]
    count = 0
    for number, repeat, params in wanted if room > 0 else []:
        failpoint("sweep_starts")
        count += services.add_member(sweep, number=number, repeat=repeat, params=params) is not None
    return count


def _missing_repeats(plan: SweepPlan, jobs: list[SweepJob]) -> list[tuple[int, int, dict]]:
    there = {(one.member.number, one.member.repeat) for one in jobs}
    params = {one.member.number: one.member.params for one in jobs}
    return [
        (number, repeat, params[number])
        for number in sorted(params)
        for repeat in range(plan.repeats)
        if (number, repeat) not in there
    ]
