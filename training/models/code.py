"""The code of programs: each archive once, however many jobs run it, and who brought it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from training.models.storages import code_storage


class CodeArchive(models.Model):
    """One folder of code, named by what is in it."""

    digest = models.CharField(max_length=64, unique=True)
    size = models.PositiveBigIntegerField(help_text="Of the files, unpacked, in bytes.")
    names = models.JSONField(default=list, help_text="The paths of its files, in order.")
    file = models.FileField(storage=code_storage, max_length=255)
    file_size = models.PositiveBigIntegerField(help_text="Of the stored archive, in bytes.")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="code_archives",
        help_text="Who brought it first: its bytes count for them.",
    )
    created_at = models.DateTimeField(db_default=Now())
    brought_at = models.DateTimeField(
        db_default=Now(), help_text="When somebody brought it last: one that no job names stays for a while."
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.digest[:12]

    @property
    def files(self) -> int:
        return len(self.names)

    @property
    def file_name(self) -> str:
        """In the store."""
        return self.file.name or ""


class BroughtCode(models.Model):
    """Who may run an archive, for they had its content: they brought it, or ran the code of a job that they saw."""

    code = models.ForeignKey(CodeArchive, on_delete=models.CASCADE, related_name="brought")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="brought_code")
    commit = models.CharField(max_length=64, blank=True, help_text="Where git stood when they packed it.")
    is_dirty = models.BooleanField(default=False, help_text="Whether something differed from that commit.")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["code", "owner"], name="code_is_noted_once_a_person")]

    def __str__(self) -> str:
        return f"code {self.code_id} of {self.owner_id}"
