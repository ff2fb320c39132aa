"""Bundles on the command line: `manage.py bundle export JOB FILE` and `manage.py bundle import FILE`."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from training import policy, services
from training.errors import NotFound
from training.management.base import VerbCommand, whole
from training.store import bundles


class Command(VerbCommand):
    help = "Write a job's best model with all that belongs to it as one file, or take such a file in."

    def add_verbs(self) -> None:
        export = self.add_verb("export", "Write a job's best model as one file", self._export)
        export.add_argument("job", type=whole, help="the number of a job")
        export.add_argument("file", type=Path, help="the file to write")
        take = self.add_verb(
            "import", "Take a bundle of another Heimdall in, as a completed job", self._import
        )
        take.add_argument("file", type=Path, help="the bundle; it stays where it is")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            super().handle(*args, **options)
        except OSError as error:
            raise CommandError(f"{error.filename or 'file'}: {error.strerror or error}") from error

    def _export(self, options: dict[str, Any]) -> None:
        target = options["file"]
        job = policy.visible_jobs(self.user).filter(pk=options["job"]).first()
        if job is None:
            raise NotFound(f"There is no job {options['job']}.")
        checkpoint = bundles.best_checkpoint(job)
        if checkpoint is None:
            raise NotFound(f"Job {job.pk} has no checkpoint yet.")
        written = bundles.write(checkpoint, settings.SCRATCH_DIR)
        try:
            shutil.copyfile(written, target)
        finally:
            written.unlink()
        size = target.stat().st_size
        facts = {"job": job.pk, "step": checkpoint.step, "epoch": checkpoint.epoch}
        self.say(
            facts | {"file": str(target), "size": size},
            f"Wrote {target}: job {job.pk} at step {checkpoint.step}, epoch {checkpoint.epoch}, {size} bytes.",
        )

    def _import(self, options: dict[str, Any]) -> None:
        settings.SCRATCH_DIR.mkdir(parents=True, exist_ok=True)
        copy = settings.SCRATCH_DIR / f"import-{uuid.uuid4().hex}.safetensors"
        try:
            shutil.copyfile(options["file"], copy)
            result = services.import_bundle(copy, by=self.user)
        finally:
            copy.unlink(missing_ok=True)
        self.say(
            {"id": result.job.pk, "answer": str(result.answer), "message": result.message}, result.message
        )
