"""A verb for many jobs at once over REST: those of some numbers, or those that a list shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.request import Request
from rest_framework.response import Response

from heimdall.errors import InvalidInput
from training import policy, services
from training.api import serializers
from training.api.base import ApiView, given
from training.api.idempotency import answer_slow_request_once
from training.api.schema import answers, document
from training.lifecycle import USER_VERBS, Answer, StopAt, Verb
from training.presentation.errors import describe
from training.queries.bulk_selection import changeable
from training.queries.filters import Filters


class AskMany(serializers.Input):
    verb = rest.ChoiceField(choices=[str(verb) for verb in USER_VERBS])
    ids = rest.ListField(
        child=serializers.WholeNumber(min_value=1, max_value=2**63 - 1),
        min_length=1,
        max_length=services.MOST_AT_ONCE,
        required=False,
        help_text="Numbers of jobs; either these, or a query.",
    )
    query = serializers.query_field(
        required=False,
        help_text="Jobs as the list's address has them, such as status=queued&tags=nightly; empty: all that you see. "
        f"The first {services.MOST_AT_ONCE} whose state the verb can change are asked.",
    )
    at = rest.ChoiceField(
        choices=[StopAt.EPOCH.value, StopAt.STEP.value],
        required=False,
        help_text="Of pause: at the end of the epoch (without it too), or after the step under way.",
    )


@extend_schema_serializer(component_name="BulkResult")
class OneResult(rest.Serializer):
    id = rest.IntegerField(min_value=1)
    answer = rest.ChoiceField(
        choices=[str(answer) for answer in Answer], allow_null=True, help_text="Null: refused."
    )
    message = rest.CharField(help_text="What happened, or when it will, or why not.")
    error = serializers.ErrorDetail(allow_null=True, help_text="As the verb of one job answers.")


@extend_schema_serializer(component_name="BulkAnswer")
class ManyResults(rest.Serializer):
    verb = rest.ChoiceField(choices=[str(verb) for verb in USER_VERBS])
    num_done = rest.IntegerField(min_value=0, help_text="Answered done, noted or already.")
    num_refused = rest.IntegerField(min_value=0)
    more = rest.BooleanField(help_text="Whether the query finds more jobs than are asked at once: ask again.")
    results = OneResult(many=True)


class BulkView(ApiView):
    """Each job is asked by itself, and the answer says of each what became of it: one refusal stops nothing."""

    needs = {"POST": policy.Right.ACT}  # whether it suffices for the verb is asked for each job
    takes_key = True

    @document(
        "ask_many_jobs",
        "Ask one verb of many jobs",
        body=AskMany,
        takes_key=True,
        answers=answers(200, ManyResults, 409, 413, 415, 422, 429),
    )
    def post(self, request: Request) -> Response:
        fields = given(request, AskMany)
        options = _options(fields)

        def act(keep: Callable[[Response], Any]) -> Response:
            response = Response(_ask(request, fields, options))
            keep(response)
            return response

        return answer_slow_request_once(request, act)


def _ask(request: Request, fields: dict[str, Any], options: dict[str, str]) -> dict[str, Any]:
    numbers, more = _numbers(request, fields)
    results = [_result(one) for one in services.ask_each(numbers, fields["verb"], by=request.user, **options)]
    num_refused = sum(result["error"] is not None for result in results)
    counts = {"num_done": len(results) - num_refused, "num_refused": num_refused, "more": more}
    return {"verb": fields["verb"], **counts, "results": results}


def _options(fields: dict[str, Any]) -> dict[str, str]:
    if "at" in fields and fields["verb"] != Verb.PAUSE:
        raise InvalidInput({"at": ["Only a pause takes it."]})
    return {"at": fields["at"]} if "at" in fields else {}


def _numbers(request: Request, fields: dict[str, Any]) -> tuple[list[int], bool]:
    """Those of the jobs to ask, each once, and whether there are more of them."""
    if ("ids" in fields) == ("query" in fields):
        raise InvalidInput({"ids": ["Give either ids or a query."]})
    if "ids" in fields:
        return list(dict.fromkeys(fields["ids"])), False
    wanted = Filters.read(fields["query"], strictly=True).wanted(request.user)
    return changeable(request.user, Verb(fields["verb"]), wanted, most=services.MOST_AT_ONCE)


def _result(asked: services.Asked) -> dict[str, Any]:
    if asked.result is None:
        error = describe(asked.error)["error"]
        return {"id": asked.number, "answer": None, "message": error["message"], "error": error}
    result = {"answer": str(asked.result.answer), "message": asked.result.message}
    return {"id": asked.number, **result, "error": None}
