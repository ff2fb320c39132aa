"""Finding a text in the names and descriptions of jobs without reading all of them: an index of trigrams.

SQLite: an FTS5 table over the jobs' own, kept by triggers. PostgreSQL: pg_trgm. Neither is made by a migration, for
a later one that makes the table of jobs anew would lose the triggers in silence: `prepare` runs after every migrate
and puts right what is missing. Where a database has no such index, or the text is too short for one, only the newest
jobs are looked through.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import Error, connections, transaction
from django.db.models import BigIntegerField, Max, Q
from django.db.models.expressions import RawSQL

from training.models import TrainingJob

logger = logging.getLogger(__name__)
SHORTEST = 3  # characters that an index of trigrams can look for
NEWEST = 10_000  # jobs that are looked through without an index

_TABLE, _JOBS = "training_jobtext", "training_trainingjob"
_FORGET = (
    f"INSERT INTO {_TABLE}({_TABLE}, rowid, job_name, description)"
    " VALUES ('delete', old.id, old.job_name, old.description);"
)
_LEARN = f"INSERT INTO {_TABLE}(rowid, job_name, description) VALUES (new.id, new.job_name, new.description);"
_TRIGGERS = {
    f"{_TABLE}_insert": f"AFTER INSERT ON {_JOBS} BEGIN {_LEARN} END",
    f"{_TABLE}_delete": f"AFTER DELETE ON {_JOBS} BEGIN {_FORGET} END",
    f"{_TABLE}_update": f"AFTER UPDATE OF job_name, description ON {_JOBS} WHEN old.job_name IS NOT new.job_name"
    f" OR old.description IS NOT new.description BEGIN {_FORGET} {_LEARN} END",
}


def in_text(text: str) -> Q:
    """The jobs with this text, by looking at each."""
    return Q(job_name__icontains=text) | Q(description__icontains=text)


def by_index(text: str, connection: Any, *, most: int) -> Q | None:
    """The same by the index, the newest `most` of them; None where it must be looked for in the newest jobs."""
    if len(text) < SHORTEST or not _is_prepared(connection):
        return None
    if connection.vendor != "sqlite":
        return in_text(text)  # its planner knows the index
    phrase = '"' + text.replace('"', '""') + '"'
    found = f"SELECT rowid FROM {_TABLE} WHERE {_TABLE} MATCH %s ORDER BY rowid DESC LIMIT %s"
    led = Q(id__in=RawSQL(found, [phrase, most], BigIntegerField()))
    return led if text.isascii() else led & in_text(text)  # the index knows more of capitals than LIKE does


def among_newest() -> Q:
    newest = TrainingJob.objects.aggregate(newest=Max("id"))["newest"] or 0
    return Q(id__gt=newest - NEWEST)


def prepare(using: str = "default", **_: Any) -> None:
    """Make the index where it is missing. Called after every migrate; lists work without it too."""
    connection = connections[using]
    if connection.vendor not in {"sqlite", "postgresql"} or _is_prepared(connection):
        return
    try:
        with transaction.atomic(using=using), connection.cursor() as cursor:
            for statement in _sqlite() if connection.vendor == "sqlite" else _postgresql():
                cursor.execute(statement)
    except Error as error:
        logger.warning("Searches look through the newest %d jobs only: %s", NEWEST, str(error).strip())


def _is_prepared(connection: Any) -> bool:
    if connection.vendor == "sqlite":
        asked = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE %s"
        wanted = len(_TRIGGERS)
    else:
        asked, wanted = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE %s", 2
    with connection.cursor() as cursor:
        cursor.execute(asked, [f"{_TABLE}_%"])
        return cursor.fetchone()[0] == wanted


def _sqlite() -> list[str]:
    columns = f"job_name, description, content='{_JOBS}', content_rowid='id', tokenize='trigram'"
    return [
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {_TABLE} USING fts5({columns})",
        *(f"CREATE TRIGGER IF NOT EXISTS {name} {body}" for name, body in _TRIGGERS.items()),
        f"INSERT INTO {_TABLE}({_TABLE}) VALUES ('rebuild')",
    ]


def _postgresql() -> list[str]:
    return [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        *(
            f"CREATE INDEX IF NOT EXISTS {_TABLE}_{name} ON {_JOBS} USING gin (UPPER({name}::text) gin_trgm_ops)"
            for name in ("job_name", "description")
        ),
    ]
