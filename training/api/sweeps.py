"""Sweeps over REST: begun, looked at, and steered as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, services
from training.api import pagination, serializers
from training.api.base import ApiView, given
from training.api.schema import answers, document
from training.lifecycle import Status
from training.models import Sweep
from training.presentation import params
from training.presentation.params import Number
from training.queries import sweeps as shown
from training.sweeps import plan as plans
from training.sweeps.plan import SweepPlan
from training.sweeps.space import MOST_FIELDS, read_space
from training.sweeps.suggesting import importances

MOST_SHOWN = 200
LIMIT = Number("limit", "How many at most.", default=50, low=1, high=MOST_SHOWN)


def _bounded(name: str, sentence: str) -> serializers.WholeNumber:
    low, high = plans.BOUNDS[name]
    return serializers.WholeNumber(required=False, min_value=low, max_value=high, help_text=sentence)


def _word(words: tuple[str, ...], sentence: str) -> rest.ChoiceField:
    return rest.ChoiceField(choices=words, required=False, help_text=sentence)


class NewSweepPlan(serializers.Input):
    """What is left out takes the default of training/sweeps/plan.py."""

    suggester = _word(plans.SUGGESTERS, "Who says what to try.")
    stopper = _word(plans.STOPPERS, "Who says which jobs go on.")
    metric = serializers.Text(max_length=100, required=False, help_text="What is compared after an epoch.")
    goal = _word(plans.GOALS, "Whether less of it is better, or more.")
    jobs = _bounded("jobs", "How many combinations.")
    repeats = _bounded("repeats", "How many seeds of each.")
    at_once = _bounded("at_once", "How many jobs may be queued or running.")
    first_epochs = _bounded("first_epochs", "Where the first rung is.")
    eta = _bounded("eta", "How many times farther the next rung is.")
    seed = _bounded("seed", "Of what is chosen at random.")


@extend_schema_field(
    {"type": "object", "minProperties": 1, "maxProperties": MOST_FIELDS, "additionalProperties": {}}
)
class SpaceField(serializers.JsonObject):
    """Read by training/sweeps/space.py."""


class NewSweep(serializers.Input):
    name = serializers.name_field(help_text="The name of the sweep.")
    space = SpaceField(
        help_text='Of each searched setting its values: {"learning_rate": {"log_uniform": [1e-4, 0.1]}}.'
    )
    plan = NewSweepPlan(required=False)
    recipe = serializers.Text(max_length=200, required=False)
    config = serializers.JsonObject(required=False, help_text="The settings that all jobs share.")
    program = serializers.JsonObject(
        required=False, help_text="In the place of a recipe; {lr} in its command stands for the setting lr."
    )
    code = serializers.code_field()
    description = serializers.Description(required=False)
    team = serializers.team_field()
    priority = serializers.priority_field(required=False)
    pool = serializers.pool_field(required=False)
    tags = serializers.tags_field()


class MoreJobs(serializers.Input):
    jobs = serializers.WholeNumber(
        min_value=1, max_value=plans.MOST_JOBS, help_text="How many combinations more."
    )


@extend_schema_serializer(component_name="Sweep")
class SweepShape(rest.Serializer):
    id = rest.IntegerField(min_value=0)
    name = rest.CharField()
    description = rest.CharField(allow_blank=True)
    owner = rest.CharField()
    team = rest.CharField(allow_null=True)
    recipe = rest.CharField(allow_null=True)
    program = serializers.FreeForm(allow_null=True)
    code = rest.CharField(allow_null=True)
    config = serializers.FreeForm()
    space = serializers.FreeForm()
    plan = serializers.FreeForm()
    epochs = rest.IntegerField(min_value=0, help_text="How long a job that nothing stops trains.")
    priority = rest.IntegerField()
    pool = rest.CharField(allow_blank=True)
    tags = rest.ListField(child=rest.CharField())
    state = rest.ChoiceField(choices=Sweep.SweepState.values)
    trouble = rest.CharField(allow_blank=True, help_text="Why it does not go on at the moment.")
    num_jobs = rest.IntegerField(min_value=0)
    num_started = rest.IntegerField(min_value=0)
    jobs_by_status = rest.DictField(child=rest.IntegerField(min_value=0))
    created_at = rest.DateTimeField()
    ended_at = rest.DateTimeField(allow_null=True)
    verbs = rest.ListField(child=rest.CharField())


@extend_schema_serializer(component_name="SweepJob")
class SweepJobShape(rest.Serializer):
    id = rest.IntegerField(min_value=0)
    status = rest.ChoiceField(choices=[status.value for status in Status])
    epochs = rest.IntegerField(min_value=0)
    steps = rest.IntegerField(min_value=0)
    value = rest.FloatField(allow_null=True)


@extend_schema_serializer(component_name="SweepCombination")
class CombinationShape(rest.Serializer):
    number = rest.IntegerField(min_value=0)
    params = serializers.FreeForm()
    value = rest.FloatField(allow_null=True, help_text="The metric, averaged over the repeats.")
    spread = rest.FloatField(allow_null=True, help_text="Its standard deviation over the repeats.")
    at_epoch = rest.IntegerField(min_value=0)
    jobs = SweepJobShape(many=True)


@extend_schema_serializer(component_name="SweepReport")
class SweepReportShape(rest.Serializer):
    leaders = CombinationShape(many=True, help_text="The best first.")
    epochs_trained = rest.IntegerField(min_value=0)
    epochs_of_all = rest.IntegerField(min_value=0)
    share = rest.FloatField(allow_null=True, help_text="Of the epochs of all, what was trained.")


@extend_schema_serializer(component_name="SweepImportances")
class ImportancesShape(rest.Serializer):
    importances = rest.DictField(child=rest.FloatField(), help_text="Empty where too little is known yet.")


class SweepListView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}

    @document(
        "list_sweeps",
        "Sweeps, the newest first",
        params=(LIMIT,),
        answers=answers(200, serializers.page_of(SweepShape)),
    )
    def get(self, request: Request) -> Response:
        limit = params.read(request, (LIMIT,))["limit"]
        return Response(
            pagination.whole([_shape(one, request) for one in services.visible_sweeps(request.user)[:limit]])
        )

    @document(
        "submit_sweep", "Begin a sweep", body=NewSweep, answers=answers(201, SweepShape, 403, 413, 415, 429)
    )
    def post(self, request: Request) -> Response:
        fields = given(request, NewSweep)
        team = policy.team_named(fields.pop("team", None), request.user)
        sweep = services.submit_sweep(by=request.user, team=team, **fields)
        return Response(_shape(sweep, request), status=201)


class SweepDetailView(ApiView):
    @document("show_sweep", "Look at a sweep", answers=answers(200, SweepShape, 404))
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response(_shape(_find(request, pk), request))

    @document("delete_sweep", "Delete a sweep; its jobs stay", answers=answers(204, None, 403, 404, 409, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.delete_sweep(_find(request, pk), by=request.user)
        return Response(status=204)


class SweepReportView(ApiView):
    @document(
        "show_sweep_report",
        "Which combinations lead, and what the pausing saved",
        answers=answers(200, SweepReportShape, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        sweep = _find(request, pk)
        return Response({"leaders": shown.leaders(sweep, request.user), **shown.saved_by_pausing(sweep)})


class SweepImportancesView(ApiView):
    @document(
        "show_sweep_importances",
        "Which settings make the difference",
        answers=answers(200, ImportancesShape, 404, 503),
    )
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response({"importances": importances_of(_find(request, pk))})


class PauseSweepView(ApiView):
    needs = {"POST": policy.Right.ACT}

    @document(
        "pause_sweep",
        "Pause all of its jobs and start no new one",
        answers=answers(200, SweepShape, 403, 404, 409, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        return _steered(request, pk, services.pause_sweep)


class ResumeSweepView(ApiView):
    needs = {"POST": policy.Right.ACT}

    @document("resume_sweep", "Go on with it", answers=answers(200, SweepShape, 403, 404, 409, 429))
    def post(self, request: Request, pk: int) -> Response:
        return _steered(request, pk, services.resume_sweep)


class CancelSweepView(ApiView):
    needs = {"POST": policy.Right.ACT}

    @document(
        "cancel_sweep",
        "End it: its queued and running jobs are cancelled",
        answers=answers(200, SweepShape, 403, 404, 409, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        return _steered(request, pk, services.cancel_sweep)


class ExtendSweepView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}

    @document(
        "extend_sweep",
        "Try more combinations",
        body=MoreJobs,
        answers=answers(200, SweepShape, 403, 404, 409, 413, 415, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        fields = given(request, MoreJobs)
        sweep = services.extend_sweep(_find(request, pk), jobs=fields["jobs"], by=request.user)
        return Response(_shape(sweep, request))


def importances_of(sweep: Sweep) -> dict[str, float]:
    """By what is known now; a process of its own works it out in about a second."""
    tried = shown.tried_combinations(shown.jobs_of_sweep(sweep))
    return importances(SweepPlan(**sweep.plan), read_space(sweep.space), tried)


def _steered(request: Request, pk: int, act: Callable[..., Any]) -> Response:
    given(request, serializers.NoOptions)
    sweep = _find(request, pk)
    act(sweep, by=request.user)
    return Response(_shape(sweep, request))


def _shape(sweep: Sweep, request: Request) -> dict[str, Any]:
    return shown.sweep_dict(sweep, request.user, services.verbs_of_sweep(sweep, request.user))


def _find(request: Request, pk: int) -> Sweep:
    return services.sweep_named(min(pk, 2**63 - 1), by=request.user)
