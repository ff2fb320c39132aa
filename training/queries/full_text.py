"""Finding a text in the names and descriptions of jobs without reading all of them: an index of trigrams.

SQLite: an FTS5 table over the jobs' own, kept by triggers. PostgreSQL: pg_trgm. Neither is made by a migration, for
a later one that makes the table of jobs anew would lose the triggers in silence: `prepare` runs after every migrate
and puts right what is missing. Where a database has no such index, or the text is too short for one, only the newest
jobs are looked through.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from django.db import Error, connection, connections, transaction

from training.queries.conditions import JOBS, Condition, ConditionPart, Sql, both, plain

logger = logging.getLogger(__name__)
SHORTEST = 3  # characters that an index of trigrams can look for
NEWEST = 10_000  # jobs that are looked through without an index

_TABLE = "training_jobtext"
_FORGET = (
    f"INSERT INTO {_TABLE}({_TABLE}, rowid, job_name, description)"
    " VALUES ('delete', old.id, old.job_name, old.description);"
)
_LEARN = f"INSERT INTO {_TABLE}(rowid, job_name, description) VALUES (new.id, new.job_name, new.description);"
_TRIGGERS = {
    f"{_TABLE}_insert": f"AFTER INSERT ON {JOBS} BEGIN {_LEARN} END",
    f"{_TABLE}_delete": f"AFTER DELETE ON {JOBS} BEGIN {_FORGET} END",
    f"{_TABLE}_update": f"AFTER UPDATE OF job_name, description ON {JOBS} WHEN old.job_name IS NOT new.job_name"
    f" OR old.description IS NOT new.description BEGIN {_FORGET} {_LEARN} END",
}


def condition(text: str) -> Condition:
    """The jobs with this text in their name or description, and the one with this number."""
    look = _look(text)
    if len(text) < SHORTEST or not _is_prepared(connection):
        look = both(Sql(f"id > (SELECT max(id) FROM {JOBS}) - {NEWEST}"), look)
        found = Condition((ConditionPart(look),), look)
    elif connection.vendor == "sqlite":
        found = Condition((_in_index(text, look),), look)
    else:
        found = Condition((ConditionPart(look),), look, in_order=False)  # its planner knows the index
    is_number = text.isascii() and text.isdigit() and int(text) < 2**63
    return _or_number(found, int(text)) if is_number else found


def _look(text: str) -> Sql:
    one = "{} LIKE %s ESCAPE '\\'" if connection.vendor == "sqlite" else "UPPER({}::text) LIKE UPPER(%s)"
    either = " OR ".join(one.format(column) for column in ("job_name", "description"))
    return Sql(f"({either})", (f"%{connection.ops.prep_for_like_query(text)}%",) * 2)


def _in_index(text: str, look: Sql) -> ConditionPart:
    phrase = '"' + text.replace('"', '""') + '"'
    part = ConditionPart(Sql(f"{_TABLE} MATCH %s", (phrase,)), _TABLE, f"{_TABLE}.rowid")
    return part if text.isascii() else part.that(look)  # the index knows more of capitals than LIKE does


def _or_number(found: Condition, number: int) -> Condition:
    """A text that is the number of a job finds that one too."""
    its = ConditionPart(Sql("id = %s", (number,)))
    others = (
        replace(part, where=both(part.where, Sql(f"{part.number} <> %s", (number,)))) for part in found.parts
    )
    look = Sql(f"({found.look.text} OR {plain('id')} = %s)", (*found.look.values, number))
    return replace(found, parts=(its, *others), look=look)


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
    columns = f"job_name, description, content='{JOBS}', content_rowid='id', tokenize='trigram'"
    return [
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {_TABLE} USING fts5({columns})",
        *(f"CREATE TRIGGER IF NOT EXISTS {name} {body}" for name, body in _TRIGGERS.items()),
        f"INSERT INTO {_TABLE}({_TABLE}) VALUES ('rebuild')",
    ]


def _postgresql() -> list[str]:
    return [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        *(
            f"CREATE INDEX IF NOT EXISTS {_TABLE}_{name} ON {JOBS} USING gin (UPPER({name}::text) gin_trgm_ops)"
            for name in ("job_name", "description")
        ),
    ]
