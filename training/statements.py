"""Statements beside Django's ORM: made once, or doing at once what would take it two.

A claim and a landing hold up a slot, and people wait for lists, so what these ask of the database is counted. Making
a statement costs Django more than a local database needs to answer it: one that is always the same is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models.sql import UpdateQuery

M = TypeVar("M", bound=Model)
Statement = tuple[str, tuple[Any, ...]]


def update_and_read(
    rows: QuerySet[M], changes: dict[str, Any], *, names: Collection[str] | None = None
) -> list[M]:
    """Do `rows.update(**changes)` and return the rows as they are now, or so much of them as is named beside the key.

    The conditions of `rows` name columns of their own.
    """
    update: Any = rows.query.chain(UpdateQuery)
    update.add_update_values(changes)
    sql, values = update.get_compiler(connection=connection).as_sql()
    fields: Any = rows.model._meta.concrete_fields
    if names is not None:
        fields = [field for field in fields if field.primary_key or field.name in names]
    columns = (connection.ops.quote_name(field.column) for field in fields)
    return list(rows.model._default_manager.raw(f"{sql} RETURNING {', '.join(columns)}", values))


def made_once(make: Callable[[], QuerySet[Any]]) -> Callable[[], Statement]:
    """The SQL of a query that is always the same, as this database speaks it."""

    @cache
    def made(_vendor: str) -> Statement:
        return make().query.get_compiler(connection=connection).as_sql()

    return lambda: made(connection.vendor)


def rows_of(statement: Statement) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(*statement)
        return cursor.fetchall()
