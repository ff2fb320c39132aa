"""New jobs that begin from others over REST: clone, extend, fork."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, services
from training.api import serializers
from training.api.base import ApiView, find_job, given
from training.api.idempotency import answer_once, answer_slow_request_once
from training.api.schema import answers, document
from training.api.verbs import created
from training.models import TrainingJob
from training.services.forks import CARRIES, TRAINING

MAX_SAMPLES = 1_000_000_000
MAX_EPOCHS = 100_000


class Extension(serializers.Input):
    epochs = serializers.WholeNumber(
        min_value=1, max_value=MAX_EPOCHS, required=False, help_text="How many more, of a completed training."
    )
    samples = serializers.WholeNumber(
        min_value=1, max_value=MAX_SAMPLES, required=False, help_text="How many more, of a dataset."
    )


class Copy(serializers.NewJob):
    """What a new job takes, without the recipe; what is left out is as the other job has it."""

    job_name = serializers.name_field(required=False)
    recipe = None  # type: ignore[assignment]
    config = serializers.JsonObject(required=False, help_text="The settings that change.")


class Fork(Copy):
    checkpoint = serializers.WholeNumber(
        min_value=1, required=False, help_text="Its number; without it the newest good one."
    )
    carry = rest.ChoiceField(
        choices=list(CARRIES),
        default=TRAINING,
        help_text="training: everything goes on, the counts too. weights: the weights alone, from step 0.",
    )


def _read(request: Request, pk: int, shape: type[serializers.Input]) -> tuple[TrainingJob, dict[str, Any]]:
    job, fields = find_job(request, pk), given(request, shape)
    if "team" in fields:
        fields["team"] = policy.team_named(fields["team"], request.user)
    return job, fields


class CloneView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}
    takes_key = True

    @document(
        "clone_job",
        "Begin a job like this one from nothing",
        body=Copy,
        takes_key=True,
        answers=answers(201, serializers.VerbAnswer, 403, 404, 413, 415, 422, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        job, fields = _read(request, pk, Copy)
        return answer_once(request, lambda: created(services.clone(job, by=request.user, **fields), request))


class CheckOptions(serializers.Input):
    steps = serializers.WholeNumber(
        min_value=3, max_value=10_000, default=30, help_text="How many steps are trained."
    )


class CheckView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}
    takes_key = True

    @document(
        "check_job",
        "Check whether this job's script is resumed exactly, as a job of its own",
        body=CheckOptions,
        takes_key=True,
        answers=answers(201, serializers.VerbAnswer, 403, 404, 413, 415, 422, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        job, fields = find_job(request, pk), given(request, CheckOptions)
        return answer_once(request, lambda: created(services.check(job, by=request.user, **fields), request))


class NewJobFromCheckpointView(ApiView):
    """A verb of which a new job comes that has its own copy of a checkpoint's file."""

    needs = {"POST": policy.Right.SUBMIT}
    takes_key = True

    def answer(self, request: Request, pk: int, verb: Any, shape: type[serializers.Input]) -> Response:
        job, fields = _read(request, pk, shape)

        def act(keep: Callable[[Response], Any]) -> Response:
            made = verb(job, by=request.user, on_made=lambda result: keep(created(result, request)), **fields)
            return created(made, request)

        return answer_slow_request_once(request, act)


class ExtendView(NewJobFromCheckpointView):
    @document(
        "extend_job",
        "More epochs of a training, or more of a job's dataset",
        body=Extension,
        takes_key=True,
        answers=answers(201, serializers.VerbAnswer, 403, 404, 409, 410, 413, 415, 422, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.answer(request, pk, services.extend, Extension)


class ForkView(NewJobFromCheckpointView):
    @document(
        "fork_job",
        "Begin a job from a checkpoint of this one, with other settings",
        body=Fork,
        takes_key=True,
        answers=answers(201, serializers.VerbAnswer, 403, 404, 409, 410, 413, 415, 422, 429),
    )
    def post(self, request: Request, pk: int) -> Response:
        return self.answer(request, pk, services.fork, Fork)
