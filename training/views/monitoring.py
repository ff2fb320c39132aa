"""What machines ask: whether this server can work, and what there is to count."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Iterator

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from heimdall.errors import HeimdallError
from heimdall.site import database, latencies
from training import policy
from training.errors import StorageUnavailable
from training.queries.metrics import InstallationFacts
from training.services import tokens
from training.store import checkpoints

ANSWER_SECONDS = 5.0  # that the database may take for one
logger = logging.getLogger(__name__)
_facts = CollectorRegistry()


@require_GET
def readyz(request: HttpRequest) -> JsonResponse:
    """Whether this server can work now, and which part cannot. No login: it tells nothing else."""
    with database.answers_within(ANSWER_SECONDS):
        parts = {"database": _is_well(_ask_database)}
        if parts["database"]:
            parts["migrations"] = _is_well(_compare_migrations)
            parts["store"] = _is_well(_look_at_store)
    is_ready = all(parts.values())
    words = {name: "ok" if well else "not ok" for name, well in parts.items()}
    answer = {"status": "ready" if is_ready else "not ready", "parts": words}
    return JsonResponse(answer, status=200 if is_ready else 503, headers={"Cache-Control": "no-store"})


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus: facts from the database, and what this process measured itself."""
    if not _may_read(request):
        return HttpResponse(
            "Log in as staff, or send HEIMDALL_METRICS_TOKEN as a bearer token.\n",
            status=401,
            content_type="text/plain; charset=utf-8",
            headers={"WWW-Authenticate": "Bearer"},
        )
    try:
        text = generate_latest(_facts) + generate_latest(latencies.registry)
    except DatabaseError as error:
        logger.error("The database did not answer /metrics: %s", error)
        return HttpResponse("The database is unavailable.\n", status=503, content_type="text/plain")
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _may_read(request: HttpRequest) -> bool:
    """The token of the settings, a session of staff, or a staff member's own token."""
    header = request.headers.get("Authorization")
    if header is None:
        return _may_see_all(request.user)
    given, wanted = tokens.value_in(header) or "", settings.METRICS_TOKEN
    if wanted and secrets.compare_digest(given.encode(), wanted.encode()):
        return True
    user = tokens.person_with(given)
    return user is not None and _may_see_all(user) and policy.Right.READ in policy.rights_of(user)


def _may_see_all(user: User | AnonymousUser) -> bool:
    return user.is_active and (user.is_staff or user.is_superuser)


def _is_well(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (DatabaseError, HeimdallError, _NotMigrated) as error:
        logger.warning("Not ready: %s", error)
        return False
    return True


class _NotMigrated(Exception):
    """The database is of an earlier version of the code."""


def _look_at_store() -> None:
    checkpoints.mark()
    disk, free = min(_free_bytes().items(), key=lambda entry: entry[1])
    if free < settings.MIN_FREE_DISK_GB * 1e9:
        raise StorageUnavailable(
            f"The disk of the {disk} has {free / 1e9:.3g} GB left, and {settings.MIN_FREE_DISK_GB:g} GB must stay "
            "free (HEIMDALL_MIN_FREE_DISK_GB): make room."
        )


def _free_bytes() -> dict[str, int]:
    """What each disk has left. Database and staged files lie in the data folder, wherever the store is."""
    free = {"data": shutil.disk_usage(settings.DATA_DIR).free}
    of_store = checkpoints.free_bytes()
    return free if of_store is None else free | {"store": of_store}


class DiskFacts:
    """A collector of prometheus_client: what is left on the disks of this host."""

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("heimdall_disk_free_bytes", "Bytes left on a disk.", labels=["disk"])
        for disk, free in _free_bytes().items():
            gauge.add_metric([disk], free)
        yield gauge


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _compare_migrations() -> None:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise _NotMigrated(f"{len(missing)} migrations are not applied: run manage.py migrate.")


_facts.register(InstallationFacts())
_facts.register(DiskFacts())
