"""Jobs over REST: find, submit, look at, change, delete."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.errors import InvalidInput
from training import policy, queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.condensing import tags_in
from training.api.idempotency import answer_once
from training.api.schema import SPARSE, answers, document, exported_jobs, sparse
from training.api.verbs import created
from training.models import TrainingJob
from training.presentation import exports, params
from training.presentation.filters import FIELDS_PARAM, FILTERS, FORMAT, wanted
from training.presentation.params import CURSOR, PAGE, PAGE_SIZE
from training.queries import job_list
from training.queries.columns import chosen

TAGS = r'(\*|(W/)?"[0-9a-zA-Z.]{1,64}"(, ?(W/)?"[0-9a-zA-Z.]{1,64}"){0,9})'
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "pattern": f"^{TAGS}$"},
    OpenApiParameter.HEADER,
    description="The ETag under which the job was read: what somebody edited since then is not overwritten.",
)
LIST = (*FILTERS, FIELDS_PARAM, CURSOR, PAGE, PAGE_SIZE)
EXPORT = (*FILTERS, FORMAT, FIELDS_PARAM)


class JobListView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}
    takes_key = True

    @document(
        "list_jobs",
        "Find jobs",
        params=LIST,
        answers=sparse(answers(200, serializers.JobPage, 404), serializers.SparseJobPage),
    )
    def get(self, request: Request) -> Response:
        values = params.read(request, LIST)
        page = job_list.page(
            request.user,
            wanted(values),
            size=values["page_size"],
            number=values["page"],
            cursor=values["cursor"],
        )
        if values["fields"] is None:
            return Response(pagination.beside(request, page))
        page = replace(page, jobs=chosen(page.jobs, values["fields"]))
        return Response(pagination.beside(request, page), content_type=SPARSE)

    @document(
        "submit_job",
        "Submit a job",
        body=serializers.NewJob,
        takes_key=True,
        answers=answers(201, serializers.VerbAnswer, 403, 413, 415, 422, 429),
    )
    def post(self, request: Request) -> Response:
        fields = _new_job(request)
        return answer_once(request, lambda: created(services.submit(by=request.user, **fields), request))


class ExportView(ApiView):
    @document("export_jobs", "All jobs that fit, as a file", params=EXPORT, answers=exported_jobs())
    def get(self, request: Request) -> HttpResponseBase:
        values = params.read(request, EXPORT)
        found = exports.pages(request.user, wanted(values))
        return exports.send_jobs(request, found, values["format"], values["fields"])


class TrySubmissionView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}

    @document(
        "try_submission",
        "What a submission would make, or why it would be refused; nothing is made",
        body=serializers.NewJob,
        answers=answers(200, serializers.TriedJobShape, 403, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        tried = services.try_submission(by=request.user, **_new_job(request))
        job = tried.job
        return Response(
            {
                "job_type": job.job_type,
                "config": job.config,
                "total_epochs": job.total_epochs,
                "memory_bytes": tried.memory_bytes,
                "waiting": tried.waiting.as_dict() if tried.waiting else None,
                "free_slots": tried.forecast.free_slots,
                "starts_in_seconds": tried.forecast.starts_in_seconds,
            }
        )


class JobDetailView(ApiView):
    needs = {"PATCH": policy.right_for(policy.EDIT)}

    @document(
        "show_job",
        "Look at a job",
        params=(FIELDS_PARAM,),
        answers=sparse(answers(200, serializers.JobShape, 404), OpenApiTypes.OBJECT),
    )
    def get(self, request: Request, pk: int) -> Response:
        fields = params.read(request, (FIELDS_PARAM,))["fields"]
        return _shown(find_job(request, pk), request, fields)

    @document(
        "change_job",
        "Change a job's name, description, priority, pool or tags",
        body=serializers.JobChange,
        headers=(IF_MATCH,),
        answers=answers(200, serializers.JobShape, 403, 404, 412, 413, 415, 429),
    )
    def patch(self, request: Request, pk: int) -> Response:
        job = find_job(request, pk)
        policy.require(request.user, policy.EDIT, job)
        change = given(request, serializers.JobChange)
        return _shown(services.edit(job, by=request.user, versions=_versions(request), **change), request)

    @document("delete_job", "Delete a finished job", answers=answers(204, None, 403, 404, 409, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.delete(find_job(request, pk), by=request.user)
        return Response(status=204)


def _shown(job: TrainingJob, request: Request, fields: list[str] | None = None) -> Response:
    """The tag has two halves: what can be edited, which If-Match asks for, and everything that is shown."""
    shown = queries.job_dict(job, request.user)
    shown = chosen([shown], fields)[0] if fields else shown
    whole = hashlib.sha256(json.dumps(shown, sort_keys=True, default=str).encode()).hexdigest()[:16]
    kind = SPARSE if fields else None
    return Response(shown, content_type=kind, headers={"ETag": f'"{services.edit_version(job)}.{whole}"'})


def _new_job(request: Request) -> dict[str, Any]:
    fields = given(request, serializers.NewJob)
    team = policy.team_named(fields.pop("team", None), request.user)
    return {"config": {}} | fields | {"team": team}


def _versions(request: Request) -> set[str] | None:
    header = request.headers.get("If-Match", "*")
    if not re.fullmatch(TAGS, header):
        raise InvalidInput({"If-Match": ["Give the ETag of an answer as it is, or *."]})
    if header == "*":
        return None
    return {tag.strip('"').partition(".")[0] for tag in tags_in(header)}
