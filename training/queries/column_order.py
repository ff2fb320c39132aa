"""A list in the order of a column that another table holds (columns.py): the statements that find what lies beyond a
place, one after the other. Jobs with a number come first, then those with a text, and last those with neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.queries.columns import Column
from training.queries.conditions import JOBS, Sql, both, plain
from training.queries.keyset import CursorPosition, direction_of, sign_of


@dataclass(frozen=True)
class ColumnOrder:
    """`looks` decide about a job; `few`: the only jobs that there are, where these are few enough to be sorted."""

    column: Column
    descending: bool
    looks: Sequence[Sql]
    few: Sql | None = None

    def statements(self, place: CursorPosition | None) -> list[Sql]:
        kinds = list(range(len(self.column.source.values) + 1))
        if place is None:
            return [self._all(kind, self.descending) for kind in kinds]
        descends, kind = self.descending != place.backward, self._kind_of(place)
        rest = kinds[kind + 1 :] if not place.backward else kinds[:kind][::-1]
        return [*self._beyond(kind, place, descends), *(self._all(other, descends) for other in rest)]

    def _kind_of(self, place: CursorPosition) -> int:
        values = self.column.source.values
        if place.value is None:
            return len(values)
        return values.index("text") if isinstance(place.value, str) else 0

    def _beyond(self, kind: int, place: CursorPosition, descends: bool) -> list[Sql]:
        """What has the same value follows by its number, then come other values."""
        sign = sign_of(descends)
        if kind == len(self.column.source.values):
            return [self._without(descends, Sql(f"{JOBS}.id {sign} %s", (place.number,)))]
        value, number = self._written(kind), self._name("job_id")
        same = both(Sql(f"{value} = %s", (place.value,)), Sql(f"{number} {sign} %s", (place.number,)))
        others = Sql(f"{value} {sign} %s", (place.value,))
        return [self._with(kind, descends, same), self._with(kind, descends, others)]

    def _all(self, kind: int, descends: bool) -> Sql:
        return (
            self._without(descends) if kind == len(self.column.source.values) else self._with(kind, descends)
        )

    def _with(self, kind: int, descends: bool, *conditions: Sql) -> Sql:
        """Jobs that have a value of this kind, and none of those before it."""
        before = (Sql(f"{self._name(name)} IS NULL") for name in self.column.source.values[:kind])
        own = Sql(f"{self._written(kind)} IS NOT NULL")
        found = both(self.column.row(*before, own, *conditions), *self._jobs())
        order, table = direction_of(descends), self.column.source.table
        text = f"SELECT {table}.job_id FROM {table} WHERE {found.text}"
        return Sql(f"{text} ORDER BY {self._written(kind)}{order}, {table}.job_id{order}", found.values)

    def _without(self, descends: bool, *conditions: Sql) -> Sql:
        any_value = Sql(
            f"({' OR '.join(f'{self._name(name)} IS NOT NULL' for name in self.column.source.values)})"
        )
        has_one = self.column.of_job(any_value)
        few = [Sql(f"{JOBS}.id IN ({self.few.text})", self.few.values)] if self.few else self.looks
        found = both(*few, Sql(f"NOT {has_one.text}", has_one.values), *conditions)
        order = direction_of(descends)
        return Sql(f"SELECT id FROM {JOBS} WHERE {found.text} ORDER BY {JOBS}.id{order}", found.values)

    def _jobs(self) -> list[Sql]:
        number = self._name("job_id")
        if self.few:
            return [Sql(f"{number} IN ({self.few.text})", self.few.values)]
        look = both(*self.looks)
        if look.text == "TRUE":
            return []
        job = both(Sql(f"{JOBS}.id = {number}"), look)
        return [Sql(f"EXISTS (SELECT 1 FROM {JOBS} WHERE {job.text})", job.values)]

    def _written(self, kind: int) -> str:
        """Where there are few jobs, so that SQLite looks these up and does not walk all values."""
        name = self._name(self.column.source.values[kind])
        return plain(name) if self.few else name

    def _name(self, name: str) -> str:
        return f"{self.column.source.table}.{name}"
