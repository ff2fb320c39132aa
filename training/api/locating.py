"""Where transmitters are, by a completed localization job: reports in, answers out as they are found."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request

from heimdall.errors import InvalidInput
from training import policy, services
from training.api import serializers
from training.api.base import ApiView, find_job, given
from training.api.schema import answers, document
from training.presentation.streams import send_pieces
from training.services.locating import LocatorProcess

MOST_CHARACTERS = 1_000_000


class ReceiverReports(serializers.Input):
    """One of the two."""

    reports = rest.ListField(
        child=serializers.JsonObject(),
        required=False,
        help_text="An object for each receiver and transmission; docs/localization.md has their fields.",
    )
    csv = rest.CharField(
        required=False,
        max_length=MOST_CHARACTERS,
        trim_whitespace=False,
        help_text="The same as CSV with a header, for many of them.",
    )


@extend_schema_serializer(component_name="LocatedTransmissions")
class LocatedTransmissionsShape(rest.Serializer):
    job = rest.IntegerField(min_value=0)
    checkpoint = rest.IntegerField(min_value=0)
    network = serializers.FreeForm(help_text="Which receivers it was trained with, and how.")
    results = rest.ListField(
        child=serializers.FreeForm(), help_text="One for each transmission, in the order of the reports."
    )
    error = rest.CharField(
        allow_null=True, help_text="Why the results end early; null where all of them are there."
    )


class LocateView(ApiView):
    needs = {"POST": policy.Right.ACT}

    @document(
        "locate_with_job",
        "Locate transmitters with a completed localization",
        body=ReceiverReports,
        answers=answers(200, LocatedTransmissionsShape, 403, 404, 409, 410, 413, 415, 429),
    )
    def post(self, request: Request, pk: int) -> HttpResponseBase:
        job, raw = find_job(request, pk), _reports(given(request, ReceiverReports))
        located = services.locate(job, by=request.user, reports=raw)
        return send_pieces(request, _pieces(job.pk, located), "application/json", located.close)


def _reports(fields: dict) -> bytes:
    if len(fields) != 1:
        raise InvalidInput({"reports": ["Give reports, or csv: one of the two."]})
    if "csv" in fields:
        return fields["csv"].encode()
    return json.dumps({"reports": fields["reports"]}).encode()


def _pieces(job: int, located: LocatorProcess) -> Iterator[str]:
    """One object of JSON, a result a line, sent as the results come."""
    about = {"job": job, "checkpoint": located.checkpoint.pk, "network": located.first["network"]}
    yield json.dumps(about)[:-1] + ', "results": [\n'
    before, error = "", None
    try:
        for answer in located:
            yield before + json.dumps(answer)
            before = ",\n"
    except InterruptedError as ended:
        error = str(ended)
    yield f'\n], "error": {json.dumps(error)}}}\n'
