"""Sweeps: made, steered as a whole, and given their jobs. Who goes on is decided in scheduling/sweeps.py."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from heimdall.errors import InvalidConfig, InvalidInput
from heimdall.recipes import registry
from training import fields, policy
from training.errors import NotAllowed, NotFound, TransitionRefused
from training.lifecycle import JobType, Status, StopAt, Verb
from training.models import Attempt, Sweep, SweepMember, TrainingJob
from training.policy import System
from training.services import limits, verbs
from training.services.clock import in_seconds
from training.services.many import Asked, ask
from training.services.programs import checked
from training.services.reporting import StopRequest, read_stop_request
from training.services.submitting import submit
from training.sweeps.plan import MOST_JOBS, SweepPlan, read_plan
from training.sweeps.rungs import bracket_of, next_rung, rungs
from training.sweeps.space import SearchedField, grid_size, read_space, write_space

SWEEPER = System("sweep")
HOLD_SECONDS = 180  # for which one host decides on a sweep alone; asking Optuna takes at most two minutes
MOST_RUNNING = 50  # sweeps of one person
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ACTIVE = (Status.QUEUED, Status.RUNNING)


def submit_sweep(
    *,
    by: Any,
    name: str,
    space: Any,
    plan: Any = None,
    recipe: str = "",
    config: dict[str, Any] | None = None,
    program: dict[str, Any] | None = None,
    code: str = "",
    description: str = "",
    team: Group | None = None,
    priority: int = 0,
    pool: str = "",
    tags: Any = (),
) -> Sweep:
    """Begin a sweep over a recipe's settings, or over a program's. Raises InvalidInput with the fields refused."""
    if bool(recipe) == (program is not None):
        raise InvalidInput({"recipe": ["Name a recipe, or give a program with its code; one of the two."]})
    searched = read_space(space)
    config = dict(config or {})
    priority = fields.clean_priority(priority)
    limits.require_priority(priority, by=by)
    sweep = Sweep(
        name=fields.clean_name(name, field="name", of="the sweep"),
        description=fields.clean_description(description),
        owner=by,
        team=policy.clean_team(team, by),
        recipe=recipe,
        config=config,
        space=write_space(searched),
        plan=read_plan(plan or {}, searched).as_dict(),
        priority=priority,
        pool=fields.clean_pool(pool),
        tags=list(fields.clean_tags(tags)),
        epochs=0,
    )
    with transaction.atomic():
        if Sweep.objects.filter(owner=by, state=Sweep.SweepState.RUNNING).count() >= MOST_RUNNING:
            raise InvalidInput(
                {"name": [f"You have {MOST_RUNNING} running sweeps; pause or cancel one first."]}
            )
        if program is not None:
            found = checked(program, code, config, by=by)
            if found.program["secrets"]:
                raise InvalidInput(
                    {"program.secrets": ["The jobs of a sweep have no secrets; use variables."]}
                )
            sweep.program, sweep.code = found.program, found.code
        sweep.epochs = _epochs_of(sweep, searched)
        sweep.save()
    sweep.refresh_from_db()
    return sweep


def _epochs_of(sweep: Sweep, searched: list[SearchedField]) -> int:
    """Try the corners of the space on the recipe before anything is queued; return how long its jobs train."""
    if any(field.name == "epochs" for field in searched) and SweepPlan(**sweep.plan).is_staged:
        raise InvalidInput(
            {"space.epochs": ["The stopper decides how long a job trains; give epochs in the config."]}
        )
    if not sweep.recipe:
        return int(sweep.config.get("epochs") or 1)
    if registry.get(sweep.recipe).job_type != JobType.TRAINING:
        raise InvalidInput({"recipe": ["A sweep compares trainings; this recipe makes synthetic data."]})
    for corner in _corners(searched):
        try:
            settled = registry.validate(sweep.recipe, sweep.config | corner)
        except InvalidConfig as error:
            where = {name: f"space.{name}" if name in corner else f"config.{name}" for name in error.fields}
            raise InvalidInput({where[name]: said for name, said in error.fields.items()}) from error
    return int(settled["epochs"])


def _corners(searched: list[SearchedField]) -> list[dict[str, Any]]:
    """Each value of a list and both ends of a range, one field at a time beside the first values of the others."""
    first: dict[str, Any] = {}
    for field in searched:
        if field.counts(first):
            first[field.name] = field.values[0]
    corners = [first]
    for field in searched:
        corners += [first | {field.name: value} for value in field.values[1:] if field.counts(first)]
    return corners


def visible_sweeps(actor: Any) -> QuerySet[Sweep]:
    return Sweep.objects.filter(policy.visible(actor)).select_related("owner", "team", "code")


def sweep_named(pk: int, *, by: Any) -> Sweep:
    found = visible_sweeps(by).filter(pk=pk).first()
    if found is None:
        raise NotFound(f"There is no sweep {str(pk)[:20]}.")
    return found


def may_steer(actor: Any, verb: str, sweep: Sweep) -> bool:
    """As with jobs: its owner and administrators everything, its team pause, resume and cancel."""
    stand_in = TrainingJob(owner_id=sweep.owner_id, team_id=sweep.team_id)
    return policy.may(actor, Verb(verb) if verb in set(Verb) else policy.EDIT, stand_in)


_VERBS = {
    "pause": {Sweep.SweepState.RUNNING},
    "resume": {Sweep.SweepState.PAUSED},
    "cancel": {Sweep.SweepState.RUNNING, Sweep.SweepState.PAUSED},
    "extend": {Sweep.SweepState.RUNNING, Sweep.SweepState.PAUSED, Sweep.SweepState.FINISHED},
    "delete": {Sweep.SweepState.FINISHED, Sweep.SweepState.CANCELLED},
}


def verbs_of_sweep(sweep: Sweep, actor: Any) -> list[str]:
    """What this actor may do to it now: the buttons."""
    return [
        verb for verb, states in _VERBS.items() if sweep.state in states and may_steer(actor, verb, sweep)
    ]


def pause_sweep(sweep: Sweep, *, by: Any) -> list[Asked]:
    """Nothing new is started, and each of its jobs pauses at its epoch's end."""
    _move(sweep, "pause", {"state": Sweep.SweepState.PAUSED}, by)
    return _ask_each(sweep, "pause", by, status__in=_ACTIVE)


