"""Attempts: each claim of a job, from claim to landing."""

from __future__ import annotations

from django.db import models
from django.db.models import Count, Q, Sum
from django.db.models.functions import Now

from training.models.jobs import TrainingJob

WAIT_BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)
_SUMS = ("waited_seconds", "checkpoints", "checkpoint_bytes", "checkpoint_seconds")


class Attempts(models.QuerySet):
    def counted(self) -> dict[str, float]:
        """What these attempts add to the counters of /metrics, by a name for each."""
        steps = {
            f"wait_{bucket}": Count("pk", filter=Q(waited_seconds__lte=bucket)) for bucket in WAIT_BUCKETS
        }
        sums = {name: Sum(name, default=0) for name in _SUMS}
        found = self.aggregate(waits=Count("waited_seconds"), **steps, **sums)
        ended = self.exclude(outcome="").order_by().values_list("outcome").annotate(count=Count("pk"))
        return found | {f"outcome_{outcome}": count for outcome, count in ended}


class Attempt(models.Model):
    """One claim of a job by a supervisor, from claim to landing. Open while `ended_at` is empty."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    node = models.ForeignKey(
        "Node", null=True, blank=True, on_delete=models.SET_NULL, related_name="attempts"
    )
    node_name = models.CharField(max_length=200)
    slot = models.PositiveSmallIntegerField(default=0)
    ranks = models.PositiveSmallIntegerField(default=1, help_text="Processes that train together.")
    rank_devices = models.JSONField(
        default=list, blank=True, help_text="Of several ranks: the node, the slot and the device of each."
    )
    rendezvous = models.CharField(
        max_length=200, blank=True, help_text="Where the ranks of several hosts meet: an address and a port."
    )
    fills = models.BooleanField(
        default=False,
        help_text="It took a slot that a job of several devices waits for, and makes room when that can start.",
    )
    boot_id = models.CharField(max_length=64, blank=True, help_text="The node's boot that it ran under.")
    supervisor_pid = models.PositiveIntegerField(default=0)
    supervisor_started_at = models.FloatField(
        default=0, help_text="Unix time: tells a reused pid from the old one."
    )
    trainer_pid = models.PositiveIntegerField(null=True, blank=True)
    started_from = models.ForeignKey(
        "Checkpoint", null=True, blank=True, on_delete=models.PROTECT, related_name="attempts_started"
    )
    started_at = models.DateTimeField(db_default=Now())
    started_step = models.PositiveBigIntegerField(default=0)
    first_step_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_step = models.PositiveBigIntegerField(null=True, blank=True)
    steps_executed = models.PositiveBigIntegerField(default=0)
    waited_seconds = models.FloatField(
        null=True, blank=True, help_text="How long the job waited for this attempt."
    )
    checkpoints = models.PositiveIntegerField(default=0, help_text="That it stored.")
    checkpoint_bytes = models.PositiveBigIntegerField(default=0)
    checkpoint_seconds = models.FloatField(default=0, help_text="Spent moving them into the store.")
    log_characters = models.PositiveBigIntegerField(
        default=0, help_text="Of an external job: so much of its log was taken, or was left out."
    )
    environment = models.JSONField(
        default=dict, blank=True, help_text="What it trains on: device, build of torch, threads, data, code."
    )
    outcome = models.CharField(max_length=20, blank=True, help_text="The verb that closed it.")
    exit_code = models.IntegerField(
        null=True, blank=True, help_text="Negative: the signal that killed the trainer."
    )
    detail = models.TextField(blank=True)

    objects = Attempts.as_manager()

    class Meta:
        ordering = ["job_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="attempt_number_once_per_job"),
            models.UniqueConstraint(
                fields=["job"], condition=Q(ended_at__isnull=True), name="one_open_attempt_a_job"
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of job {self.job_id}"

    @property
    def slots(self) -> list[int]:
        """Of its own node, in the order of the ranks that compute there."""
        return [row["slot"] for row in self.rank_devices if row["node"] == self.node_name] or [self.slot]


class GangMember(models.Model):
    """A host's part in a job of several hosts. It is offered for some seconds, until enough hosts offer theirs; then
    it belongs to the attempt, and goes with its end. The host that leads has no such row: it holds the attempt."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="gang_members")
    attempt = models.ForeignKey(
        Attempt, null=True, blank=True, on_delete=models.CASCADE, related_name="members"
    )
    node = models.ForeignKey("Node", on_delete=models.CASCADE, related_name="gang_members")
    slots = models.JSONField(default=list)
    first_rank = models.PositiveSmallIntegerField(default=0, help_text="The rank of its first slot.")
    boot_id = models.CharField(max_length=64, blank=True)
    supervisor_pid = models.PositiveIntegerField(default=0)
    supervisor_started_at = models.FloatField(default=0)
    seen_at = models.DateTimeField(db_default=Now())
    leaves = models.BooleanField(
        default=False, help_text="Its host stops: the attempt lands at the next step."
    )
    lost = models.TextField(blank=True, help_text="Why it cannot go on.")
    error_code = models.CharField(
        max_length=40, blank=True, help_text="Where its ranks have failed: another try would not help."
    )

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "node"], name="a_host_takes_part_once"),
        ]

    def __str__(self) -> str:
        return f"part of node {self.node_id} in job {self.job_id}"


class HeldSlot(models.Model):
    """A slot that an attempt of several ranks holds, from the claim's transaction to that of the attempt's end; or
    that a host offers for one of several hosts."""

    attempt = models.ForeignKey(
        Attempt, null=True, blank=True, on_delete=models.CASCADE, related_name="held_slots"
    )
    member = models.ForeignKey(
        GangMember, null=True, blank=True, on_delete=models.CASCADE, related_name="held_slots"
    )
    node = models.ForeignKey("Node", on_delete=models.CASCADE, related_name="held_slots")
    slot = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["node_id", "slot"]
        constraints = [models.UniqueConstraint(fields=["node", "slot"], name="each_slot_is_held_once")]

    def __str__(self) -> str:
        return f"slot {self.slot} of node {self.node_id}"
