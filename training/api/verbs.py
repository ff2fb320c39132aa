"""The verbs over REST: each is asked of one job, and answers with the job as it is then."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, queries, services
from training.api import serializers
from training.api.base import ApiView, find_job, given
from training.api.idempotency import answer_once
from training.api.schema import answers, document
from training.lifecycle import Answer, Verb

ANSWERS = answers(200, serializers.VerbAnswer, 202, 403, 404, 409, 413, 415, 422, 429)


class VerbView(ApiView):
    """Asks a verb of a job: 202 where it takes effect later, else 200."""

    takes_key = True

    def ask(
        self, request: Request, pk: int, verb: Verb, options: type[serializers.Input] = serializers.NoOptions
    ) -> Response:
        job, fields = find_job(request, pk), given(request, options)

        def act() -> Response:
            result = services.VERBS[verb](job, by=request.user, **fields)
            return Response(
                verb_answer(result, request), status=202 if result.answer is Answer.NOTED else 200
            )

        return answer_once(request, act)


class PauseView(VerbView):
    needs = {"POST": policy.right_for(Verb.PAUSE)}

    @document(
        "pause_job",
        "Pause a job",
        body=serializers.PauseOptions,
        takes_key=True,
        answers=ANSWERS,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.ask(request, pk, Verb.PAUSE, serializers.PauseOptions)


class ResumeView(VerbView):
    needs = {"POST": policy.right_for(Verb.RESUME)}

    @document(
        "resume_job",
        "Resume a job, or withdraw its pause",
        body=serializers.ResumeOptions,
        takes_key=True,
        answers=ANSWERS,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.ask(request, pk, Verb.RESUME, serializers.ResumeOptions)


class RestartView(VerbView):
    needs = {"POST": policy.right_for(Verb.RESTART)}

    @document(
        "restart_job",
        "Begin again at step 0",
        takes_key=True,
        answers=ANSWERS,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.ask(request, pk, Verb.RESTART)


class CancelView(VerbView):
    needs = {"POST": policy.right_for(Verb.CANCEL)}

    @document(
        "cancel_job",
        "Cancel a job",
        takes_key=True,
        answers=ANSWERS,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.ask(request, pk, Verb.CANCEL)


class DiscardView(VerbView):
    needs = {"POST": policy.right_for(Verb.DISCARD)}

    @document(
        "discard_job",
        "Give a paused job up",
        takes_key=True,
        answers=ANSWERS,
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.ask(request, pk, Verb.DISCARD)


def created(result: services.Result, request: Request) -> Response:
    """A new job, and where it is."""
    where = request.build_absolute_uri(reverse("api:job", args=[result.job.pk]))
    return Response(verb_answer(result, request), status=201, headers={"Location": where})


def verb_answer(result: services.Result, request: Request) -> dict[str, Any]:
    return queries.job_dict(result.job, request.user) | {
        "answer": str(result.answer),
        "message": result.message,
        "task_id": result.task_id,
        "resumes_from": result.resumes_from,
    }
