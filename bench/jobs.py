"""A database with any number of jobs, made by itself: one statement, no Python for each job.

Alice owns a third of the jobs, Bob one in a hundred and sees a fifth by his team, Carol owns twenty.
However many there are, "elevation" stands in the names of a hundred and "azimuth" in one.
"""

from __future__ import annotations

import json
import re

from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import JSONField
from django.db.models.fields import NOT_PROVIDED

from tests.support.tokens import token_of
from training.models import Checkpoint, TrainingJob
from training.queries import full_text

PEOPLE = ("root", "alice", "bob", "carol")
CONFIG = {
    "epochs": 30, "batch_size": 64, "seed": 1, "learning_rate": 0.0003, "weight_decay": 0.01, "warmup_steps": 100,
    "precision": "float32", "deterministic": True, "gradient_accumulation": 1, "clip_norm": 1.0, "patience": 0,
    "checkpoint_minutes": 10, "keep_last": 3, "keep_best": True, "workers": 0, "layers": 4, "width": 128,
    "dropout": 0.1, "augment": True, "data": "tiny-shakespeare",
}  # fmt: skip
ENVIRONMENT = {
    "device": "cpu",
    "torch": "2.13.0",
    "threads": 2,
    "source_sha256": "0" * 64,
    "data_sha256": "1" * 64,
}

_FILL = """
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %(jobs)s)
INSERT INTO training_trainingjob (
    id, job_name, description, job_type, recipe, config, owner_id, team_id, priority, status, stop, stop_at, attempt,
    queued_at, current_epoch, total_epochs, current_step, total_steps, phase, train_loss, val_loss, learning_rate,
    metrics, best_epoch, best_val_loss, error_code, error_message, environment, approximate, generation, checkpoint,
    checkpoints_stored, crashes_at_step, crashes_since_checkpoint, event_seq, created_at, started_at, completed_at,
    updated_at, origin, tags, pool%(more)s)
SELECT i, 'beam ' || ((i * 7919) %% 100003) || CASE WHEN i %% %(hundredth)s = 5 THEN ' elevation'
        WHEN i = 450 THEN ' azimuth' ELSE '' END,
    CASE WHEN i %% 10 = 0 THEN 'A run with the new antenna, ' || i || '.' ELSE '' END,
    CASE WHEN i %% 100 = 7 THEN 'synthetic_data' ELSE 'training' END,
    CASE WHEN i %% 100 = 7 THEN 'rf_dataset' WHEN i %% 3 = 0 THEN 'localization' ELSE 'language_model' END,
    %(config)s,
    CASE WHEN i %% %(step)s = 1 THEN %(carol)s WHEN i %% 3 = 0 THEN %(alice)s WHEN i %% 100 = 1 THEN %(bob)s
         ELSE %(root)s END,
    CASE WHEN i %% 5 = 0 THEN %(team)s END, 0,
    CASE WHEN i %% 10 < 8 THEN 'completed' WHEN i %% 10 = 8 THEN 'failed' WHEN i %% 1000 = 9 THEN 'queued'
         ELSE 'cancelled' END,
    '', '', 1, %(start)s, 30, 30, 28230, 28230, '', 0.5, 0.6, 0.0003, %(metrics)s, 28,
    ((i * 104729) %% 1000003) / 1e6, '', '', %(environment)s, '[]', 0, '', 0, 0, 0, 4,
    datetime('2020-01-01', '+' || i || ' seconds'),
    %(start)s, %(start)s, datetime('2020-01-01', '+' || ((i * 7919) %% 1000003) || ' seconds'), NULL, '[]',
    ''%(defaults)s
FROM n
"""


# What lists are filtered and sorted by beside the jobs' own columns: of each job a rate, a rule and an error.
_COLUMNS = (
    """INSERT INTO training_configvalue (job_id, path, number, text)
       SELECT id, 'learning_rate', ((id * 7919) % 1000) / 1e4, NULL FROM training_trainingjob
       UNION ALL SELECT id, 'optimizer', NULL, CASE WHEN id % 4 = 0 THEN 'sgd' ELSE 'adam' END
       FROM training_trainingjob""",
    """INSERT INTO training_metricvalue (job_id, name, newest, lowest, highest)
       SELECT id, 'val_rmse', ((id * 104729) % 1000003) / 1e6, ((id * 104729) % 1000003) / 2e6, 9.0
       FROM training_trainingjob WHERE status <> 'queued'""",
)


def make(jobs: int) -> None:
    people = {name: User.objects.create(username=name, is_superuser=name == "root") for name in PEOPLE}
    team = Group.objects.create(name="radio")
    people["bob"].groups.add(team)
    for user in people.values():
        token_of(user)
    values = {name: user.pk for name, user in people.items()} | {
        "jobs": jobs,
        "step": max(jobs // 20, 1),
        "hundredth": max(jobs // 100, 1),
        "team": team.pk,
        "config": json.dumps(CONFIG),
        "environment": json.dumps(ENVIRONMENT),
        "metrics": json.dumps({"val_rmse": 0.25, "val_accuracy": 0.75}),
        "start": "2026-01-01 00:00:00",
    }
    names, defaults = _other_columns()
    fill = _FILL.replace("%(more)s", names).replace("%(defaults)s", defaults)
    with connection.cursor() as cursor:
        for name in ("insert", "update", "delete"):  # reading all at once is quicker than following each row
            cursor.execute(f"DROP TRIGGER IF EXISTS training_jobtext_{name}")
        cursor.execute(fill, values)
        for statement in _COLUMNS:
            cursor.execute(statement)
    _give_checkpoints(jobs)
    full_text.prepare()


def _other_columns() -> tuple[str, str]:
    """What the statement does not name and has to have a value, with its default: a column more breaks nothing."""
    named = set(re.findall(r"\w+", _FILL.partition("SELECT i,")[0]))
    names, defaults = "", ""
    for field in TrainingJob._meta.concrete_fields:
        if field.column in named or field.null or field.db_default is not NOT_PROVIDED:
            continue
        value = json.dumps(field.get_default()) if isinstance(field, JSONField) else field.get_default()
        names += f", {field.column}"
        defaults += f", {value!r}" if isinstance(value, str) else f", {int(value)}"
    return names, defaults


def _give_checkpoints(jobs: int) -> None:
    """The newest thousand have one: those are what pages show."""
    newest = TrainingJob.objects.filter(pk__gt=jobs - 1000)
    for job in newest.only("pk"):
        name = f"jobs/{job.pk}/a1/s28230-{job.pk:032x}.safetensors"
        row = Checkpoint.objects.create(
            job=job, attempt=1, step=28230, epoch=30, kinds=["final", "best"], file=name, size=1_000_000,
            digest="a" * 64, header_sha256="b" * 64, val_loss=0.6,
        )  # fmt: skip
        TrainingJob.objects.filter(pk=job.pk).update(latest_checkpoint=row, checkpoints_stored=1)