def resume_sweep(sweep: Sweep, *, by: Any) -> None:
    """It goes on: its jobs that were paused by the way are taken up by the next decision on it."""
    _move(sweep, "resume", {"state": Sweep.SweepState.RUNNING, "trouble": ""}, by)


def cancel_sweep(sweep: Sweep, *, by: Any) -> list[Asked]:
    """Its queued and running jobs are cancelled. Those that rest keep their checkpoints, and may be resumed."""
    changes = {"state": Sweep.SweepState.CANCELLED, "ended_at": Now()}
    _move(sweep, "cancel", changes, by)
    return _ask_each(sweep, "cancel", by, status__in=_ACTIVE)


def extend_sweep(sweep: Sweep, *, jobs: int, by: Any) -> Sweep:
    """So many combinations more, also after its end."""
    _require(sweep, "extend", by)
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InvalidInput({"jobs": ["Give a whole number of at least 1."]})
    plan = SweepPlan(**sweep.plan)
    longer = replace(plan, jobs=plan.jobs + jobs)
    if longer.num_members > MOST_JOBS:
        raise InvalidInput({"jobs": [f"A sweep has at most {MOST_JOBS:,} jobs."]})
    size = grid_size(read_space(sweep.space)) if plan.suggester == "grid" else None
    if size is not None and longer.jobs > size:
        raise InvalidInput(
            {"jobs": [f"The grid has {size:,} combinations, and {plan.jobs:,} are asked for already."]}
        )
    changes = {"plan": longer.as_dict(), "state": Sweep.SweepState.RUNNING, "ended_at": None}
    _move(sweep, "extend", changes, by)
    return sweep


def delete_sweep(sweep: Sweep, *, by: Any) -> None:
    """The sweep goes; its jobs stay as they are."""
    _require(sweep, "delete", by)
    if sweep.state not in _VERBS["delete"]:
        raise TransitionRefused(f"Sweep {sweep.pk} is {sweep.state}. Cancel it first.")
    sweep.delete()


def _move(sweep: Sweep, verb: str, changes: dict[str, Any], by: Any) -> None:
    _require(sweep, verb, by)
    if Sweep.objects.filter(pk=sweep.pk, state__in=_VERBS[verb]).update(**changes) != 1:
        sweep.refresh_from_db()
        raise TransitionRefused(f"Sweep {sweep.pk} is {sweep.state}: {verb} is not possible.")
    sweep.refresh_from_db()


