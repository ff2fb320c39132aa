"""Curves over REST: what was measured, down-sampled to what a screen has room for."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training.api.base import ApiView, find_job
from training.api.schema import answers, document
from training.presentation import params
from training.presentation.params import Number, Param
from training.queries import curves
from training.queries.resources import resources_of

METRIC = Param(
    "metric",
    "Which values, such as loss or val_loss; without it the losses. `metrics` of the answer names them all.",
    many=True,
)
FROM = Number("from", "The first step to show; without it the job's first.")
TO = Number("to", "The last step to show; without it the job's newest.")
WANTED = Number(
    "points",
    "How many points a curve has at most, about.",
    default=curves.POINTS,
    low=curves.FEWEST_POINTS,
    high=curves.MOST_POINTS,
)


def _column(child: rest.Field, **options: Any) -> rest.ListField:
    return rest.ListField(child=child, **options)


def _numbers(says: str) -> rest.ListField:
    return _column(rest.FloatField(allow_null=True), help_text=says)


@extend_schema_serializer(component_name="CurveMetric")
class MetricName(rest.Serializer):
    name = rest.CharField()
    per = rest.ChoiceField(choices=[curves.STEP, curves.EPOCH], help_text="How often there is a value.")


@extend_schema_serializer(component_name="Series")
class SeriesShape(rest.Serializer):
    metric = rest.CharField()
    per = rest.ChoiceField(choices=[curves.STEP, curves.EPOCH, ""], help_text="Empty: no such metric yet.")
    width = rest.IntegerField(min_value=1, help_text="How many steps a point stands for.")
    steps = _column(rest.IntegerField(min_value=0), help_text="The last step of each point.")
    times = _column(rest.FloatField(), help_text="When that step was recorded, in seconds since 1970.")
    means = _numbers("Null where no value was finite.")
    lows = _numbers("The lowest value of the point's steps.")
    highs = _numbers("The highest value of the point's steps.")


@extend_schema_serializer(component_name="Mark")
class MarkShape(rest.Serializer):
    step = rest.IntegerField(min_value=0)
    word = rest.CharField(help_text="How an attempt ended: paused, crashed, lost, stopped, failed, ...")
    at = rest.FloatField(help_text="In seconds since 1970, as resumed_at.")
    resumed_at = rest.FloatField(allow_null=True)


@extend_schema_serializer(component_name="ForkMark")
class ForkMarkShape(rest.Serializer):
    job = rest.IntegerField(min_value=0)
    step = rest.IntegerField(min_value=0, help_text="After which it began.")


@extend_schema_serializer(component_name="Curve")
class CurveShape(rest.Serializer):
    job = rest.IntegerField(min_value=0)
    first_step = rest.IntegerField(
        min_value=0, help_text="The job's own first step: that of a fork is later than 1."
    )
    last_step = rest.IntegerField(min_value=0)
    steps_per_epoch = rest.FloatField(allow_null=True)
    metrics = MetricName(many=True)
    series = SeriesShape(many=True)
    marks = MarkShape(many=True)
    checkpoints = _column(rest.IntegerField(min_value=0), help_text="Steps of checkpoints that are kept.")
    best_step = rest.IntegerField(
        min_value=0, allow_null=True, help_text="The end of the epoch with the best validation."
    )
    forks = ForkMarkShape(
        many=True, help_text="The newest jobs that were forked from it, of those you may see."
    )

    def get_fields(self) -> dict[str, rest.Field]:
        """`from` is a word of Python, so these two stand here."""
        bounds = {name: rest.IntegerField(min_value=0) for name in ("from", "to")}
        return super().get_fields() | bounds


@extend_schema_serializer(component_name="Resources")
class ResourcesShape(rest.Serializer):
    job = rest.IntegerField(min_value=0)
    times = _column(rest.FloatField(), help_text="In seconds since 1970.")
    attempts = _column(rest.IntegerField(min_value=0))
    values = rest.DictField(
        child=_numbers("One for each time; null where it was not measured."),
        help_text="cpu_percent (of one core), memory (bytes), read_rate and write_rate (bytes a second), "
        "gpu_percent, gpu_memory (bytes). What was never measured is not there.",
    )


class ResourcesView(ApiView):
    @document(
        "show_resources",
        "What the training used of its machine, over time",
        answers=answers(200, ResourcesShape, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response(resources_of(find_job(request, pk)))


class CurveView(ApiView):
    @document(
        "show_curve",
        "What the training measured, as curves",
        params=(METRIC, FROM, TO, WANTED),
        answers=answers(200, CurveShape, 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (METRIC, FROM, TO, WANTED))
        found = curves.curve(
            find_job(request, pk),
            metrics=values["metric"],
            first=values["from"],
            last=values["to"],
            points=values["points"],
            user=request.user,
        )
        return Response(found)
