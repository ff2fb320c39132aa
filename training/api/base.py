"""What every view of the API has in common: JSON only, a login first, one job looked up in one way."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponsePermanentRedirect
from django.urls import Resolver404, resolve
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.exceptions import NotFound as NoSuchAddress
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from training import policy, queries
from training.api import bodies, idempotency
from training.api.condensing import condense
from training.api.renderers import JsonNegotiation, JsonRenderer
from training.api.serializers import Input
from training.errors import NotFound
from training.models import Checkpoint, TrainingJob
from training.presentation import params, throttles
from training.presentation.throttles import VerbThrottle

SAFE = ("GET", "HEAD", "OPTIONS")


class ApiView(APIView):
    renderer_classes = (JsonRenderer,)
    parser_classes = (bodies.UnparsedBody,)
    content_negotiation_class = JsonNegotiation
    limit_headers: dict[str, str] = {}
    needs: dict[str, policy.Right] = {}  # of a token, by method; a GET needs READ, everything else ADMIN
    takes_key = False  # whether its POST is done once for each Idempotency-Key

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method not in self.allowed_methods:
            raise MethodNotAllowed(str(request.method))  # before the login: it is so for everybody
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and not self.takes_key:
            idempotency.refuse_key(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().finalize_response(request, response, *args, **kwargs)
        for name, value in self.limit_headers.items():
            found.headers.setdefault(name, value)
        if isinstance(found, Response):
            condense(request, found)
        return found

    def check_throttles(self, request: Request) -> None:
        """Every answer to what is bound says how much is left."""
        try:
            super().check_throttles(request)
        finally:
            if request.method not in SAFE:
                self.limit_headers = throttles.limit_headers(request.user)

    def get_throttles(self) -> list[Any]:
        return [] if self.request.method in SAFE else [VerbThrottle()]


class SchemaView(SpectacularAPIView):
    """The description of the API: JSON, or YAML for who asks for it."""

    permission_classes = (IsAuthenticated,)
    renderer_classes = (OpenApiJsonRenderer, OpenApiYamlRenderer)


@extend_schema(exclude=True)
class UnknownAddressView(ApiView):
    """Every other address under /v1/ answers in the same error shape, whatever is asked of it.

    One that has a slash too many leads on, with method and body, to the one that is meant.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        meant = request.path_info.rstrip("/")
        if meant != request.path_info and _is_known(meant):
            query = f"?{request.META['QUERY_STRING']}" if request.META.get("QUERY_STRING") else ""
            return HttpResponsePermanentRedirect(request.path.rstrip("/") + query, preserve_request=True)
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NoSuchAddress(f"There is nothing at {request.path[:200]}.")


def _is_known(path: str) -> bool:
    try:
        return resolve(path).func.view_class is not UnknownAddressView
    except (Resolver404, AttributeError):
        return False


def given(
    request: Request,
    shape: type[Input],
    query: tuple[params.Param, ...] = (),
    *,
    most_names: int = bodies.MAX_NAMES,
) -> dict[str, Any]:
    """The body, checked for its form. Query parameters beside those of `query` have no meaning and are refused."""
    params.read(request, query)
    request.parsed_body = bodies.read_object(request, most_names)
    serializer = shape(data=request.parsed_body)
    serializer.is_valid(raise_exception=True)
    return serializer.validated_data


def find_job(request: Request, pk: int) -> TrainingJob:
    """The job, if the user may see it."""
    visible = queries.with_relations(policy.visible_jobs(request.user))
    job = visible.filter(pk=pk).first()
    if job is None:
        raise NotFound(f"There is no job {str(pk)[:20]}.")
    return job


def find_checkpoint(request: Request, pk: int, checkpoint: int) -> Checkpoint:
    """A checkpoint of a job that the user may see."""
    job = find_job(request, pk)
    found = Checkpoint.objects.select_related("job").filter(job=job, pk=checkpoint).first()
    if found is None:
        raise NotFound(f"Job {job.pk} has no checkpoint {str(checkpoint)[:20]}.")
    return found
