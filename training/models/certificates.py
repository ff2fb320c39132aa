"""What certificates are made of: the chain of a job's states, replays of stretches of it, keys, public links."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from training.models.checkpoints import Checkpoint
from training.models.choices import choices
from training.models.jobs import TrainingJob


class ChainLink(models.Model):
    """One state of a job, stored or only hashed. It outlives the file; see heimdall/certificate/chain.py."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="chain")
    number = models.PositiveBigIntegerField()
    generation = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField()
    step = models.PositiveBigIntegerField()
    epoch = models.PositiveIntegerField()
    samples = models.PositiveBigIntegerField(null=True, blank=True)
    digest = models.CharField(max_length=64)
    header_sha256 = models.CharField(max_length=64, blank=True, help_text="Empty: hashed, and not stored.")
    came_from = models.CharField(max_length=64, blank=True, help_text="Digest of the state before it.")
    came_from_step = models.PositiveBigIntegerField(default=0)
    code = models.CharField(max_length=64, blank=True)
    data = models.CharField(max_length=64, blank=True)
    environment = models.CharField(max_length=64, blank=True)
    before = models.CharField(
        max_length=64, blank=True, help_text="Seal of the link that was written before it."
    )
    seal = models.CharField(max_length=64)
    checkpoint = models.OneToOneField(
        Checkpoint, null=True, blank=True, on_delete=models.SET_NULL, related_name="link",
        help_text="While its file is kept.",
    )  # fmt: skip
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["job_id", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="link_number_once_per_job")]

    def __str__(self) -> str:
        return f"link {self.number} of job {self.job_id}, at step {self.step}"


class ReplayState(models.TextChoices):
    WAITING = "waiting"
    RUNNING = "running"
    EQUAL = "equal"
    DIFFERS = "differs"
    FAILED = "failed"  # it could not be trained again; nothing is shown by that


class Replay(models.Model):
    """One stretch of a job that is trained again, from a state that is kept (or step 0) past one or several links."""

    State = ReplayState

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="replays")
    generation = models.PositiveIntegerField()
    start = models.ForeignKey(
        Checkpoint,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Null: step 0.",
    )
    from_step = models.PositiveBigIntegerField(default=0)
    from_digest = models.CharField(max_length=64, blank=True)
    to_step = models.PositiveBigIntegerField()
    points = models.JSONField(
        default=list, help_text="The links on the way: number, step, recorded digest, found one."
    )
    state = models.CharField(max_length=10, choices=choices(State), default=State.WAITING)
    reason = models.TextField(blank=True)
    first_step = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="The first step that differs."
    )
    first_value = models.CharField(max_length=200, blank=True)
    first_tensor = models.CharField(max_length=500, blank=True)
    steps_compared = models.PositiveBigIntegerField(default=0, help_text="Steps whose values were compared.")
    environment = models.JSONField(default=dict, blank=True)
    seconds = models.FloatField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    is_automatic = models.BooleanField(default=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    seal = models.CharField(
        max_length=64,
        blank=True,
        help_text="Over what was found, with the secret key: a result that nobody found has none.",
    )
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["job_id", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state="running", lease_expires_at__isnull=False)
                | (~models.Q(state="running") & models.Q(lease_expires_at__isnull=True)),
                name="replay_runs_if_and_only_if_leased",
            )
        ]
        indexes = [
            models.Index(
                fields=["is_automatic", "id"],
                condition=models.Q(state__in=["waiting", "running"]),
                name="replays_to_be_done",
            )
        ]

    def __str__(self) -> str:
        return f"replay of job {self.job_id} from step {self.from_step} to {self.to_step}: {self.state}"


class CertificateKey(models.Model):
    """The public half of a key that certificates are, or were, signed with."""

    key_id = models.CharField(max_length=64, unique=True)
    public = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_default=Now())
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.key_id[:16]


class PublicCertificate(models.Model):
    """A link under which everybody sees a job's badge and certificate, as long as its owner wishes."""

    job = models.OneToOneField(TrainingJob, on_delete=models.CASCADE, related_name="public_certificate")
    token = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"public certificate of job {self.job_id}"
