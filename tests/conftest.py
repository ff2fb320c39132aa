"""The people, and jobs in every state. Alice owns, Bob may look and help, the viewer looks, Mallory may nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.utils import timezone

from heimdall.recipes import registry
from tests.support import postgres
from training import services
from training.lifecycle import Status, Stop
from training.models import Attempt, Checkpoint, Node, TrainingJob
from training.services.clock import lease_end
from training.services.column_values import index_config

PASSWORD = "long enough for a test"

# The recipes of the tests are a user's own: trainers find them where a user says that they are.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
)


@pytest.fixture(scope="session")
def django_db_keepdb(request) -> bool:
    """A test database on PostgreSQL goes with its server."""
    return postgres.IS_DEFAULT or bool(request.config.getvalue("reuse_db"))


@pytest.fixture(scope="session")
def postgresql() -> postgres.Server:
    """This process's PostgreSQL server."""
    if postgres.why_absent():
        pytest.skip(postgres.why_absent())
    return postgres.server()


@pytest.fixture(scope="module", params=postgres.KINDS)
def each_database(request, django_db_setup) -> Iterator[None]:
    """For `pytestmark`: every test of the module runs on SQLite, and again on PostgreSQL."""
    if request.param == "postgres" and not postgres.IS_DEFAULT:
        with postgres.instead(request.getfixturevalue("postgresql").copy("tests")):
            yield
    else:
        yield


@pytest.fixture(autouse=True)
def _quick(settings) -> None:
    """Hashing a password slowly is a virtue that each test would pay for; reading all static files for each
    client, too."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture
def team(db) -> Group:
    return Group.objects.create(name="radio")


@pytest.fixture
def alice(db, team) -> User:
    user = User.objects.create_user("alice", password=PASSWORD)
    user.groups.add(team)
    return user


@pytest.fixture
def bob(db, team) -> User:
    user = User.objects.create_user("bob", password=PASSWORD)
    user.groups.add(team)
    return user


@pytest.fixture
def viewer(db) -> User:
    user = User.objects.create_user("vera", password=PASSWORD)
    user.user_permissions.add(Permission.objects.get(codename="view_trainingjob"))
    return user


@pytest.fixture
def mallory(db) -> User:
    return User.objects.create_user("mallory", password=PASSWORD)


@pytest.fixture
def admin_user(db) -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def node(db) -> Node:
    return services.register_node()


@pytest.fixture
def node_of_two(db, settings) -> Node:
    """With two slots."""
    settings.SLOTS = 2
    return services.register_node()


@pytest.fixture
def make_job(db, alice, team) -> Callable[..., TrainingJob]:
    """make_job(status="running", stop="pause", ...): a job in any state, with a checkpoint where one is needed."""
    return lambda **wanted: build_job(**({"owner": alice, "team": team} | wanted))


def build_job(
    *,
    owner: User,
    team: Group | None = None,
    status: str = "queued",
    stop: str = "",
    stop_at: str = "",
    job_type: str = "training",
    with_checkpoint: bool | None = None,
    step: int = 0,
    epoch: int = 0,
    job_name: str = "a job",
    recipe: str | None = None,
    config: dict | None = None,
    **fields,
) -> TrainingJob:
    is_external = job_type == "external"
    if not is_external:
        recipe = recipe or ("shards" if job_type == "synthetic_data" else "tiny")
    job = TrainingJob.objects.create(
        status="running" if is_external else "queued",
        job_name=job_name,
        owner=owner,
        team=team,
        job_type=job_type,
        recipe=recipe or "",
        config=registry.validate(recipe, config or {}) if recipe else config or {},
        total_epochs=0 if job_type == "synthetic_data" else 3,
        current_step=step,
        current_epoch=epoch,
        **fields,
    )
    index_config(job)
    if with_checkpoint:
        give_checkpoint(job, step=step, epoch=epoch)
    if is_external and status == Status.QUEUED:
        status = Status.RUNNING
    if status != Status.QUEUED:
        put(job, status, stop, stop_at)
    job.refresh_from_db()
    return job


def give_checkpoint(
    job: TrainingJob, *, step: int, epoch: int, kinds: tuple[str, ...] = ("periodic",)
) -> Checkpoint:
    """A checkpoint row and pointer, with no file behind it."""
    digest = hashlib.sha256(os.urandom(8)).hexdigest()
    row = Checkpoint.objects.create(
        job=job,
        attempt=job.attempt,
        generation=job.generation,
        step=step,
        epoch=epoch,
        kinds=list(kinds),
        file=f"jobs/{job.pk}/a{job.attempt}/s{step}-{digest[:32]}.safetensors",
        size=1,
        digest=digest,
        header_sha256=digest,
    )
    TrainingJob.objects.filter(pk=job.pk).update(
        latest_checkpoint=row, checkpoint=row.file.name, checkpoints_stored=job.checkpoints_stored + 1
    )
    job.refresh_from_db()
    return row


def put(job: TrainingJob, status: str, stop: str = "", stop_at: str = "") -> None:
    changes: dict = {"status": status, "stop": stop, "stop_at": stop_at or ("step" if stop else "")}
    if status == Status.RUNNING:
        changes |= {"attempt": job.attempt + 1, "started_at": timezone.now()}
        node = None
        if job.job_type == "external":
            changes["heard_at"] = timezone.now()
        else:
            changes["lease_expires_at"] = lease_end()
            node, _ = Node.objects.get_or_create(name="a-node", defaults={"boot_id": "boot"})
        Attempt.objects.create(
            job=job,
            number=job.attempt + 1,
            node=node,
            node_name=node.name if node else "elsewhere",
            started_from=job.latest_checkpoint,
        )
    if status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}:
        changes["completed_at"] = timezone.now()
    TrainingJob.objects.filter(pk=job.pk).update(**changes)


ALL_STATES = [
    ("queued", ""),
    *(("running", str(stop)) for stop in Stop),
    ("paused", ""),
    ("completed", ""),
    ("failed", ""),
    ("cancelled", ""),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes first: they take longest, and the quick ones fill what is left at the end."""
    items.sort(key=lambda item: item.get_closest_marker("processes") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """In CI nothing may be absent: a skip for any reason but a missing GPU is a failure."""
    report = yield
    # Reports travel between test processes as UTF-8, and some tests log what no UTF-8 can hold.
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    skipped = report.skipped and not hasattr(report, "wasxfail")
    may_skip = item.get_closest_marker("cuda") is not None
    if skipped and os.environ.get("CI") == "true" and not may_skip:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where every part must be there: {report.longrepr}"
    return report
