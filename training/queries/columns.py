"""Columns of a list that are no columns of a job: `config.learning_rate`, `metric.val_rmse`, `lowest.val_rmse`.

Each is a name in a narrow table with one row a job and name, which its indexes have in the order of values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heimdall.errors import InvalidInput
from training.models import ConfigValue, MetricValue
from training.models.values import EXACT, as_float, indexed, is_text
from training.queries.conditions import JOBS, Condition, ConditionPart, Sql, both
from training.queries.jobs import FIELDS

LONGEST_NAME = 200
MOST = 20  # conditions of one list, and columns of one answer
_CONFIG, _METRICS = ConfigValue._meta.db_table, MetricValue._meta.db_table


@dataclass(frozen=True)
class Source:
    """Where the columns of one prefix lie: `values` are the table's, in the order in which a list has them."""

    table: str
    key: str
    values: tuple[str, ...]


SOURCES = {
    "config": Source(_CONFIG, "path", ("number", "text")),
    "metric": Source(_METRICS, "name", ("newest",)),
    "lowest": Source(_METRICS, "name", ("lowest",)),
    "highest": Source(_METRICS, "name", ("highest",)),
}
NAME_PATTERN = rf"\.[^\u0000\s<>=,][^\u0000<>=,]{{0,{LONGEST_NAME - 1}}}"
PATTERN = rf"({'|'.join(SOURCES)}){NAME_PATTERN}"
CONDITION_PATTERN = (
    rf"^(config{NAME_PATTERN}=[^\u0000\n]{{0,{ConfigValue.TEXT_LENGTH}}}"
    rf"|{PATTERN}(<=|>=|<|>|=)-?[0-9]{{1,15}}(\.[0-9]{{1,9}})?)$"
)
SIGNS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
RULE = (
    "Give a column, one of < <= > >= = and a value, such as config.learning_rate<0.1, metric.val_rmse<=3 or "
    f"config.optimizer=adam. Before a column's dot stands one of: {', '.join(SOURCES)}."
)


@dataclass(frozen=True)
class Column:
    prefix: str
    name: str

    @classmethod
    def named(cls, text: str) -> Column | None:
        """None for what is no such column: those of the jobs themselves have other names."""
        prefix, dot, name = text.partition(".")
        if not dot or prefix not in SOURCES or not 0 < len(name) <= LONGEST_NAME:
            return None
        return None if any(sign in name for sign in "<>=,\x00") or not is_text(name) else cls(prefix, name)

    @property
    def source(self) -> Source:
        return SOURCES[self.prefix]

    def __str__(self) -> str:
        return f"{self.prefix}.{self.name}"

    def row(self, *conditions: Sql) -> Sql:
        """Conditions on the column's row of a job."""
        return both(Sql(f"{self.source.table}.{self.source.key} = %s", (self.name,)), *conditions)

    def of_job(self, *conditions: Sql) -> Sql:
        """Whether a job has such a row, asked of a job."""
        row = self.row(Sql(f"{self.source.table}.job_id = {JOBS}.id"), *conditions)
        return Sql(f"EXISTS (SELECT 1 FROM {self.source.table} WHERE {row.text})", row.values)


@dataclass(frozen=True)
class Comparison:
    """What the value of a column must be."""

    column: Column
    sign: str
    value: str

    @classmethod
    def read(cls, text: str) -> Comparison:
        """Raises ValueError with a sentence."""
        at = min((text.find(sign) for sign in "<>=" if sign in text), default=-1)
        column = Column.named(text[:at].strip()) if at > 0 else None
        if column is None:
            raise ValueError(f"{text[:60]!r} is no condition. {RULE}")
        sign = text[at : at + 2] if text[at + 1 : at + 2] == "=" else text[at]
        return cls._checked(column, sign.replace("==", "="), text[at + len(sign) :].strip())

    @classmethod
    def of_parameter(cls, name: str, value: str) -> Comparison:
        """config.learning_rate__lt=0.1, as addresses have it."""
        plain, _, word = name.rpartition("__")
        column = Column.named(plain if word in SIGNS and plain else name)
        if column is None:
            raise ValueError(f"There is no column {name[:60]}. {RULE}")
        return cls._checked(column, SIGNS.get(word, "=") if plain else "=", value.strip())

    @classmethod
    def _checked(cls, column: Column, sign: str, value: str) -> Comparison:
        if len(value) > ConfigValue.TEXT_LENGTH or not is_text(value) or "\n" in value:
            raise ValueError(
                f"{column} is compared with a text of at most {ConfigValue.TEXT_LENGTH} characters."
            )
        if (sign != "=" or column.prefix != "config") and _number(value) is None:
            raise ValueError(f"{column}{sign} takes a number, not {value[:60]!r}.")
        return cls(column, sign, value)

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.value}"

    def alternatives(self) -> list[Sql]:
        """Conditions on the column's row, of which at most one fits."""
        table, number = self.column.source.table, _number(self.value)
        if self.column.prefix != "config":
            return [Sql(f"{table}.{self.column.source.values[0]} {self.sign} %s", (number,))]
        if self.sign != "=":
            return [Sql(f"{table}.number {self.sign} %s", (number,))]
        text = Sql(f"{table}.text = %s", (_as_kept(self.value),))
        if number is None or abs(number) > EXACT:
            return [text]
        return [Sql(f"{table}.number = %s", (number,)), text]


