"""Jobs over REST: find, submit, look at, change, delete."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.errors import InvalidInput
from training import policy, queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.condensing import tags_in
from training.api.idempotency import answer_once
from training.api.schema import answers, document
from training.api.verbs import created
from training.models import TrainingJob
from training.presentation import params
from training.presentation.filters import FILTERS, wanted
from training.presentation.params import CURSOR, PAGE, PAGE_SIZE
from training.queries import job_list

TAGS = r'(\*|(W/)?"[0-9a-zA-Z.]{1,64}"(, ?(W/)?"[0-9a-zA-Z.]{1,64}"){0,9})'
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "pattern": f"^{TAGS}$"},
    OpenApiParameter.HEADER,
    description="The ETag under which the job was read: what somebody edited since then is not overwritten.",
)
LIST = (*FILTERS, CURSOR, PAGE, PAGE_SIZE)


class JobListView(ApiView):
    takes_key = True

    @document(
        "list_jobs",
        "Find jobs",
        params=LIST,
        answers=answers(200, serializers.JobPage, 404),
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
        return Response(pagination.beside(request, page))

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


class TrySubmissionView(ApiView):
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
            }
        )


class JobDetailView(ApiView):
    @document("show_job", "Look at a job", answers=answers(200, serializers.JobShape, 404))
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return _shown(find_job(request, pk), request)

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


def _shown(job: TrainingJob, request: Request) -> Response:
    """The tag has two halves: what can be edited, which If-Match asks for, and everything that is shown."""
    shown = queries.job_dict(job, request.user)
    whole = hashlib.sha256(json.dumps(shown, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return Response(shown, headers={"ETag": f'"{services.edit_version(job)}.{whole}"'})


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