def _require(sweep: Sweep, verb: str, by: Any) -> None:
    if not may_steer(by, verb, sweep):
        raise NotAllowed(
            f"You may see sweep {sweep.pk}, but not {verb} it: its owner and administrators may."
        )


def _ask_each(sweep: Sweep, verb: str, by: Any, **condition: Any) -> list[Asked]:
    jobs = TrainingJob.objects.filter(sweep_member__sweep=sweep, **condition)
    return [ask(job, verb, by=by) for job in jobs]


# What the scheduling calls.


def hold_sweep(sweep: Sweep) -> bool:
    """Decide on it alone for a while: two hosts that decide at once would ask Optuna twice for the same."""
    free = Q(held_until=None) | Q(held_until__lt=Now())
    held = Sweep.objects.filter(free, pk=sweep.pk, state=Sweep.SweepState.RUNNING)
    return held.update(held_until=in_seconds(HOLD_SECONDS)) == 1


def let_go_of_sweep(sweep: Sweep, *, trouble: str = "") -> None:
    Sweep.objects.filter(pk=sweep.pk).update(held_until=None, trouble=trouble[:1_000])


def finish_sweep(sweep: Sweep) -> bool:
    """Nothing of it trains any more, and nothing is left to try."""
    changes = {"state": Sweep.SweepState.FINISHED, "ended_at": Now(), "trouble": ""}
    return Sweep.objects.filter(pk=sweep.pk, state=Sweep.SweepState.RUNNING).update(**changes) == 1


def add_member(sweep: Sweep, *, number: int, repeat: int, params: dict[str, Any]) -> TrainingJob | None:
    """A job for a combination, with its row in one transaction; None where somebody else has made it."""
    plan = SweepPlan(**sweep.plan)
    config = sweep.config | params
    if plan.repeats > 1:
        config["seed"] = int(sweep.config.get("seed") or 0) + repeat
    name = f"{sweep.name[:180]} {number + 1}" + (f"/{repeat + 1}" if plan.repeats > 1 else "")
    try:
        with transaction.atomic():
            member = SweepMember.objects.create(
                sweep=sweep,
                number=number,
                repeat=repeat,
                params=params,
                bracket=bracket_of(number, plan, sweep.epochs),
            )
            what: dict[str, Any] = {"recipe": sweep.recipe}
            if sweep.program and sweep.code is not None:
                what = {"program": _with_values(sweep.program, config), "code": sweep.code.digest}
            result = submit(
                by=sweep.owner,
                job_name=name,
                config=config,
                team=sweep.team,
                priority=sweep.priority,
                pool=sweep.pool,
                tags=sweep.tags,
                **what,
            )
            SweepMember.objects.filter(pk=member.pk).update(job=result.job)
    except IntegrityError:
        return None
    return result.job


def _with_values(program: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Words such as {lr} in a command stand for the settings; one that is no setting stays as it is."""

    def put(word: str) -> str:
        return _PLACEHOLDER.sub(lambda found: str(config.get(found[1], found[0])), word)

    return program | {"command": [put(word) for word in program["command"]]}


def rests_at_rung(member: SweepMember, plan: SweepPlan, epochs: int, finished: int) -> bool:
    """Whether a job that has finished so many epochs stands at one of its rungs."""
    return finished in rungs(plan, epochs, member.bracket)


def next_rung_of(job: TrainingJob) -> int | None:
    """After which epoch the job's trainer is to rest; None where it is in no sweep, or trains to its end."""
    member = SweepMember.objects.filter(job=job).select_related("sweep").first()
    if member is None:
        return None
    sweep = member.sweep
    return next_rung(SweepPlan(**sweep.plan), sweep.epochs, member.bracket, job.current_epoch)


def rest_at_rung(attempt: Attempt) -> StopRequest:
    """The trainer stands at its rung: the job pauses there. A stop that somebody asked for meanwhile goes before."""
    job = TrainingJob.objects.get(pk=attempt.job_id)
    if job.status == Status.RUNNING and job.attempt == attempt.number and not job.stop:
        verbs.pause(job, by=SWEEPER, at=StopAt.STEP)
    return read_stop_request(attempt)
