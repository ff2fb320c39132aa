"""The code of programs over REST: brought, looked at, downloaded."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_serializer
from rest_framework import serializers as rest
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, services
from training.api.base import ApiView
from training.api.bodies import AnyBody
from training.api.schema import answers, code_file, document
from training.errors import NotFound
from training.models import CodeArchive
from training.presentation import code_files, params
from training.presentation.params import Param
from training.queries.code import code_dict, visible_code

MEDIA_TYPES = ("application/octet-stream", "application/gzip")
COMMIT = Param("commit", "The git commit that it was packed at.", default="", longest=64)
IS_DIRTY = Param(
    "is_dirty", "Whether something differed from it.", default="false", choices=("false", "true")
)


@extend_schema_serializer(component_name="Code")
class CodeShape(rest.Serializer):
    digest = rest.CharField(help_text="SHA-256 of what is in it: what a job names it by.")
    size = rest.IntegerField(min_value=0, help_text="Bytes of its files.")
    num_files = rest.IntegerField(min_value=0)
    files = rest.ListField(child=rest.CharField(), help_text="Their paths.")
    commit = rest.CharField(
        allow_blank=True,
        help_text="Where git stood when you brought it; else as it stands at the newest job that runs it.",
    )
    is_dirty = rest.BooleanField(help_text="Whether something differed from that commit.")
    owner = rest.CharField(
        allow_blank=True, help_text="Who brought it first; empty where you see no job of theirs."
    )
    jobs = rest.ListField(
        child=rest.IntegerField(min_value=0), help_text="Numbers of the newest that run it."
    )
    created_at = rest.DateTimeField()


class CodeView(ApiView):
    needs = {"POST": policy.Right.SUBMIT}
    parser_classes = (AnyBody,)

    @document(
        "upload_program_code",
        "Bring the code of a program: a gzipped tar of a folder",
        body={"application/octet-stream": OpenApiTypes.BINARY},
        params=(COMMIT, IS_DIRTY),
        answers=answers(201, CodeShape, 403, 413, 415, 429),
    )
    def post(self, request: Request) -> Response:
        given = params.read(request, (COMMIT, IS_DIRTY))
        services.require_programs(request.user)
        declared = request.content_type.partition(";")[0].strip().lower()
        if declared not in MEDIA_TYPES:
            raise UnsupportedMediaType(declared[:100], "Send the archive as application/octet-stream.")
        kept = services.keep_code(
            request._request, by=request.user, commit=given["commit"], is_dirty=given["is_dirty"] == "true"
        )
        return Response(code_dict(kept, request.user), status=201)


class CodeDetailView(ApiView):
    @document("show_program_code", "Look at the code of a program", answers=answers(200, CodeShape, 404))
    def get(self, request: Request, digest: str) -> Response:
        params.read(request, ())
        return Response(code_dict(find_code(request, digest), request.user))


class CodeDownloadView(ApiView):
    @document(
        "download_program_code",
        "Download the code of a program",
        answers=code_file(),
    )
    def get(self, request: Request, digest: str) -> HttpResponseBase:
        params.read(request, ())
        return code_files.send(request, find_code(request, digest))


def find_code(request: Request, digest: str) -> CodeArchive:
    found = visible_code(request.user).select_related("owner").filter(digest=digest).first()
    if found is None:
        raise NotFound("There is no code with this digest that you may see.")
    return found
