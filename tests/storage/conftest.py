"""The same store in three kinds: a folder, moto's server, and rclone's."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.storage.servers import BUCKET, CREDENTIALS, moto, rclone
from tests.support.staged import staged
from training import services
from training.models import Attempt, Checkpoint, checkpoint_storage
from training.store import checkpoints
from training.store.s3 import S3Storage


@pytest.fixture(scope="session")
def s3_addresses(tmp_path_factory) -> Any:
    """Kind -> address of its server; each is started when it is first asked for, and both end with the session."""
    started: dict[str, str] = {}
    open_ones = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)

        def address_of(kind: str) -> str:
            if kind not in started:
                server = moto() if kind == "moto" else rclone(tmp_path_factory.mktemp("rclone"))
                started[kind] = server.__enter__()
                open_ones.append(server)
                S3Storage(bucket=BUCKET, endpoint=started[kind]).client.create_bucket(Bucket=BUCKET)
            return started[kind]

        yield address_of
        for server in open_ones:
            server.__exit__(None, None, None)


def use_store(settings: Any, backend: dict[str, Any]) -> None:
    settings.STORAGES = settings.STORAGES | {
        name: {**backend, "OPTIONS": {**backend["OPTIONS"], **_place(backend, name)}}
        for name in ("checkpoints", "datasets")
    }


def _place(backend: dict[str, Any], name: str) -> dict[str, Any]:
    if "location" in backend["OPTIONS"]:
        return {"location": Path(backend["OPTIONS"]["location"]) / name}
    return {"prefix": f"{backend['OPTIONS']['prefix']}/{name}"}


def s3_backend(address: str, *, timeout: float = 10, bucket: str = BUCKET) -> dict[str, Any]:
    options = {
        "bucket": bucket,
        "endpoint": address,
        "prefix": f"t{uuid.uuid4().hex[:10]}",
        "timeout": timeout,
    }
    return {"BACKEND": "training.store.s3.S3Storage", "OPTIONS": options}


@pytest.fixture(params=["moto", "rclone"])
def s3_store(request, settings, s3_addresses) -> Any:
    use_store(settings, s3_backend(s3_addresses(request.param)))
    return checkpoint_storage()


@pytest.fixture(params=["folder", "moto", "rclone"])
def store(request, settings, tmp_path, s3_addresses) -> Any:
    """The `checkpoints` store, of each kind in turn; `datasets` lies beside it."""
    if request.param == "folder":
        location = {"location": tmp_path / "store"}
        use_store(
            settings, {"BACKEND": "training.store.file_system.AtomicFileSystemStorage", "OPTIONS": location}
        )
    else:
        use_store(settings, s3_backend(s3_addresses(request.param)))
    return checkpoint_storage()


@pytest.fixture
def attempt(make_job) -> Attempt:
    return Attempt.objects.get(job=make_job(status="running"))


def put(store: Any, name: str, content: bytes | None) -> None:
    """Whatever it takes to have this under the name, past all that the store promises; None: nothing."""
    if isinstance(store, S3Storage):
        if content is None:
            store.client.delete_object(Bucket=BUCKET, Key=store._key(name))
        else:
            store.client.put_object(Bucket=BUCKET, Key=store._key(name), Body=content)
        return
    path = Path(store.path(name))
    path.unlink(missing_ok=True)
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def content_of(store: Any, name: str) -> bytes:
    with store.open(name, "rb") as file:
        return file.read()


def record(attempt, folder, **facts) -> Checkpoint:
    stored = checkpoints.store(staged(folder, **facts), job_id=attempt.job_id, attempt=attempt.number)
    return services.record_checkpoint(attempt, stored)
