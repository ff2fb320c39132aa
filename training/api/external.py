"""Jobs that are trained somewhere else: begun, reported for and ended over REST."""

from __future__ import annotations

import sys
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import fields, policy, services
from training.api import serializers
from training.api.base import SAFE, ApiView, find_job, given
from training.api.history import MetricListView
from training.api.idempotency import answer_once
from training.api.schema import answers, document
from training.api.verbs import created, verb_answer
from training.presentation.throttles import ReportThrottle
from training.services import external

MOST_NAMES = 60_000  # of all objects in one report: 500 rows of 100 values, and more
METRIC_LENGTH = 100
LATEST = 32_503_680_000  # the year 3000, as Unix time


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": external.MOST_VALUES,
        "propertyNames": {"minLength": 1, "maxLength": METRIC_LENGTH, "pattern": serializers.TEXT_PATTERN},
        "additionalProperties": {
            "anyOf": [{"type": ["number", "null"]}, {"enum": ["nan", "inf", "-inf"]}],
        },
    }
)
class ReportedValues(rest.Field):
    """Numbers by name. JSON has no NaN and no infinities: they are "nan", "inf" and "-inf"."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict) or len(data) > external.MOST_VALUES:
            raise rest.ValidationError(f"Give an object of at most {external.MOST_VALUES} names and numbers.")
        for name, value in data.items():
            if not name or len(name) > METRIC_LENGTH or not serializers.TEXT.regex.fullmatch(name):
                raise rest.ValidationError(
                    f"{name[:40]!r} is no name of a value: use 1 to {METRIC_LENGTH} characters."
                )
            if name in {"step", "epoch"}:
                raise rest.ValidationError(f"{name} stands beside the values, not among them.")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and abs(value) > sys.float_info.max and value == value:
                raise rest.ValidationError(f"{name} is larger than a number may be.")
            if not is_number and value not in (None, "nan", "inf", "-inf"):
                raise rest.ValidationError(f'{name} must be a number, null, "nan", "inf" or "-inf".')
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class ReportedRow(serializers.Input):
    step = serializers.WholeNumber(
        min_value=1, max_value=external.MOST_STEPS, help_text="How many steps are finished then."
    )
    epoch = serializers.WholeNumber(
        min_value=0, max_value=external.MOST_EPOCHS, required=False, help_text="The epoch it lies in, from 1."
    )
    at = rest.FloatField(
        min_value=0, max_value=LATEST, required=False, help_text="When, as Unix time; without it now."
    )
    values = ReportedValues(required=False, help_text="What was measured in this step.")
    epoch_values = ReportedValues(
        required=False, help_text="What was measured of the whole epoch, which this step closes."
    )


class NewReport(serializers.Input):
    rows = rest.ListField(
        child=ReportedRow(),
        max_length=external.MOST_ROWS,
        required=False,
        help_text="In the order of their steps. A step that was reported before is left out.",
    )
    log = serializers.Text(
        max_length=external.LONGEST_LOG, allow_blank=True, required=False, help_text="What was printed."
    )
    log_begins_at = serializers.WholeNumber(
        min_value=0,
        max_value=external.MOST_STEPS,
        required=False,
        help_text="How many characters of the log came before; what was taken already is left out.",
    )
    total_steps = serializers.WholeNumber(min_value=0, max_value=external.MOST_STEPS, required=False)
    total_epochs = serializers.WholeNumber(min_value=0, max_value=external.MOST_EPOCHS, required=False)
    phase = serializers.Text(max_length=20, allow_blank=True, required=False, validators=[serializers.TEXT])
    sent_at = rest.FloatField(
        min_value=0,
        max_value=LATEST,
        required=False,
        help_text="Now, by the clock that gave `at`: times are moved by what it is off.",
    )


class NewExternalJob(serializers.Input):
    job_name = serializers.name_field()
    config = serializers.JsonObject(required=False, help_text="Its settings, whatever they are called.")
    environment = serializers.JsonObject(required=False, help_text="Versions, devices: shown beside it.")
    description = serializers.Description(required=False)
    tags = serializers.tags_field()
    team = serializers.team_field()
    source = serializers.Text(
        max_length=external.SOURCE_LENGTH,
        validators=[serializers.NAME],
        required=False,
        help_text="The machine it is trained on.",
    )
    total_steps = serializers.WholeNumber(min_value=0, max_value=external.MOST_STEPS, required=False)
    total_epochs = serializers.WholeNumber(min_value=0, max_value=external.MOST_EPOCHS, required=False)


class ReportedEnd(serializers.Input):
    outcome = rest.ChoiceField(choices=list(external.OUTCOMES))
    message = serializers.Text(
        max_length=fields.DESCRIPTION_LENGTH,
        allow_blank=True,
        required=False,
        validators=[serializers.TEXT],
        help_text="Why it failed.",
    )


@extend_schema_serializer(component_name="ReportAnswer")
class ReportAnswerShape(rest.Serializer):
    status = serializers.status_field()
    taken = rest.IntegerField(min_value=0, help_text="Rows that were new.")
    current_step = rest.IntegerField(min_value=0)


class ReportingView(ApiView):
    """Reports come often, and are counted for themselves: they hold up none of their person's buttons."""

    def get_throttles(self) -> list[Any]:
        return [] if self.request.method in SAFE else [ReportThrottle()]


class ExternalJobsView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}
    takes_key = True

    @document(
        "begin_external_job",
        "Begin a job that is trained somewhere else and reports here",
        body=NewExternalJob,
        takes_key=True,
        answers=answers(201, serializers.VerbAnswer, 403, 413, 415, 422, 429),
    )
    def post(self, request: Request) -> Response:
        wanted = given(request, NewExternalJob)
        wanted["team"] = policy.team_named(wanted.get("team"), request.user)
        return answer_once(
            request, lambda: created(services.begin_external(by=request.user, **wanted), request)
        )


class MetricsView(MetricListView, ReportingView):
    needs = {"POST": policy.right_for(policy.REPORT)}

    @document(
        "report_metrics",
        "Report what a training that runs somewhere else measured and printed",
        body=NewReport,
        answers=answers(200, ReportAnswerShape, 403, 404, 409, 413, 415, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        job, told = find_job(request, pk), given(request, NewReport, most_names=MOST_NAMES)
        seen, taken = services.report_external(job, services.OutsideReport(**told), by=request.user)
        return Response({"status": seen.status, "taken": taken, "current_step": seen.current_step})


class EndView(ReportingView):
    needs = {"POST": policy.right_for(policy.REPORT)}

    @document(
        "end_external_job",
        "Say that a training that runs somewhere else is over",
        body=ReportedEnd,
        answers=answers(200, serializers.VerbAnswer, 403, 404, 409, 413, 415, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        job, told = find_job(request, pk), given(request, ReportedEnd)
        return Response(verb_answer(services.end_external(job, by=request.user, **told), request))
