"""A job's checkpoints, and their files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from training import policy, queries, services
from training.api import pagination, serializers
from training.api.base import ApiView, find_checkpoint, find_job, given
from training.api.schema import answers, checkpoint_file, document
from training.models import Checkpoint
from training.presentation import checkpoint_files, params
from training.presentation.params import PAGE, PAGE_SIZE


class CheckpointListView(ApiView):
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


class CheckpointDetailView(ApiView):
    needs = {"PATCH": policy.right_for(policy.EDIT)}

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


class CheckpointDownloadView(ApiView):
    @document("download_checkpoint", "Download a checkpoint's file", answers=checkpoint_file())
    def get(self, request: Request, pk: int, checkpoint: int) -> HttpResponseBase:
        params.read(request, ())
        return checkpoint_files.send(request, find_checkpoint(request, pk, checkpoint))


def _checkpoints(rows: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    return [queries.checkpoint_dict(row) for row in rows]
