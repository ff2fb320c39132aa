"""The command line door to certificates: `manage.py certificate VERB`. docs/commands.md lists the verbs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training import policy, queries, services
from training.errors import NotFound
from training.management.base import VerbCommand, number_from_0, whole_from_1
from training.management.progress import printable, table
from training.models import CertificateKey, Replay, TrainingJob


class Command(VerbCommand):
    help = "Certificates of jobs: write them, have stretches trained again, rotate the key that signs them."

    def add_verbs(self) -> None:
        show = self.add_verb("show", "Write a job's certificate to standard output or a file", self.show)
        show.add_argument("job", metavar="JOB", type=whole_from_1)
        show.add_argument("--output", "-o", type=Path, help="a file")
        verify = self.add_verb("verify", "Have stretches of a job trained again on idle slots", self.verify)
        verify.add_argument("job", metavar="JOB", type=whole_from_1)
        verify.add_argument("--stretches", type=number_from_0, default=0, help="how many, at random (0: all)")
        replays = self.add_verb("replays", "List the replays of a job, and what came out", self.replays)
        replays.add_argument("job", metavar="JOB", type=whole_from_1)
        self.add_verb("keys", "List the keys that certificates are, or were, signed with", self.keys)
        self.add_verb("rotate-key", "Sign with a new key from now on", self.rotate_key)

    def show(self, options: dict[str, Any]) -> None:
        document = services.certificate(self._job(options))
        if options["output"] is None:
            self.stdout.write(document.decode(), ending="")
            return
        options["output"].write_bytes(document)
        self.say({"file": str(options["output"])}, printable(f"Written to {options['output']}."))

    def verify(self, options: dict[str, Any]) -> None:
        job = self._job(options)
        made = services.verify(job, by=self.user, stretches=options["stretches"])
        shown = [queries.replay_dict(one) for one in made]
        self.say({"replays": shown}, f"{len(made)} replays of job {job.pk} wait for a slot that is idle.")

    def replays(self, options: dict[str, Any]) -> None:
        rows = list(Replay.objects.filter(job=self._job(options)).order_by("id"))
        if self.as_json:
            for row in rows:
                self.stdout.write(json.dumps(queries.replay_dict(row)))
            return
        shown = [
            (row.pk, f"{row.from_step} to {row.to_step}", row.state, row.reason[:100] or "-") for row in rows
        ]
        self.stdout.write(
            printable(table(("REPLAY", "STEPS", "STATE", "WHY"), shown)) if rows else "No replays."
        )

    def keys(self, options: dict[str, Any]) -> None:
        services.signing_key()
        for row in CertificateKey.objects.order_by("-id"):
            words = f"retired {row.retired_at:%Y-%m-%d}" if row.retired_at else "in use"
            self.say({"keyid": row.key_id, "public": row.public, "state": words}, f"{row.public}  {words}")

    def rotate_key(self, options: dict[str, Any]) -> None:
        key = services.rotate_signing_key()
        sentence = (
            f"Certificates are signed with the key {key.key_id[:16]} from now on; the old one stays known."
        )
        self.say({"keyid": key.key_id, "public": key.public}, sentence)

    def _job(self, options: dict[str, Any]) -> TrainingJob:
        job = policy.visible_jobs(self.user).filter(pk=options["job"]).first()
        if job is None:
            raise NotFound(f"There is no job {options['job']}.")
        return job
