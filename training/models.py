"""The rows that are the truth: jobs, attempts, checkpoints, events, metrics, log chunks and nodes.

Statuses, stops, attempts and checkpoint pointers are written by the package `services` alone.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.files.storage import Storage, storages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from training.lifecycle import Facts, JobType, Status, Stop, StopAt

POOL_LENGTH = 50
MAX_TAGS = 20  # of one job


def checkpoint_storage() -> Storage:
    """The `checkpoints` entry of STORAGES. A callable, so that no migration holds a path or a bucket."""
    return storages["checkpoints"]


def dataset_storage() -> Storage:
    """The `datasets` entry of STORAGES."""
    return storages["datasets"]


def _choices(enum: type) -> list[tuple[str, str]]:
    return [(member.value, member.value.replace("_", " ")) for member in enum if member.value]


JOB_ORDERS = (
    "job_name", "priority", "best_val_loss", "created_at", "started_at", "completed_at", "updated_at",
)  # fmt: skip


class TrainingJob(models.Model):
    """One job. `status` is a fact; `stop` and `stop_at` are a wish that stands beside `running`."""

    job_name = models.CharField(max_length=200)
    description = models.TextField(blank=True, max_length=10_000)
    job_type = models.CharField(max_length=20, choices=_choices(JobType), default=JobType.TRAINING)
    recipe = models.CharField(max_length=200)
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
        validators=[MinValueValidator(-100), MaxValueValidator(100)],
        help_text="Higher goes first, and may preempt a running job of lower priority.",
    )
    pool = models.CharField(
        max_length=POOL_LENGTH,
        blank=True,
        default="",
        help_text="Only nodes of this pool take it; empty: any node.",
    )

    status = models.CharField(max_length=10, choices=_choices(Status), default=Status.QUEUED)
    stop = models.CharField(max_length=10, choices=_choices(Stop), blank=True, default=Stop.NONE)
    stop_at = models.CharField(max_length=5, choices=_choices(StopAt), blank=True, default=StopAt.NONE)
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

    event_seq = models.PositiveBigIntegerField(default=0, help_text="Number of the newest event.")
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="status_is_known"),
            models.CheckConstraint(
                condition=Q(stop="") | Q(status="running"), name="stop_only_while_running"
            ),
            models.CheckConstraint(
                condition=Q(stop="", stop_at="") | (~Q(stop="") & ~Q(stop_at="")), name="stop_says_when"
            ),
            models.CheckConstraint(
                condition=Q(status="running", lease_expires_at__isnull=False)
                | (~Q(status="running") & Q(lease_expires_at__isnull=True)),
                name="running_if_and_only_if_leased",
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
                condition=(Q(total_epochs=0) | Q(current_epoch__lte=F("total_epochs")))
                & (Q(total_steps__isnull=True) | Q(current_step__lte=F("total_steps"))),
                name="progress_within_bounds",
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
    name = models.CharField(max_length=40)

    class Meta:
        ordering = ["job_id", "name"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="each_tag_once_per_job")]
        indexes = [models.Index(fields=["name", "-job"], name="jobs_by_tag")]

    def __str__(self) -> str:
        return f"{self.name} (job {self.job_id})"


class Attempt(models.Model):
    """One claim of a job by a supervisor, from claim to landing. Open while `ended_at` is empty."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    node = models.ForeignKey(
        "Node", null=True, blank=True, on_delete=models.SET_NULL, related_name="attempts"
    )
    node_name = models.CharField(max_length=200)
    slot = models.PositiveSmallIntegerField(default=0)
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
    outcome = models.CharField(max_length=20, blank=True, help_text="The verb that closed it.")
    exit_code = models.IntegerField(
        null=True, blank=True, help_text="Negative: the signal that killed the trainer."
    )
    detail = models.TextField(blank=True)

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


class Checkpoint(models.Model):
    """One durable checkpoint. It exists when its row does; several kinds may share it."""

    class Kind(models.TextChoices):
        PAUSE = "pause"
        PERIODIC = "periodic"
        BEST = "best"
        FINAL = "final"
        DRAIN = "drain"
        START = "start"  # a copy of another job's, which this job began from

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    generation = models.PositiveIntegerField(default=0)
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    kinds = models.JSONField(default=list)
    file = models.FileField(storage=checkpoint_storage, max_length=255)
    size = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64, help_text="SHA-256 over the state and nothing else.")
    header_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Names the whole file; empty for files from before it was kept."
    )
    val_loss = models.FloatField(null=True, blank=True)
    pinned = models.BooleanField(default=False)
    quarantined_at = models.DateTimeField(null=True, blank=True)
    quarantine_reason = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["file"], name="one_row_a_checkpoint_file")]
        indexes = [
            models.Index(fields=["job", "generation", "-step", "-id"], name="checkpoints_newest_first")
        ]

    def __str__(self) -> str:
        return f"checkpoint of job {self.job_id} at step {self.step}"


