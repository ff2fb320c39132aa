"""Who may do what: may(actor, verb, job), and the same for datasets and nodes. All doors ask here.

What belongs to one person or team alone (saved views, subscriptions) is asked for in its service.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet

from heimdall.errors import InvalidInput
from training.errors import NotAllowed, NotFound
from training.lifecycle import Verb
from training.models import ApiToken, Dataset, TrainingJob

if TYPE_CHECKING:
    from django.contrib.auth.models import User

SEE = "see"
REPORT = "report for"  # of an external job: what was measured, printed, and that it is over
EDIT = "edit"  # name, description, priority; pins of checkpoints
TEAM_VERBS = frozenset({SEE, Verb.PAUSE, Verb.RESUME, Verb.CANCEL})
VIEW_PERMISSION = "training.view_trainingjob"
URGENT_PERMISSION = "training.urgent_priority"
PROGRAM_PERMISSION = "training.run_programs"
PROGRAMMERS = "programmers"  # the group that has it; made after migrate
NODE_PERMISSION = "training.change_node"  # to drain nodes and to take them out; superusers may without it


@dataclass(frozen=True)
class System:
    """Somebody who acts and is no person: a worker, the reaper, the scheduler."""

    name: str

    def __str__(self) -> str:
        return self.name


Actor = "User | AnonymousUser | System"


class Right(StrEnum):
    """What the scope of a token lets a program do, where its person may."""

    READ = "read"
    REPORT = "report"  # what a training outside measured
    ACT = "act"  # what members of a job's team may: pause, resume, cancel
    SUBMIT = "submit"  # make jobs, edit them, begin them again
    ADMIN = "admin"  # everything else: whatever has no narrower right needs this one


_RIGHT_FOR: dict[Verb | str, Right] = {
    SEE: Right.READ,
    EDIT: Right.SUBMIT,
    REPORT: Right.REPORT,
    Verb.RESTART: Right.SUBMIT,
} | dict.fromkeys((Verb.PAUSE, Verb.RESUME, Verb.CANCEL), Right.ACT)
_READ_AND_ACT = frozenset({Right.READ, Right.ACT})
RIGHTS_OF_SCOPE: dict[str, frozenset[Right]] = {
    ApiToken.Scope.READ: frozenset({Right.READ}),
    ApiToken.Scope.ACT: _READ_AND_ACT,
    ApiToken.Scope.SUBMIT: _READ_AND_ACT | {Right.SUBMIT, Right.REPORT},
    ApiToken.Scope.ADMIN: frozenset(Right),
    ApiToken.Scope.REPORT: frozenset({Right.REPORT}),
}
SCOPES_OF_PEOPLE = tuple(str(scope) for scope in RIGHTS_OF_SCOPE if scope != ApiToken.Scope.REPORT)


def bind_scope(user: User, scope: str, job: int | None = None) -> User:
    """The user as a token of this scope stands for it: of one job alone, where it belongs to one."""
    user._heimdall_rights = RIGHTS_OF_SCOPE.get(scope, frozenset())
    user._heimdall_job = job
    return user


def rights_of(actor: Actor) -> frozenset[Right]:
    """All of them, unless the actor came with a token that has fewer."""
    return getattr(actor, "_heimdall_rights", frozenset(Right))


def right_for(verb: Verb | str) -> Right:
    """What a token needs for this verb."""
    return _RIGHT_FOR.get(verb, Right.ADMIN)


def may(actor: Actor, verb: Verb | str, job: TrainingJob) -> bool:
    """Whether the actor may do this to the job, whatever state the job is in."""
    if isinstance(actor, System):
        return True
    if not actor.is_active:  # an anonymous user is not active either
        return False
    if right_for(verb) not in rights_of(actor):
        return False
    if (bound := getattr(actor, "_heimdall_job", None)) is not None:
        return bound == job.pk
    if actor.is_superuser or job.owner_id == actor.pk:
        return True
    if verb in TEAM_VERBS and job.team_id is not None and job.team_id in _group_ids(actor):
        return True
    return verb == SEE and actor.has_perm(VIEW_PERMISSION)


def require(actor: Actor, verb: Verb | str, job: TrainingJob) -> None:
    """Raise NotFound for a job the actor cannot see and NotAllowed for a verb the actor has no right to."""
    if may(actor, verb, job):
        return
    if not may(actor, SEE, job):
        raise NotFound(f"There is no job {job.pk}.")
    if verb != SEE:
        if right_for(verb) not in rights_of(actor):
            raise NotAllowed(narrow(right_for(verb)))
        raise NotAllowed(f"You may see job {job.pk}, but not {verb} it: its owner and administrators may.")


def narrow(needed: Right) -> str:
    """What a program is told whose token has not got this right."""
    enough = [scope for scope in SCOPES_OF_PEOPLE if needed in RIGHTS_OF_SCOPE[scope]]
    return f"The scope of this token does not allow this; use one with the scope {' or '.join(enough)}."


def may_change_dataset(actor: Actor, dataset: Dataset) -> bool:
    """Whether the actor may extend the dataset or delete it. Whoever may see a job of the same people sees it."""
    return isinstance(actor, System) or (
        actor.is_active
        and Right.ADMIN in rights_of(actor)
        and (actor.is_superuser or dataset.owner_id == actor.pk)
    )


def may_steer_nodes(actor: Actor) -> bool:
    """Whether the actor may drain nodes and take them out. Everybody with a login sees them."""
    return isinstance(actor, System) or (
        actor.is_active and Right.ADMIN in rights_of(actor) and actor.has_perm(NODE_PERMISSION)
    )


def require_steering_nodes(actor: Actor) -> None:
    if not may_steer_nodes(actor):
        raise NotAllowed(
            "Nodes are drained and taken out by administrators and by users with the permission "
            "'Can change node'."
        )


def may_be_urgent(actor: Actor) -> bool:
    """Whether the actor may give a job any priority, not only those up to the ceiling."""
    return isinstance(actor, System) or (actor.is_active and actor.has_perm(URGENT_PERMISSION))


def may_run_programs(actor: Actor) -> bool:
    """Whether the actor may make a job of a program: code that then has the worker's rights."""
    return isinstance(actor, System) or (
        actor.is_active and Right.SUBMIT in rights_of(actor) and actor.has_perm(PROGRAM_PERMISSION)
    )


