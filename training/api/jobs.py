"""Jobs over REST: find, submit, look at, change, delete."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_job, given
from training.api.idempotency import answer_once
from training.api.schema import answers, document
from training.api.verbs import created
from training.presentation import params
from training.presentation.filters import FILTERS, wanted
from training.presentation.params import CURSOR, PAGE, PAGE_SIZE
from training.queries import job_list

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
        fields = given(request, serializers.NewJob)
        team = policy.team_named(fields.pop("team", None), request.user)
        fields = {"config": {}} | fields | {"team": team}
        return answer_once(request, lambda: created(services.submit(by=request.user, **fields), request))


class JobDetailView(ApiView):
    @document("show_job", "Look at a job", answers=answers(200, serializers.JobShape, 404))
    def get(self, request: Request, pk: int) -> Response:
        params.read(request, ())
        return Response(queries.job_dict(find_job(request, pk), request.user))

    @document(
        "change_job",
        "Change a job's name, description, priority, pool or tags",
        body=serializers.JobChange,
        answers=answers(200, serializers.JobShape, 403, 404, 413, 415, 429),
    )
    def patch(self, request: Request, pk: int) -> Response:
        job = find_job(request, pk)
        policy.require(request.user, policy.EDIT, job)
        changed = services.edit(job, by=request.user, **given(request, serializers.JobChange))
        return Response(queries.job_dict(changed, request.user))

    @document("delete_job", "Delete a finished job", answers=answers(204, None, 403, 404, 409, 429))
    def delete(self, request: Request, pk: int) -> Response:
        given(request, serializers.NoOptions)
        services.delete(find_job(request, pk), by=request.user)
        return Response(status=204)
