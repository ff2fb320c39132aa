"""Where transmitters are, by a completed localization job: reports in, answers out as they are found."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request

from heimdall.errors import InvalidInput
from training import policy, services
from training.api import serializers
from training.api.base import ApiView, find_job, given
from training.api.bodies import AnyBody
from training.api.errors import TooLarge
from training.api.schema import answers, document
from training.presentation import params
from training.presentation.located_files import FILES, results
from training.presentation.params import Param
from training.presentation.streams import send_pieces
from training.services.locating import LocatorProcess

MOST_CHARACTERS = 1_000_000


def _answers() -> dict:
    found = answers(200, LocatedTransmissionsShape, 403, 404, 409, 410, 413, 415, 429)
    found[200, "application/json"] = found.pop(200)
    for file in (FILES["geojson"], FILES["kml"]):
        found[200, file.media_type] = OpenApiResponse(OpenApiTypes.STR, description="The same for maps.")
    return found


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


OUTPUT = Param("output", "As what the results come.", default="json", choices=tuple(FILES))


class LocateView(ApiView):
    needs = {"POST": policy.Right.ACT}
    parser_classes = (AnyBody,)

    @document(
        "locate_with_job",
        "Locate transmitters with a completed localization",
        body={"application/json": ReceiverReports, "text/csv": OpenApiTypes.BINARY},
        params=(OUTPUT,),
        answers=_answers(),
    )
    def post(self, request: Request, pk: int) -> HttpResponseBase:
        output = params.read(request, (OUTPUT,))["output"]
        job, raw = find_job(request, pk), _reports(request)
        located = services.locate(job, by=request.user, reports=raw)
        pieces = _results(job.pk, located) if output == "json" else FILES[output].write(located)
        return send_pieces(request, pieces, FILES[output].media_type, located.close)


def _reports(request: Request) -> bytes:
    if request.content_type.partition(";")[0].strip().lower() == "text/csv":
        raw = request._request.read(services.MOST_REPORT_BYTES + 1)
        if len(raw) > services.MOST_REPORT_BYTES:
            raise TooLarge(f"Reports may have {services.MOST_REPORT_BYTES} bytes.")
        return raw
    fields = given(request, ReceiverReports, (OUTPUT,))
    if len(fields) != 1:
        raise InvalidInput({"reports": ["Give reports, or csv: one of the two; or send CSV as text/csv."]})
    if "csv" in fields:
        return fields["csv"].encode()
    return json.dumps({"reports": fields["reports"]}).encode()


def _results(job: int, located: LocatorProcess) -> Iterator[str]:
    about = {"job": job, "checkpoint": located.checkpoint.pk, "network": located.first["network"]}
    return results(located, about)
