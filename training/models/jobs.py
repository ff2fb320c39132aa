"""Jobs, and the tags that they are found by."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from training.fields import (
    DESCRIPTION_LENGTH,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    NAME_LENGTH,
    POOL_LENGTH,
    TAG_LENGTH,
)
from training.lifecycle import Facts, JobType, Status, Stop, StopAt
from training.models.choices import choices
from training.models.storages import checkpoint_storage

JOB_ORDERS = (
    "job_name", "priority", "best_val_loss", "created_at", "started_at", "completed_at", "updated_at",
)  # fmt: skip


class TrainingJob(models.Model):
    """One job. `status` is a fact; `stop` and `stop_at` are a request that stands beside `running`."""

    job_name = models.CharField(max_length=NAME_LENGTH)
    description = models.TextField(blank=True, max_length=DESCRIPTION_LENGTH)
    job_type = models.CharField(max_length=20, choices=choices(JobType), default=JobType.TRAINING)
    recipe = models.CharField(max_length=200, blank=True, help_text="Empty where a program is run.")
    program = models.JSONField(
        default=dict, blank=True, help_text="What is run in the place of a recipe; empty for recipes."
    )
    code = models.ForeignKey(
        "CodeArchive",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        help_text="The program's code.",
    )
    secrets = models.TextField(
        blank=True,
        editable=False,
        help_text="Values of the program's secrets, encrypted with the secret key.",
    )
    config = models.JSONField(default=dict)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="training_jobs"
    )
    team = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="training_jobs"
    )
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children"
    )
    dataset = models.ForeignKey(
        "Dataset",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="jobs",
        help_text="What a synthetic-data job writes, and what a training reads.",
    )
    origin = models.JSONField(
        null=True,
        blank=True,
        help_text="The checkpoint of the parent that it began from, and what was carried over; null: from step 0.",
    )
    tags = models.JSONField(
        default=list, blank=True, help_text="What it is found by: the rows of Tag are their index."
    )
    priority = models.SmallIntegerField(
        default=0,
        validators=[MinValueValidator(LOWEST_PRIORITY), MaxValueValidator(HIGHEST_PRIORITY)],
        help_text="Higher goes first, and may preempt a running job of lower priority.",
    )
    pool = models.CharField(
        max_length=POOL_LENGTH,
        blank=True,
        default="",
        help_text="Only nodes of this pool take it; empty: any node.",
    )
    fewest_devices = models.PositiveSmallIntegerField(
        default=1, help_text="The fewest slots of one host that it can train on."
    )
    most_devices = models.PositiveSmallIntegerField(
        default=1, help_text="The most slots of one host that it makes use of."
    )
    num_hosts = models.PositiveSmallIntegerField(default=1, help_text="Hosts that it trains on together.")
    is_gang = models.BooleanField(
        default=False, help_text="It needs several slots at once, and may have to wait for them."
    )
    ranks = models.PositiveSmallIntegerField(default=1, help_text="Of its newest attempt: one a device.")
    rank_devices = models.JSONField(
        default=list,
        blank=True,
        help_text="Of its newest attempt, where it has several ranks: where each computes.",
    )

    status = models.CharField(max_length=10, choices=choices(Status), default=Status.QUEUED)
    stop = models.CharField(max_length=10, choices=choices(Stop), blank=True, default=Stop.NONE)
    stop_at = models.CharField(max_length=5, choices=choices(StopAt), blank=True, default=StopAt.NONE)
    attempt = models.PositiveIntegerField(
        default=0, help_text="Number of the newest attempt: the fencing token."
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField(
        null=True, blank=True, help_text="A queued job is not claimed before this."
    )
    queued_at = models.DateTimeField(db_default=Now())

    current_epoch = models.PositiveIntegerField(default=0, help_text="Finished epochs of the whole job.")
    total_epochs = models.PositiveIntegerField(default=0, help_text="0 for synthetic data jobs.")
    current_step = models.PositiveBigIntegerField(
        default=0, help_text="Finished steps (or shards) of the whole job."
    )
    total_steps = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Unknown before the first claim."
    )
    phase = models.CharField(max_length=20, blank=True, help_text="What the trainer is doing now.")
    step_seconds = models.FloatField(null=True, blank=True, help_text="Recent mean duration of a step.")
    train_loss = models.FloatField(null=True, blank=True)
    val_loss = models.FloatField(null=True, blank=True)
    learning_rate = models.FloatField(null=True, blank=True)
    metrics = models.JSONField(
        default=dict, blank=True, help_text="The newest epoch's values of the recipe's own."
    )
    best_epoch = models.PositiveIntegerField(null=True, blank=True)
    best_val_loss = models.FloatField(null=True, blank=True)

    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)
    environment = models.JSONField(
        default=dict, blank=True, help_text="Resolved at the first claim and kept."
    )
    shown_exact_on = models.JSONField(
        default=list,
        blank=True,
        editable=False,
        help_text="Devices and builds of torch on which a check has shown that its script is resumed exactly.",
    )
    replayed = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="What replays have shown of it, counted, and the generation that they hold for.",
    )
    approximate = models.JSONField(default=list, blank=True, help_text="Why the newest resume was not exact.")

    generation = models.PositiveIntegerField(
        default=0,
        help_text="How often the job was taken back on purpose: to its beginning, or to a checkpoint.",
    )
    checkpoint = models.FileField(storage=checkpoint_storage, max_length=255, blank=True)
    latest_checkpoint = models.ForeignKey(
        "Checkpoint",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="The newest good checkpoint of this generation: where a resume starts.",
    )
    checkpoints_stored = models.PositiveIntegerField(
        default=0, help_text="Of this generation, bad ones included."
    )
    crashes_at_step = models.PositiveIntegerField(
        default=0, help_text="Trainer deaths in succession at crash_step."
    )
    crash_step = models.PositiveBigIntegerField(null=True, blank=True)
    crashes_since_checkpoint = models.PositiveIntegerField(default=0)

    heard_at = models.DateTimeField(
        null=True, blank=True, help_text="When an external job reported last; empty for all others."
    )
    event_seq = models.PositiveBigIntegerField(default=0, help_text="Number of the newest event.")
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("urgent_priority", "Can give training jobs a priority above the ceiling"),
            ("run_programs", "Can run programs: code with the worker's rights"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="status_is_known"),
            models.CheckConstraint(
                condition=Q(stop="") | Q(status="running"), name="stop_only_while_running"
            ),
            models.CheckConstraint(
                condition=Q(stop="", stop_at="") | (~Q(stop="") & ~Q(stop_at="")), name="stop_says_when"
            ),
            models.CheckConstraint(
                # Nobody here holds an external job.
                condition=(Q(status="running") & ~Q(job_type="external") & Q(lease_expires_at__isnull=False))
                | ((~Q(status="running") | Q(job_type="external")) & Q(lease_expires_at__isnull=True)),
                name="leased_if_and_only_if_running_here",
            ),
            models.CheckConstraint(
                condition=~Q(status="paused") | Q(latest_checkpoint__isnull=False) | Q(current_step=0),
                name="paused_rests_on_a_checkpoint_or_step_0",
            ),
            models.CheckConstraint(
                condition=~Q(status="paused") | ~Q(job_type="synthetic_data"),
                name="synthetic_data_is_never_paused",
            ),
            models.CheckConstraint(
                # A program says how long it means to train, and nobody holds it to that.
                condition=Q(recipe="")
                | (Q(total_epochs=0) | Q(current_epoch__lte=F("total_epochs")))
                & (Q(total_steps__isnull=True) | Q(current_step__lte=F("total_steps"))),
                name="progress_within_bounds",
            ),
            models.CheckConstraint(
                condition=Q(fewest_devices__gte=1, most_devices__gte=F("fewest_devices"), num_hosts__gte=1)
                & (
                    Q(is_gang=False, fewest_devices=1, num_hosts=1)
                    | Q(is_gang=True) & (Q(fewest_devices__gt=1) | Q(num_hosts__gt=1))
                ),
                name="a_gang_needs_several_slots",
            ),
            models.CheckConstraint(
                condition=Q(job_type="external", recipe="", code__isnull=True)
                | (~Q(job_type="external") & Q(recipe="", code__isnull=False))
                | (~Q(job_type="external") & ~Q(recipe="") & Q(code__isnull=True)),
                name="a_recipe_or_a_program_or_external",
            ),
            models.CheckConstraint(
                condition=~Q(job_type="external")
                | Q(status__in=["running", "completed", "failed", "cancelled"], stop__in=["", "cancel"]),
                name="external_only_runs_or_is_over",
            ),
        ]
        indexes = [
            models.Index(
                # The pool stands last: a claim walks the queue in order and skips what is not for its node. The
                # status, the same in all, stands first: without it SQLite prefers jobs_by_status and sorts.
                fields=["status", "-priority", "queued_at", "id", "pool"],
                condition=Q(status="queued"),
                name="jobs_in_queue",
            ),
            # Each claim asks whether one of these goes first: mostly there is none.
            models.Index(
                fields=["status", "is_gang", "-priority", "queued_at", "id", "pool"],
                condition=Q(status="queued"),
                name="gangs_in_queue",
            ),
            models.Index(fields=["lease_expires_at"], condition=Q(status="running"), name="jobs_running"),
            models.Index(fields=["-updated_at"], condition=Q(status="paused"), name="jobs_paused"),
            # One for each filter of a list, in the order of numbers. What other filters look at follows, so that
            # counting with several of them reads the index alone.
            models.Index(fields=["status", "-id", "owner", "team", "recipe"], name="jobs_by_status"),
            models.Index(fields=["owner", "-id", "status", "team", "recipe"], name="jobs_by_owner"),
            models.Index(fields=["team", "-id", "status", "owner", "recipe"], name="jobs_by_team"),
            models.Index(fields=["recipe", "-id", "status", "owner", "team"], name="jobs_by_recipe"),
            models.Index(fields=["job_type", "-id", "status", "owner", "team"], name="jobs_by_type"),
            models.Index(fields=["parent", "-id"], name="jobs_by_parent"),
            models.Index(fields=["pool", "-id", "status", "owner", "team"], name="jobs_by_pool"),
            # One for each order of a list.
            *(models.Index(fields=[name, "id"], name=f"jobs_by_{name}") for name in JOB_ORDERS),
        ]

    def __str__(self) -> str:
        return f"{self.job_name} (job {self.pk})"

    @property
    def facts(self) -> Facts:
        """What the lifecycle's guards may know."""
        return Facts(
            job_type=JobType(self.job_type),
            has_checkpoint=self.latest_checkpoint_id is not None,
            ever_stored=self.checkpoints_stored > 0,
            has_dataset=self.job_type != JobType.SYNTHETIC_DATA or self.dataset_id is not None,
        )


class Tag(models.Model):
    """One tag of one job, so that the jobs with a tag are found by an index."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="tag_rows")
    name = models.CharField(max_length=TAG_LENGTH)

    class Meta:
        ordering = ["job_id", "name"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="each_tag_once_per_job")]
        indexes = [models.Index(fields=["name", "-job"], name="jobs_by_tag")]

    def __str__(self) -> str:
        return f"{self.name} (job {self.job_id})"
