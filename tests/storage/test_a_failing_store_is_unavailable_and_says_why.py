"""Errors, silence and cut wires: never taken for a damaged or a missing file, bounded in time, told in a sentence."""

import time
from pathlib import Path

import pytest

from tests.storage.conftest import record, s3_backend, use_store
from tests.storage.servers import Failing, Wire, free_port
from tests.support.running import PATIENCE
from tests.support.staged import staged
from training.errors import StorageRefused, StorageUnavailable
from training.store import checkpoints, s3

pytestmark = [pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _one_try(monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 1)  # boto's own pauses between tries are not what is looked at here


@pytest.fixture
def failing():
    server = Failing()
    yield server
    server.close()


@pytest.fixture
def wire(settings, s3_addresses):
    """A store behind a wire."""
    wire = Wire(s3_addresses("moto"))
    use_store(settings, s3_backend(wire.address, timeout=1))
    yield wire
    wire.close()


@pytest.fixture
def row(wire, attempt, tmp_path):
    """A checkpoint in the store behind the wire, larger than what sockets hold."""
    return record(attempt, tmp_path / "staging", numbers=2 * 10**6)


def store(attempt, message):
    return checkpoints.store(message, job_id=attempt.job_id, attempt=attempt.number)


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (503, "SlowDown", "answers 503"),
        (500, "InternalError", "answers 500"),
        (403, "AccessDenied", "lacks a permission"),
        (403, "InvalidAccessKeyId", "does not know the key in AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY does not belong"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (404, "NoSuchBucket", "no such bucket"),
    ],
)
def test_an_error_keeps_the_staged_file_and_is_no_verdict_on_a_stored_one(
    failing, settings, attempt, wire, row, tmp_path, status, code, sentence
):
    use_store(settings, s3_backend(failing.address, timeout=2))
    failing.answer = (status, code)
    message = staged(tmp_path / "staging", value=2.0)
    kind = StorageUnavailable if status >= 500 else StorageRefused
    for ask in (
        lambda: store(attempt, message),
        lambda: checkpoints.fetch(row, tmp_path / "scratch"),
        lambda: checkpoints.delete_file(row.file.name),
        lambda: list(checkpoints.stored_names()),
        checkpoints.mark,
    ):
        with pytest.raises(StorageUnavailable) as refused:
            ask()
        assert type(refused.value) is kind
    with pytest.raises(StorageUnavailable, match=sentence):
        list(checkpoints.stored_names())  # the one whose answer has a body, from which the reason is read
    assert Path(message.path).exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_server_that_is_not_there_is_told_by_its_address(settings, attempt, tmp_path):
    address = f"http://127.0.0.1:{free_port()}"
    use_store(settings, s3_backend(address, timeout=1))
    with pytest.raises(StorageUnavailable, match=address):
        store(attempt, staged(tmp_path / "staging"))


def test_silence_is_bounded_in_time(wire, row, attempt, tmp_path):
    wire.mode = "hole"
    for ask in (
        lambda: store(attempt, staged(tmp_path / "staging", value=2.0)),
        lambda: checkpoints.fetch(row, tmp_path / "scratch"),
    ):
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="does not answer in time"):
            ask()
        assert time.monotonic() - began < 5 * PATIENCE


def test_a_download_that_breaks_off_leaves_nothing_and_works_when_the_wire_is_whole(wire, row, tmp_path):
    wire.cut_after = wire.num_bytes + row.size // 2
    with pytest.raises(StorageUnavailable):
        checkpoints.fetch(row, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    wire.mode, wire.cut_after = "pass", None
    assert checkpoints.fetch(row, tmp_path / "scratch").stat().st_size == row.size


@pytest.mark.parametrize("when", ["upload", "check"])
def test_an_upload_that_breaks_off_is_repeated_under_the_same_name(wire, attempt, tmp_path, when):
    message = staged(tmp_path / "staging", numbers=2 * 10**6)
    if when == "upload":
        wire.cut_after = wire.num_bytes + 700  # with the answer to the question whether it is there already
    else:
        wire.cut_after = wire.num_bytes + message.size // 2  # while it is read again
    with pytest.raises(StorageUnavailable):
        store(attempt, message)
    assert Path(message.path).exists()
    wire.mode, wire.cut_after = "pass", None
    stored = store(attempt, message)
    assert list(checkpoints.stored_names()) == [stored.name]


def test_a_bucket_that_is_gone_is_not_a_thousand_lost_files(wire, row, settings, tmp_path):
    use_store(settings, s3_backend(wire.address, bucket="another"))
    for ask in (checkpoints.fetch, checkpoints.open_for_download):
        with pytest.raises(StorageRefused, match="no such bucket"):
            ask(row, *([tmp_path / "scratch"] if ask is checkpoints.fetch else []))


def test_missing_credentials_are_named(wire, settings, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    use_store(settings, s3_backend(wire.address))
    with pytest.raises(StorageRefused, match="needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        checkpoints.mark()
