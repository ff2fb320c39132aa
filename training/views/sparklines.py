"""The small curves of the list: drawn here, and asked for again by the page while jobs train."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from training import policy, queries
from training.queries.sparks import Points, sparks
from training.templatetags.heimdall import count, loss
from training.views.page import BIGGEST, PAGE_SIZE, page, whole

WIDTH, HEIGHT, EDGE = 100, 26, 3


@dataclass(frozen=True)
class Spark:
    """A curve as an SVG path, and as words for who does not see it."""

    path: str
    words: str


@page
@require_GET
def curves(request: HttpRequest) -> JsonResponse:
    """The curves of the jobs that the page names, as far as one can see them."""
    numbers = {whole(word) for word in request.GET.get("ids", "").split(",")[:PAGE_SIZE]}
    jobs = policy.visible_jobs(request.user).filter(
        pk__in=[number for number in numbers if 0 < number <= BIGGEST]
    )
    drawn = draw(queries.dicts(queries.with_relations(jobs), None))
    return JsonResponse({str(job): asdict(spark) for job, spark in drawn.items()})


def draw(jobs: Iterable[dict[str, Any]]) -> dict[int, Spark]:
    return {job: Spark(_path(points), _words(points)) for job, points in sparks(jobs).items()}


def _path(points: Points) -> str:
    lowest, highest = min(loss for _, loss in points), max(loss for _, loss in points)
    first, last = points[0][0], points[-1][0]
    scale = (HEIGHT - 2 * EDGE) / ((highest - lowest) or 1)
    places = (
        f"{WIDTH * (step - first) / ((last - first) or 1):.1f} {EDGE + (highest - loss) * scale:.1f}"
        for step, loss in points
    )
    return "M" + "L".join(places)


def _words(points: Points) -> str:
    (_, first), (step, last) = points[0], points[-1]
    return f"Loss from {loss(first)} to {loss(last)} in {count(step)} steps"
