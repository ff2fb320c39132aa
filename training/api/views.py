"""The REST door: request in, verb, answer out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound as NoSuchAddress
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.recipes import registry
from training import policy, queries, services
from training.api import downloads, pagination, params, serializers
from training.api.doors import Door, find_checkpoint, find_job, given
from training.api.filters import FILTERS, wanted
from training.api.filtersets import EventFilters, filtered, params_of
from training.api.params import AFTER, CURSOR, LIMIT, PAGE, PAGE_SIZE, Param
from training.api.schema import answers, checkpoint_file, document
from training.lifecycle import Answer
from training.models import Checkpoint, Event, LogChunk, Metric
from training.queries import listing

PER = Param(
    "per",
    "One row for each finished step, or for each finished epoch.",
    default="step",
    choices=("step", "epoch"),
)
LIST = (*FILTERS, CURSOR, PAGE, PAGE_SIZE)
EVENTS = (*params_of(EventFilters), AFTER, LIMIT)


class Jobs(Door):
    @document(
        "list_jobs",
        "Find jobs",
        params=LIST,
        answers=answers(200, serializers.JobPage, 404),
    )
    def get(self, request: Request) -> Response:
        values = params.read(request, LIST)
        page = listing.page(
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
        answers=answers(201, serializers.VerbAnswer, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        fields = given(request, serializers.NewJob)
        team = policy.team_named(fields.pop("team", None), request.user)
        result = services.submit(by=request.user, team=team, **{"config": {}} | fields)
        return created(result, request)


class Job(Door):
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
        given(request, serializers.Nothing)
        services.delete(find_job(request, pk), by=request.user)
        return Response(status=204)


class Verb(Door):
    """One verb, asked of one job."""

    verb = ""
    body = serializers.Nothing

    def post(self, request: Request, pk: int) -> Response:
        job = find_job(request, pk)
        options = given(request, self.body)
        result = services.VERBS[self.verb](job, by=request.user, **options)
        return Response(_verb_answer(result, request), status=202 if result.answer is Answer.NOTED else 200)


def verb_view(verb: str, summary: str, body: type[serializers.Input] = serializers.Nothing) -> Any:
    """The view of one verb, with its own name in the schema."""
    documented = document(
        f"{verb}_job",
        summary,
        body=None if body is serializers.Nothing else body,
        answers=answers(200, serializers.VerbAnswer, 202, 403, 404, 409, 413, 415, 429),
    )
    view = type(f"{verb.title()}Job", (Verb,), {"verb": verb, "body": body})
    return documented_method(view, "post", documented).as_view()


def documented_method(view: type[Door], method: str, documented: Any) -> type[Door]:
    inherited = getattr(view, method)

    def own(self: Door, request: Request, pk: int) -> Response:
        return inherited(self, request, pk)

    setattr(view, method, documented(own))
    return view


class Metrics(Door):
    @document(
        "list_metrics",
        "What the training measured",
        params=(PER, AFTER, LIMIT),
        answers=answers(200, serializers.page_of(serializers.MetricShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (PER, AFTER, LIMIT))
        job, after, limit = find_job(request, pk), values["after"], values["limit"]
        rows = Metric.objects.filter(job=job, step__gt=after).order_by("step")
        if values["per"] == "epoch":
            rows = rows.filter(epoch_values__isnull=False)
            shown = [queries.epoch_dict(row) for row in rows[:limit]]
        else:
            shown = [queries.step_dict(row) for row in rows[:limit]]
        return Response(pagination.following(request, shown, count=_count(rows, shown, limit), cursor="step"))


class Events(Door):
    @document(
        "list_events",
        "What happened to the job",
        params=EVENTS,
        answers=answers(200, serializers.page_of(serializers.EventShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, EVENTS)
        job = find_job(request, pk)
        following = Event.objects.filter(job=job, seq__gt=values["after"]).order_by("seq")
        rows = filtered(EventFilters, request, following)
        shown = [queries.event_dict(event) for event in rows[: values["limit"]]]
        count = _count(rows, shown, values["limit"])
        return Response(pagination.following(request, shown, count=count, cursor="seq"))


class Logs(Door):
    @document(
        "list_logs",
        "What the trainer printed",
        params=(AFTER, LIMIT),
        answers=answers(200, serializers.page_of(serializers.LogShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (AFTER, LIMIT))
        job = find_job(request, pk)
        chunks = queries.log_after(job.pk, values["after"], values["limit"])
        shown = [
            {
                "id": chunk.pk,
                "attempt": chunk.attempt,
                "text": chunk.text,
                "created_at": queries.iso(chunk.created_at),
            }
            for chunk in chunks
        ]
        count = _count(LogChunk.objects.filter(job=job, pk__gt=values["after"]), shown, values["limit"])
        return Response(pagination.following(request, shown, count=count, cursor="id"))


class Checkpoints(Door):
    @document(
        "list_checkpoints",
        "The job's checkpoints, newest first",
        params=(PAGE, PAGE_SIZE),
        answers=answers(200, serializers.page_of(serializers.CheckpointShape), 404),
    )
    def get(self, request: Request, pk: int) -> Response:
        values = params.read(request, (PAGE, PAGE_SIZE))
        found = find_job(request, pk).checkpoints.order_by("-id")
        return Response(pagination.numbered(request, values, found, _checkpoints))


class OneCheckpoint(Door):
    @document(
        "show_checkpoint", "Look at a checkpoint", answers=answers(200, serializers.CheckpointShape, 404)
    )
    def get(self, request: Request, pk: int, checkpoint: int) -> Response:
        params.read(request, ())
        return Response(queries.checkpoint_dict(find_checkpoint(request, pk, checkpoint)))

    @document(
        "change_checkpoint",
        "Pin a checkpoint, or no longer",
        body=serializers.CheckpointChange,
        answers=answers(200, serializers.CheckpointShape, 403, 404, 413, 415, 429),
    )
    def patch(self, request: Request, pk: int, checkpoint: int) -> Response:
        found = find_checkpoint(request, pk, checkpoint)
        policy.require(request.user, policy.EDIT, found.job)
        change = given(request, serializers.CheckpointChange)
        changed = services.pin(found, by=request.user, **change) if change else found
        return Response(queries.checkpoint_dict(changed))


class Download(Door):
    @document("download_checkpoint", "Download a checkpoint's file", answers=checkpoint_file())
    def get(self, request: Request, pk: int, checkpoint: int) -> HttpResponseBase:
        params.read(request, ())
        return downloads.send(request, find_checkpoint(request, pk, checkpoint))


class Recipes(Door):
    @document(
        "list_recipes",
        "What can be trained",
        answers=answers(200, serializers.page_of(serializers.RecipeShape)),
    )
    def get(self, request: Request) -> Response:
        params.read(request, ())
        return Response(pagination.whole([_recipe(name) for name in registry.names()]))


class Recipe(Door):
    @document("show_recipe", "Look at a recipe", answers=answers(200, serializers.RecipeShape, 404))
    def get(self, request: Request, name: str) -> Response:
        params.read(request, ())
        if name not in registry.names():
            raise NoSuchAddress(f"There is no recipe {name[:100]!r}.")
        return Response(_recipe(name))


@extend_schema(exclude=True)
class Nowhere(Door):
    """Every other address under /v1/ answers in the same error shape, whatever is asked of it."""

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        hint = " The addresses of the API end without a slash." if request.path.endswith("/") else ""
        raise NoSuchAddress(f"There is nothing at {request.path[:200]}.{hint}")


def created(result: services.Result, request: Request) -> Response:
    """A new job, and where it is."""
    where = request.build_absolute_uri(reverse("api:job", args=[result.job.pk]))
    return Response(_verb_answer(result, request), status=201, headers={"Location": where})


def _checkpoints(rows: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    return [queries.checkpoint_dict(row) for row in rows]


def _verb_answer(result: services.Result, request: Request) -> dict[str, Any]:
    return queries.job_dict(result.job, request.user) | {
        "answer": str(result.answer),
        "message": result.message,
        "task_id": result.task_id,
        "resumes_from": result.resumes_from,
    }


def _recipe(name: str) -> dict[str, Any]:
    info = registry.get(name)
    return {
        "name": info.name,
        "title": info.title,
        "description": info.description,
        "job_type": info.job_type,
        "schema": registry.schema(name),
    }


def _count(rows: Any, shown: list[dict[str, Any]], limit: int) -> int:
    """How many follow the cursor; only asked of the database where more follow than are shown."""
    return len(shown) if len(shown) < limit else rows.count()
