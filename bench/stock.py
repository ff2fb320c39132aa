"""The list of jobs as DRF's tutorial would write it: the same rows, filters and fields as Heimdall's own list."""

from __future__ import annotations

from typing import Any

import django_filters
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import filters, generics, serializers
from rest_framework.pagination import PageNumberPagination

from training import placement, policy, queries
from training.api.renderers import JsonRenderer
from training.models import Checkpoint, TrainingJob


class Finite(serializers.FloatField):
    def to_representation(self, value: float) -> float | None:
        return queries.finite(value)


class CheckpointSerializer(serializers.ModelSerializer):
    job = serializers.IntegerField(source="job_id")
    val_loss = Finite()

    class Meta:
        model = Checkpoint
        fields = (
            "id", "job", "kinds", "epoch", "step", "attempt", "size", "digest", "header_sha256", "val_loss", "pinned",
            "quarantined_at", "quarantine_reason", "created_at",
        )  # fmt: skip


class JobSerializer(serializers.ModelSerializer):
    owner = serializers.CharField(source="owner.username")
    team = serializers.CharField(source="team.name", default=None)
    dataset = serializers.CharField(source="dataset.name", default=None)
    parent = serializers.IntegerField(source="parent_id")
    stop = serializers.SerializerMethodField()
    headline = serializers.SerializerMethodField()
    waiting = serializers.SerializerMethodField()
    progress_percent = serializers.SerializerMethodField()
    eta_seconds = serializers.SerializerMethodField()
    train_loss, val_loss, learning_rate, best_val_loss = Finite(), Finite(), Finite(), Finite()
    checkpoint = CheckpointSerializer(source="latest_checkpoint")
    verbs = serializers.SerializerMethodField()

    class Meta:
        model = TrainingJob
        fields = (
            "id", "job_name", "description", "job_type", "recipe", "owner", "team", "parent", "origin", "tags",
            "dataset", "priority", "pool", "status", "stop", "headline", "waiting", "phase", "attempt",
            "config", "current_epoch", "total_epochs", "current_step", "total_steps", "progress_percent",
            "eta_seconds", "train_loss", "val_loss", "metrics", "learning_rate", "best_epoch", "best_val_loss",
            "error_code", "error_message", "checkpoint", "environment", "approximate", "event_seq",
            "created_at", "queued_at", "started_at", "completed_at", "updated_at", "verbs",
        )  # fmt: skip

    def get_stop(self, job: TrainingJob) -> dict[str, str] | None:
        return {"kind": job.stop, "at": job.stop_at} if job.stop else None

    def get_headline(self, job: TrainingJob) -> str:
        return queries.headline(job)

    def get_waiting(self, job: TrainingJob) -> dict[str, Any] | None:
        reason = placement.waiting_reasons([job]).get(job.pk)
        return reason.as_dict() if reason else None

    def get_progress_percent(self, job: TrainingJob) -> float:
        return queries.progress_percent(job)

    def get_eta_seconds(self, job: TrainingJob) -> float | None:
        return queries.eta_seconds(job)

    def get_verbs(self, job: TrainingJob) -> list[str]:
        return queries.available_verbs(job, self.context["request"].user)


class JobFilter(django_filters.FilterSet):
    status = django_filters.BaseInFilter()
    owner = django_filters.CharFilter(field_name="owner__username")
    team = django_filters.CharFilter(field_name="team__name")

    class Meta:
        model = TrainingJob
        fields = ("status", "job_type", "recipe", "owner", "team", "parent")


class Pages(PageNumberPagination):
    page_size = 50


class StockJobs(generics.ListAPIView):
    serializer_class = JobSerializer
    renderer_classes = (JsonRenderer,)
    filter_backends = (DjangoFilterBackend, filters.SearchFilter, filters.OrderingFilter)
    filterset_class = JobFilter
    search_fields = ("job_name", "description")
    ordering_fields = "__all__"
    ordering = ("-id",)
    pagination_class = Pages

    def get_queryset(self) -> Any:
        return queries.with_relations(policy.visible_jobs(self.request.user))
