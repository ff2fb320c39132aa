"""All jobs of a list as a file, read page by page while it is sent, in the memory of one page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, StreamingHttpResponse

from heimdall.errors import InvalidInput
from training.models import ConfigValue
from training.queries import FIELDS, job_list
from training.queries.columns import Column, chosen

ROWS = 500  # of one read
PARQUET_ROWS = 20 * ROWS  # of one group; fewer would make a file of many small ones
COLUMNS = (
    "id", "job_name", "status", "headline", "recipe", "job_type", "owner", "team", "pool", "tags", "priority",
    "current_epoch", "total_epochs", "current_step", "total_steps", "progress_percent", "eta_seconds", "train_loss",
    "val_loss", "best_epoch", "best_val_loss", "learning_rate", "attempt", "parent", "dataset", "error_code",
    "created_at", "queued_at", "started_at", "completed_at", "updated_at", "description",
)  # fmt: skip
NO_PARQUET = (
    "This server writes no Parquet: the package pyarrow is not installed there (pip install 'heimdall[parquet]'). "
    "Take csv or jsonl."
)
_WHOLE = frozenset({
    "id", "priority", "current_epoch", "total_epochs", "current_step", "total_steps", "best_epoch", "attempt",
    "parent", "event_seq",
})  # fmt: skip
_FLOATS = frozenset({
    "progress_percent", "eta_seconds", "train_loss", "val_loss", "best_val_loss", "learning_rate",
})  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Pages = Iterator[list[dict[str, Any]]]


def pages(actor: Any, wanted: job_list.JobQuery) -> Pages:
    """The jobs of a list, so many at a time. It is planned once, and goes on from the last job of each page."""
    found = job_list.page(actor, wanted, size=ROWS)
    while True:
        yield found.jobs
        if found.next is None:
            return
        found = job_list.page(actor, wanted, size=ROWS, cursor=found.next, plan=found.plan)


def send_jobs(
    request: HttpRequest, found: Pages, word: str, fields: Sequence[str] | None
) -> StreamingHttpResponse:
    """`word` is one of FORMATS. Without `fields` a table has COLUMNS, and JSON has every field of a job."""
    media_type, write = FORMATS[word]
    return send(request, write(found, fields), media_type, f"jobs.{word}")


def send(
    request: HttpRequest, pieces: Iterator[str] | Iterator[bytes], media_type: str, name: str
) -> StreamingHttpResponse:
    inner = getattr(request, "_request", request)
    sent = later(pieces) if isinstance(inner, ASGIRequest) else pieces
    response = StreamingHttpResponse(sent, content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def as_csv(found: Pages, fields: Sequence[str] | None) -> Iterator[str]:
    names = fields or COLUMNS
    yield lines([[cell(name) for name in names]])
    for jobs in found:
        yield lines([[cell(job[name]) for name in names] for job in chosen(jobs, names)])


def as_json_lines(found: Pages, fields: Sequence[str] | None) -> Iterator[str]:
    for jobs in found:
        yield "".join(f"{_json(job)}\n" for job in (chosen(jobs, fields) if fields else jobs))


def as_json(found: Iterable[list[dict[str, Any]]], fields: Sequence[str] | None = None) -> Iterator[str]:
    before = "["
    for jobs in found:
        if jobs:
            yield before + ",\n".join(_json(job) for job in (chosen(jobs, fields) if fields else jobs))
            before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


def as_parquet(found: Pages, fields: Sequence[str] | None) -> Iterator[bytes]:
    """Raises InvalidInput, and at once, where the server has no pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidInput({"format": [NO_PARQUET]}) from error
    kinds = {name: _kind(name) for name in fields or COLUMNS}
    types = {"int": pyarrow.int64(), "float": pyarrow.float64(), "text": pyarrow.string()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    return _parquet_pieces(found, kinds, schema, pyarrow)


FORMATS: dict[str, tuple[str, Callable[[Pages, Sequence[str] | None], Iterator[Any]]]] = {
    "csv": ("text/csv; charset=utf-8", as_csv),
    "jsonl": ("application/x-ndjson", as_json_lines),
    "json": ("application/json", as_json),
    "parquet": ("application/vnd.apache.parquet", as_parquet),
}


def offered() -> dict[str, str]:
    """The formats that a page offers, with their names."""
    names = {"csv": "CSV", "json": "JSON", "parquet": "Parquet"}
    return {word: name for word, name in names.items() if word != "parquet" or find_spec("pyarrow")}


def lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    value = _text(value)
    # A spreadsheet would take this for a formula, and somebody else wrote it.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _text(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " ".join(value)
    return _json(value) if isinstance(value, list | dict) else value


def _kind(name: str) -> str:
    """The type of a column of a table, which stands in the file before the first row."""
    column = Column.named(name) if name not in FIELDS else None
    if column is None:
        return "int" if name in _WHOLE else "float" if name in _FLOATS else "text"
    if column.prefix != "config":
        return "float"
    values = ConfigValue.objects.filter(path=column.name)
    has_texts = values.filter(text__isnull=False).exists() or not values.exists()
    return "text" if has_texts else "float"


def _parquet_pieces(found: Pages, kinds: dict[str, str], schema: Any, pyarrow: Any) -> Iterator[bytes]:
    sink = _Pieces()
    with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
        for jobs in _gathered(found, PARQUET_ROWS):
            rows = chosen(jobs, list(kinds))
            columns = {name: [_typed(row[name], kind) for row in rows] for name, kind in kinds.items()}
            writer.write_table(pyarrow.table(columns, schema=schema))
            yield sink.taken()
    yield sink.taken()


def _gathered(found: Pages, most: int) -> Pages:
    gathered: list[dict[str, Any]] = []
    for jobs in found:
        gathered += jobs
        if len(gathered) >= most:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def _typed(value: Any, kind: str) -> Any:
    if kind == "text":
        text = _text(value)
        return text if text is None or isinstance(text, str) else _json(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if kind == "float" else value


class _Pieces(io.RawIOBase):
    """A file that is only written, and whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._num_written

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        self._num_written += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)


async def later(pieces: Iterator[Any]) -> AsyncIterator[Any]:
    """The same under ASGI, where Django would gather a plain iterator in memory first."""
    while (piece := await sync_to_async(next)(pieces, None)) is not None:
        yield piece