def require_running_programs(actor: Actor) -> None:
    if not may_run_programs(actor):
        raise NotAllowed(
            "Programs are run by administrators, by the group 'programmers' and by users with the permission "
            "'run_programs': such code has the worker's rights. Recipes need no permission."
        )


def visible_jobs(actor: Actor) -> QuerySet[TrainingJob]:
    """The jobs that the actor can see."""
    return TrainingJob.objects.filter(visible(actor))


def visible(actor: Actor, path: str = "") -> Q:
    """The same as a condition: on jobs, on datasets, or with a path such as `job__` on rows that belong to jobs."""
    if sees_all(actor):
        return Q()
    if not actor.is_active:
        return Q(pk__in=[])
    return Q(**{f"{path}owner": actor.pk}) | Q(**{f"{path}team__in": _group_ids(actor)})


def sees_all(actor: Actor) -> bool:
    """Whether there is no job that is hidden from the actor."""
    return isinstance(actor, System) or (
        actor.is_active and (actor.is_superuser or actor.has_perm(VIEW_PERMISSION))
    )


def sees_jobs_of(actor: Actor) -> tuple[int | None, list[int]] | None:
    """The same as numbers: a person (None: nobody) and teams whose jobs the actor sees. None: all jobs."""
    if sees_all(actor):
        return None
    return (actor.pk, sorted(_group_ids(actor))) if actor.is_active else (None, [])


def teams() -> QuerySet[Group]:
    """All teams in the order of names: groups, but for those that only give a right."""
    return Group.objects.filter(rights_group=None).order_by("name")


def own_teams(actor: User) -> QuerySet[Group]:
    """The teams that the actor is in, for what is asked in SQL."""
    return actor.groups.filter(rights_group=None).order_by("name")


def nameable_teams(actor: User) -> QuerySet[Group]:
    """The teams that the actor may give jobs and lists to: their own, and for a superuser any."""
    return teams() if actor.is_superuser else own_teams(actor)


def teams_of(actor: User) -> dict[int, str]:
    """The names of the actor's teams by their numbers, in the order of names. One query a request."""
    if not hasattr(actor, "_heimdall_teams"):
        actor._heimdall_teams = dict(own_teams(actor).values_list("pk", "name"))
    return actor._heimdall_teams


def team_named(name: str | None, actor: User) -> Group | None:
    """A team that the actor may give jobs and lists to: one of theirs, and for a superuser any; None for no name."""
    if name is None:
        return None
    team = nameable_teams(actor).filter(name=name).first() if "\x00" not in name else None
    if team is None:
        raise InvalidInput({"team": ["You are not in this team."]})
    return team


def may_name_team(actor: User, team: Group | None) -> bool:
    """Whether the actor may give the team a job or a list."""
    if team is None:
        return False
    return team.pk in _group_ids(actor) or (actor.is_superuser and teams().filter(pk=team.pk).exists())


def clean_team(team: Group | None, actor: User) -> Group | None:
    """The team, if the actor may give it a job or a list. Raises InvalidInput."""
    if team is None or may_name_team(actor, team):
        return team
    raise InvalidInput({"team": ["You are not in this team."]})


def _group_ids(actor: User) -> set[int]:
    return set(teams_of(actor))
