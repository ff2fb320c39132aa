"""The certificate of a job: to download, to make public, and to have more of it shown."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from heimdall.errors import InvalidInput
from training import policy, queries, services
from training.errors import NotFound
from training.models import CertificateKey, TrainingJob
from training.presentation.badges import badge as drawn
from training.presentation.throttles import throttle_strangers
from training.queries.values import iso
from training.views.page import page, visible_job

MEDIA_TYPE = "application/json"
EVERYBODY = {"Access-Control-Allow-Origin": "*"}


@page
@require_GET
def certificate(request: HttpRequest, job_id: int) -> HttpResponse:
    return _document(visible_job(request, job_id))


@page
@require_GET
def badge(request: HttpRequest, job_id: int) -> HttpResponse:
    return _badge(visible_job(request, job_id))


@page
@require_http_methods(["GET", "POST"])
def verify(request: HttpRequest, job_id: int) -> HttpResponse:
    """Asks first: how many stretches are to be trained again."""
    seen = visible_job(request, job_id)
    policy.require(request.user, policy.EDIT, seen)
    refused = services.why_not_verifiable(seen)
    if request.method == "POST" and not refused:
        try:
            made = services.verify(
                seen, by=request.user, stretches=_number(request.POST.get("stretches", ""))
            )
        except InvalidInput as error:
            refused = error.sentences
        else:
            messages.success(request, f"{len(made)} replays wait for a slot that is idle.")
            return redirect(reverse("job", args=[job_id]) + "#certificate")
    context = {"section": "jobs", "job": seen, "refused": refused}
    return render(request, "job_verify.html", context, status=400 if request.method == "POST" else 200)


@page
@require_POST
def publish(request: HttpRequest, job_id: int) -> HttpResponse:
    seen = visible_job(request, job_id)
    if request.POST.get("public") == "1":
        services.publish(seen, by=request.user)
        messages.success(
            request, "Everybody who knows the address can see the badge and the certificate now."
        )
    else:
        services.unpublish(seen, by=request.user)
        messages.success(request, "The public address of the certificate leads nowhere now.")
    return redirect(reverse("job", args=[job_id]) + "#certificate")


@throttle_strangers
@require_GET
def public_certificate(request: HttpRequest, token: str) -> HttpResponse:
    """No login: the owner has made it public, and whoever comes knows the address."""
    return _open_to_everybody(_document(_published(token)))


@throttle_strangers
@require_GET
def public_badge(request: HttpRequest, token: str) -> HttpResponse:
    return _open_to_everybody(_badge(_published(token)))


@throttle_strangers
@require_GET
def keys(request: HttpRequest) -> HttpResponse:
    """The public halves of the keys that certificates of this server are signed with. No login: they are public."""
    services.signing_key()
    rows = [
        {
            "keyid": row.key_id,
            "public": row.public,
            "created_at": iso(row.created_at),
            "retired_at": iso(row.retired_at),
        }
        for row in CertificateKey.objects.order_by("-id")
    ]
    return _open_to_everybody(JsonResponse({"keys": rows}))


def _published(token: str) -> TrainingJob:
    try:
        return services.published(token)
    except NotFound as error:
        raise Http404(str(error)) from error


def _document(job: TrainingJob) -> HttpResponse:
    response = HttpResponse(services.certificate(job), content_type=MEDIA_TYPE)
    response["Content-Disposition"] = f'attachment; filename="{services.name_of(job)}"'
    return response


def _badge(job: TrainingJob) -> HttpResponse:
    return drawn(queries.evidence(job), job.replayed)


def _open_to_everybody(response: HttpResponse) -> HttpResponse:
    for name, value in EVERYBODY.items():
        response[name] = value
    return response


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else -1
