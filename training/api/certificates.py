"""The certificate of a job, the replays that it rests on, and its public address."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.idempotency import answer_once
from training.api.schema import answers, certificate_file, document
from training.api.serializers import _number, _one_of, _time, _whole
from training.models import Replay
from training.presentation import params
from training.presentation.params import PAGE, PAGE_SIZE


@extend_schema_serializer(component_name="ReplayPoint")
class ReplayPointShape(rest.Serializer):
    link = _whole(help_text="Its number in the chain.")
    step = _whole()
    epoch = _whole(help_text="Finished epochs.")
    recorded = rest.CharField(help_text="The digest when it was trained first.")
    found = rest.CharField(allow_blank=True, help_text="And now; empty until it is known.")


@extend_schema_serializer(component_name="Replay")
class ReplayShape(rest.Serializer):
    id = _whole()
    job = _whole()
    generation = _whole()
    state = _one_of(Replay.State)
    from_step = _whole()
    to_step = _whole()
    points = ReplayPointShape(many=True, help_text="The states that it comes past.")
    reason = rest.CharField(allow_blank=True, help_text="Where it differs: the likely cause.")
    first_step = _whole(allow_null=True, help_text="The first step whose values differ.")
    first_value = rest.CharField(allow_blank=True)
    first_tensor = rest.CharField(allow_blank=True)
    steps_compared = _whole()
    seconds = _number()
    environment = rest.DictField()
    is_automatic = rest.BooleanField()
    created_at = _time()
    finished_at = _time(allow_null=True)


@extend_schema_serializer(component_name="VerifyAnswer")
class VerifyAnswer(rest.Serializer):
    message = rest.CharField()
    replays = ReplayShape(many=True)


@extend_schema_serializer(component_name="CertificateLink")
class CertificateLinkShape(rest.Serializer):
    certificate = rest.CharField(help_text="Its public address.")
    badge = rest.CharField(help_text="That of the badge.")


class CertificateView(ApiView):
    @document("show_certificate", "The job's certificate, signed as it is now", answers=certificate_file())
    def get(self, request: Request, pk: int) -> HttpResponse:
        params.read(request, ())
        found = find_job(request, pk)
        response = HttpResponse(services.certificate(found), content_type="application/json")
        response["Content-Disposition"] = f'attachment; filename="{services.name_of(found)}"'
        return response


class CertificateLinkView(ApiView):
    @document(
        "publish_certificate",
        "Give certificate and badge an address that everybody may open",
        answers=answers(200, CertificateLinkShape, 403, 404, 429),
    )
    def put(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        token = services.publish(find_job(request, pk), by=request.user).token
        names = {"certificate": "public-certificate", "badge": "public-badge"}
        return Response(
            {
                name: request.build_absolute_uri(reverse(address, args=[token]))
                for name, address in names.items()
            }
        )

    @document("unpublish_certificate", "Take that address back", answers=answers(204, None, 403, 404, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.unpublish(find_job(request, pk), by=request.user)
        return Response(status=204)


class VerifyOptions(serializers.Input):
    stretches = serializers.WholeNumber(
        min_value=0,
        max_value=10_000,
        default=0,
        help_text="How many, chosen at random; 0: all that were not yet.",
    )


class VerifyView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}
    takes_key = True

    @document(
        "verify_job",
        "Have stretches of this job trained again on slots that are idle, and compared",
        body=VerifyOptions,
        takes_key=True,
        answers=answers(202, VerifyAnswer, 403, 404, 413, 415, 422, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        job, fields = find_job(request, pk), given(request, VerifyOptions)

        def act() -> Response:
            made = services.verify(job, by=request.user, **fields)
            message = f"{len(made)} replays of job {job.pk} wait for a slot that is idle."
            return Response({"message": message, "replays": _replays(made)}, status=202)

        return answer_once(request, act)


class ReplayListView(ApiView):
    @document(
        "list_replays",
        "The job's replays, newest first",
        params=(PAGE, PAGE_SIZE),
        answers=answers(200, serializers.page_of(ReplayShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (PAGE, PAGE_SIZE))
        found = Replay.objects.filter(job=find_job(request, pk)).order_by("-id")
        return Response(pagination.numbered(request, values, found, _replays))


def _replays(rows: Iterable[Replay]) -> list[dict[str, Any]]:
    return [queries.replay_dict(row) for row in rows]
