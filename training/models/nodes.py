"""The hosts that jobs run on, and what happened to each."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class Node(models.Model):
    """A host that runs (or ran) a worker. Its worker writes it; people only drain it and take it out."""

    name = models.CharField(max_length=200, unique=True)
    boot_id = models.CharField(max_length=64, blank=True)
    slots = models.PositiveSmallIntegerField(default=1)
    devices = models.JSONField(
        default=list, blank=True, help_text="Of each slot: the device, and what it is called."
    )
    pools = models.JSONField(default=list, blank=True, help_text="Labels that jobs may ask for.")
    environments = models.JSONField(
        default=list,
        blank=True,
        help_text="Names of the Pythons that programs may run in here, beside its own.",
    )
    versions = models.JSONField(default=dict, blank=True)
    load = models.JSONField(
        default=dict, blank=True, help_text="Memory and utilisation, as the worker last measured them."
    )
    worker_pid = models.PositiveIntegerField(default=0)
    worker_started_at = models.DateTimeField(null=True, blank=True)
    last_seen_at = models.DateTimeField(null=True, blank=True)
    draining = models.BooleanField(default=False, help_text="Its worker is stopping.")
    drained_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then it takes no job: somebody drained it."
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class NodeEvent(models.Model):
    """What happened to a node, and who did it. Kept when the node is taken out."""

    node = models.ForeignKey(Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=40)
    message = models.TextField()
    actor = models.CharField(max_length=160)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["name", "-id"], name="node_events_newest_first")]

    def __str__(self) -> str:
        return f"{self.kind} of node {self.name}"
