"""The log of a job: as a file, and searched on the server over all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from training import queries
from training.models import LogChunk, TrainingJob
from training.presentation.exports import later
from training.views.page import page, visible_job, whole

LOG_CHUNKS = 200
SEARCHED_CHUNKS = 20  # read at a time
MOST_HITS = 50  # of one page
LONGEST_QUERY = 200
CONTEXT_LINES = 2
LONGEST_LINE = 400


@dataclass(frozen=True)
class Hit:
    """A line with the text, and the lines around it in its piece of the log."""

    number: int
    at: Any
    attempt: int
    before: str
    head: str
    text: str
    tail: str
    after: str


@page
@require_GET
def log(request: HttpRequest, job_id: int) -> StreamingHttpResponse:
    """Everything that was printed, as a text file."""
    seen = visible_job(request, job_id)
    pieces = _log_text(seen.pk)
    response = StreamingHttpResponse(
        later(pieces) if isinstance(request, ASGIRequest) else pieces,
        content_type="text/plain; charset=utf-8",
    )
    response["Content-Disposition"] = f'attachment; filename="job-{seen.pk}.log"'
    return response


@page
@require_GET
def find(request: HttpRequest, job_id: int) -> HttpResponse:
    """Where the log has a text (?q=), a page of hits at a time (?after= is a piece of the log, ?page= counts)."""
    seen = visible_job(request, job_id)
    wanted = request.GET.get("q", "").replace("\x00", "").strip()[:LONGEST_QUERY]
    rank = _rank(seen, request.GET.get("rank", ""))
    number = max(whole(request.GET.get("page")), 1)
    after, is_asked = whole(request.GET.get("after")), bool(wanted) or rank is not None
    hits, following = _hits(seen.pk, wanted, rank, after, number) if is_asked else ([], None)
    context = {
        "section": "jobs",
        "job": seen,
        "q": wanted,
        "rank": rank,
        "ranks": range(seen.ranks) if seen.ranks > 1 else [],
        "is_asked": is_asked,
        "hits": hits,
        "first": number,
        "next": following,
        "next_number": number + len(hits),
    }
    return render(request, "job_log.html", context)


def _rank(seen: TrainingJob, text: str) -> int | None:
    """The rank whose lines are wanted; None: those of all."""
    return int(text) if text.isdigit() and len(text) < 5 and seen.ranks > 1 else None


def _is_of_rank(line: str, rank: int | None) -> bool:
    """Each line of another rank than 0 begins with its rank."""
    if rank is None:
        return True
    return line.startswith(f"[rank {rank}] ") if rank else not line.startswith("[rank ")


def _hits(
    job_id: int, wanted: str, rank: int | None, after: int, number: int
) -> tuple[list[Hit], int | None]:
    """At least so many hits, in whole pieces of the log; and the piece after which there may be more."""
    chunks = LogChunk.objects.filter(job_id=job_id, text__icontains=wanted).order_by("id")
    chunks = chunks.filter(text__contains=f"[rank {rank}] ") if rank else chunks
    found: list[Hit] = []
    while some := chunks.filter(id__gt=after)[:SEARCHED_CHUNKS]:
        for chunk in some:
            after = chunk.pk
            found += _hits_in(chunk, wanted, rank, number + len(found))
            if len(found) >= MOST_HITS:
                return found, after if chunks.filter(id__gt=after).exists() else None
    return found, None


def _hits_in(chunk: LogChunk, wanted: str, rank: int | None, number: int) -> Iterator[Hit]:
    lines, low = chunk.text.splitlines(), wanted.lower()
    for index, line in enumerate(lines):
        start = line.lower().find(low)
        if start < 0 or not _is_of_rank(line, rank):
            continue
        end = start + len(wanted)
        yield Hit(
            number,
            chunk.created_at,
            chunk.attempt,
            "\n".join(_short(one) for one in lines[max(index - CONTEXT_LINES, 0) : index]),
            line[max(start - LONGEST_LINE, 0) : start],
            line[start:end],
            line[end : end + LONGEST_LINE],
            "\n".join(_short(one) for one in lines[index + 1 : index + 1 + CONTEXT_LINES]),
        )
        number += 1


def _short(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."


def _log_text(job_id: int) -> Iterator[str]:
    last = 0
    while chunks := queries.log_after(job_id, last, LOG_CHUNKS):
        yield "".join(chunk.text for chunk in chunks)
        last = chunks[-1].pk