def is_column(name: str) -> bool:
    return Column.named(name) is not None


def read_all(texts: Iterable[str]) -> tuple[Comparison, ...]:
    """Raises InvalidInput."""
    read, refused = [], []
    for text in texts:
        try:
            read.append(Comparison.read(text))
        except ValueError as error:
            refused.append(str(error))
    if refused:
        raise InvalidInput({"where": refused})
    return bounded(read)


def bounded(wanted: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Raises InvalidInput for more than a statement holds."""
    if len(wanted) > MOST:
        raise InvalidInput({"where": [f"At most {MOST} conditions."]})
    return tuple(wanted)


def conditions(wanted: Iterable[Comparison]) -> list[Condition]:
    """One for each column: what is asked of the same one is one range of its index."""
    by_column: dict[Column, list[Comparison]] = defaultdict(list)
    for comparison in dict.fromkeys(wanted):
        by_column[comparison.column].append(comparison)
    return [condition for column, some in by_column.items() for condition in _conditions(column, some)]


def _conditions(column: Column, wanted: Sequence[Comparison]) -> list[Condition]:
    ranges = [comparison for comparison in wanted if comparison.sign != "="]
    found = [_condition(column, one.alternatives(), in_order=True) for one in wanted if one.sign == "="]
    if ranges:
        limits = both(*(limit for comparison in ranges for limit in comparison.alternatives()))
        found.append(_condition(column, [limits], in_order=False))
    return found


def _condition(column: Column, alternatives: Sequence[Sql], *, in_order: bool) -> Condition:
    table = column.source.table
    parts = tuple(ConditionPart(column.row(one), table, f"{table}.job_id") for one in alternatives)
    either = Sql(
        f"({' OR '.join(one.text for one in alternatives)})",
        tuple(value for one in alternatives for value in one.values),
    )
    return Condition(parts, column.of_job(either), in_order)


def values_of(jobs: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> dict[int, dict[str, Any]]:
    """The values of these columns of these jobs (dicts with `id` and `config`), by number and by the column's text.

    A value of a config is as the config has it. One query, and none where no metric is asked for.
    """
    found = {job["id"]: {str(column): None for column in columns} for job in jobs}
    for job in jobs:
        for column in columns:
            if column.prefix == "config":
                found[job["id"]][str(column)] = value_at(job["config"], column.name)
    metrics = [column for column in columns if column.prefix != "config"]
    if metrics and found:
        rows = MetricValue.objects.filter(job__in=list(found), name__in={column.name for column in metrics})
        by_name = {(row.job_id, row.name): row for row in rows}
        for (job_id, name), row in by_name.items():
            for column in metrics:
                if column.name == name:
                    found[job_id][str(column)] = getattr(row, column.source.values[0])
    return found


def chosen(jobs: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Of each job (a dict of queries.job_dict) these: its own fields, and columns that other tables hold."""
    others = [column for name in names if name not in FIELDS and (column := Column.named(name)) is not None]
    values = values_of(jobs, others)
    return [{name: job[name] if name in job else values[job["id"]][name] for name in names} for job in jobs]


def place_in(column: Column, job: Mapping[str, Any]) -> Any:
    """The value as the column's index has it, by which a list goes on from this job."""
    value = values_of([job], [column])[job["id"]][str(column)]
    if column.prefix != "config":
        return value
    number, text = indexed(value)
    return text if number is None else number


def value_at(config: Mapping[str, Any], path: str) -> Any:
    """What a config has there: a field whose own name has dots goes before nested ones."""
    if path in config:
        return config[path]
    for name, value in config.items():
        if isinstance(value, Mapping) and path.startswith(f"{name}."):
            return value_at(value, path[len(name) + 1 :])
    return None


def _as_kept(value: str) -> str:
    """People write True as Python does."""
    return value.lower() if value in {"True", "False"} else value


def _number(text: str) -> float | None:
    try:
        return as_float(float(text))
    except ValueError:
        return None