class Dataset(models.Model):
    """Synthetic data in shards, made by one job and those that extend it. What it holds follows from its config."""

    name = models.CharField(max_length=100, unique=True)
    recipe = models.CharField(max_length=200)
    config = models.JSONField(default=dict, help_text="Of the job that began it.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="datasets")
    team = models.ForeignKey(Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="datasets")
    samples = models.PositiveBigIntegerField(
        default=0, help_text="Finished samples, without a gap from the first."
    )
    size = models.PositiveBigIntegerField(default=0)
    refused = models.JSONField(default=dict, blank=True, help_text="Refused tries by reason.")
    fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Shard(models.Model):
    """One finished file of a dataset. A shard without a row was never made, and is made again."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="shards")
    job = models.ForeignKey(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="shards"
    )
    number = models.PositiveIntegerField(help_text="Within its job.")
    file = models.FileField(storage=dataset_storage, max_length=255)
    size = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    samples = models.PositiveIntegerField(default=0)
    entry = models.JSONField(default=dict, help_text="What the recipe said of it.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["dataset_id", "id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="shard_number_once_per_job"),
            models.UniqueConstraint(fields=["file"], name="one_row_a_shard_file"),
        ]

    def __str__(self) -> str:
        return f"shard {self.number} of {self.dataset_id}"


class Event(models.Model):
    """One transition, or another thing that a person should see. `seq` is gap-free per job."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=40)
    message = models.TextField()
    actor = models.CharField(max_length=160)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    attempt = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10)
    stop = models.CharField(max_length=10, blank=True)
    step = models.PositiveBigIntegerField(default=0)
    epoch = models.PositiveIntegerField(default=0)
    data = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id", "seq"]
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="event_seq_once_per_job")]
        indexes = [models.Index(fields=["-created_at"], name="events_newest_first")]

    def __str__(self) -> str:
        return f"event {self.seq} of job {self.job_id}: {self.kind}"


class Deletion(models.Model):
    """Who deleted which job, and when. The job's events went with it; this row is the last of them, and stays.

    Its id is that event's, so that it has its place among the events of other jobs.
    """

    id = models.BigIntegerField(primary_key=True)
    job_number = models.PositiveBigIntegerField()
    job_name = models.CharField(max_length=200)
    job_type = models.CharField(max_length=20, choices=_choices(JobType))
    recipe = models.CharField(max_length=200)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    team = models.ForeignKey(Group, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    status = models.CharField(
        max_length=10, choices=_choices(Status), help_text="What the job was until then."
    )
    epoch = models.PositiveIntegerField(default=0)
    step = models.PositiveBigIntegerField(default=0)
    message = models.TextField()
    actor = models.CharField(max_length=160)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["job_number"], name="deletions_by_job")]

    def __str__(self) -> str:
        return f"deletion of {self.job_name} (job {self.job_number})"


class Metric(models.Model):
    """The values of one step; `epoch_values` too when the step closed an epoch. Non-finite values are null."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metric_rows")
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField()
    values = models.JSONField(default=dict)
    epoch_values = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id", "step"]
        constraints = [models.UniqueConstraint(fields=["job", "step"], name="one_metric_row_a_step")]
        indexes = [
            models.Index(
                fields=["job", "step"], condition=Q(epoch_values__isnull=False), name="closed_epochs"
            )
        ]

    def __str__(self) -> str:
        return f"metrics of job {self.job_id} at step {self.step}"


class MetricBlock(models.Model):
    """So many steps in a row, folded together: long curves are drawn from these. Made when the last step is there.

    Block n holds the steps n * SPAN + 1 to (n + 1) * SPAN; `values` are [lowest, highest, sum, count] by name.
    """

    SPAN = 256

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metric_blocks")
    number = models.PositiveBigIntegerField()
    last_step = models.PositiveBigIntegerField()
    values = models.JSONField(default=dict)
    created_at = models.DateTimeField(help_text="Of its last step.")

    class Meta:
        ordering = ["job_id", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_block_a_job_and_number")]

    def __str__(self) -> str:
        return f"block {self.number} of the metrics of job {self.job_id}"


class Artifact(models.Model):
    """What a recipe shows people of the newest validated epoch. In a table of its own: lists of jobs stay light."""

    job = models.OneToOneField(TrainingJob, on_delete=models.CASCADE, related_name="artifact")
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    content = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id"]

    def __str__(self) -> str:
        return f"artifact of job {self.job_id} at epoch {self.epoch}"


class LogChunk(models.Model):
    """A piece of what the trainer printed. The id is the cursor for `?after=`."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="log_chunks")
    attempt = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["job", "id"], name="log_in_order")]

    def __str__(self) -> str:
        return f"log of job {self.job_id}"


class SavedView(models.Model):
    """A list of jobs that somebody gave a name to: the filters and the order that stand in its address."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=1000, blank=True, help_text="What stands after the ? of the list.")
    team = models.ForeignKey(
        Group,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="saved_views",
        help_text="Whose members see it too.",
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="saved_view_name_once_a_person")
        ]

    def __str__(self) -> str:
        return self.name


class Node(models.Model):
    """A host that runs (or ran) a worker. Its worker writes it; people only drain it and take it out."""

    name = models.CharField(max_length=200, unique=True)
    boot_id = models.CharField(max_length=64, blank=True)
    slots = models.PositiveSmallIntegerField(default=1)
    devices = models.JSONField(
        default=list, blank=True, help_text="Of each slot: the device, and what it is called."
    )
    pools = models.JSONField(default=list, blank=True, help_text="Labels that jobs may ask for.")
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


class Watch(models.Model):
    """Somebody wants to know what becomes of a job."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="watches")
    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="watches")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["user", "job"], name="one_watch_a_user_and_job")]

    def __str__(self) -> str:
        return f"{self.user_id} watches job {self.job_id}"


class Subscription(models.Model):
    """Where a user or a team is told of transitions: a webhook or an e-mail address, and of which jobs."""

    class Via(models.TextChoices):
        WEBHOOK = "webhook"
        EMAIL = "email", "e-mail"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="subscriptions",
    )
    team = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.CASCADE, related_name="subscriptions"
    )
    via = models.CharField(max_length=10, choices=Via)
    target = models.CharField(max_length=500, help_text="The webhook's URL, or the e-mail address.")
    secret = models.CharField(
        max_length=100, blank=True, help_text="Signs the webhook's messages. Shown once, never logged."
    )
    topics = models.JSONField(default=list, blank=True, help_text="Empty: every one.")
    of_own = models.BooleanField(default=True)
    of_watched = models.BooleanField(default=True)
    of_team = models.BooleanField(default=False)
    active = models.BooleanField(default=True)
    failures = models.PositiveIntegerField(default=0, help_text="Failed tries in succession.")
    resting_until = models.DateTimeField(
        null=True, blank=True, help_text="After a failure it is left alone for a while."
    )
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, team__isnull=True) | Q(user__isnull=True, team__isnull=False),
                name="a_user_or_a_team_subscribes",
            ),
            models.CheckConstraint(
                condition=(Q(via="webhook") & ~Q(secret="")) | Q(via="email", secret=""),
                name="webhooks_alone_have_a_secret",
            ),
        ]

    def __str__(self) -> str:
        return f"subscription {self.pk} by {self.via}"


class Delivery(models.Model):
    """One message in the outbox: written with the transition that it tells of, sent and noted by a worker."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        GIVEN_UP = "given_up", "given up"

    key = models.UUIDField(
        unique=True, default=uuid.uuid4, help_text="The same in every try: receivers know doubles by it."
    )
    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE, related_name="deliveries")
    job = models.ForeignKey(
        TrainingJob, null=True, blank=True, on_delete=models.SET_NULL, related_name="deliveries"
    )
    topic = models.CharField(max_length=20)
    content = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    last_try_at = models.DateTimeField(null=True, blank=True)
    answer_status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True, help_text="The beginning of the last answer, or why there is none.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(state="waiting"), name="deliveries_to_send"),
            models.Index(fields=["subscription", "-id"], name="deliveries_newest_first"),
        ]

    def __str__(self) -> str:
        return f"delivery {self.key}"


class Installation(models.Model):
    """The one row that says which store of checkpoints belongs to this database."""

    store_id = models.CharField(max_length=32)
    bygone = models.JSONField(
        default=dict,
        blank=True,
        help_text="What the attempts of deleted jobs add to the counters of /metrics.",
    )
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"store {self.store_id}"
