"""Whoever may have a checkpoint is sent to an address of the bucket: signed, for five minutes, with a name."""

from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import pytest
from django.urls import reverse

from tests.storage.conftest import put, record, s3_backend, use_store
from tests.storage.servers import Failing
from training.models import checkpoint_storage
from training.store import checkpoints

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def row(s3_store, attempt, tmp_path):
    return record(attempt, tmp_path / "staging")


@pytest.fixture(params=["api", "page"])
def url(request, row):
    if request.param == "api":
        return f"/v1/training/jobs/{row.job_id}/checkpoints/{row.pk}/download"
    return reverse("checkpoint-download", args=[row.job_id, row.pk])


def test_an_owner_is_sent_to_the_file(client, alice, row, url):
    client.force_login(alice)
    answer = client.get(url)
    assert answer.status_code == 302
    assert answer["Cache-Control"] == "private, no-store"
    assert 0 < int(parse_qs(urlsplit(answer["Location"]).query)["X-Amz-Expires"][0]) <= 300
    with urlopen(answer["Location"], timeout=20) as file:
        content = file.read()
        assert len(content) == row.size
        name = f"job-{row.job_id}-step-4-{row.digest[:12]}.safetensors"
        assert file.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    with urlopen(Request(answer["Location"], headers={"Range": "bytes=8-15"}), timeout=20) as part:
        assert part.read() == content[8:16]


def test_a_stranger_is_told_nothing(client, mallory, url):
    client.force_login(mallory)
    answer = client.get(url)
    assert answer.status_code == 404
    assert "Location" not in answer


def test_a_file_that_is_gone_and_a_store_that_is_away_are_told_here(client, alice, row, settings):
    client.force_login(alice)
    url = f"/v1/training/jobs/{row.job_id}/checkpoints/{row.pk}/download"
    checkpoints.leave_mark("of these tests")
    put(checkpoint_storage(), row.file.name, None)
    assert client.get(url).status_code == 410
    failing = Failing()
    try:
        failing.answer = (403, "AccessDenied")
        use_store(settings, s3_backend(failing.address))
        assert client.get(url).status_code == 503
    finally:
        failing.close()


def test_another_address_for_browsers_is_signed_for_that_address(client, alice, row, url, settings):
    options = settings.STORAGES["checkpoints"]["OPTIONS"] | {"public_endpoint": "https://files.example.org"}
    backend = settings.STORAGES["checkpoints"] | {"OPTIONS": options}
    settings.STORAGES = settings.STORAGES | {"checkpoints": backend}
    client.force_login(alice)
    assert client.get(url)["Location"].startswith("https://files.example.org/heimdall/t")


@pytest.mark.parametrize("s3_store", ["rclone"], indirect=True)  # moto looks at no signature
def test_an_address_gives_the_one_file_and_no_other(client, alice, row, attempt, tmp_path):
    client.force_login(alice)
    other = record(attempt, tmp_path / "staging", step=5, value=2.0)
    link = client.get(f"/v1/training/jobs/{row.job_id}/checkpoints/{row.pk}/download")["Location"]
    forged = link.replace(row.file.name.rpartition("/")[2], other.file.name.rpartition("/")[2])
    assert forged != link
    with pytest.raises(HTTPError) as refused:
        urlopen(forged, timeout=20).close()
    assert refused.value.code == 403
    refused.value.close()


def test_a_head_request_is_answered_here(client, alice, row):
    client.force_login(alice)
    answer = client.head(f"/v1/training/jobs/{row.job_id}/checkpoints/{row.pk}/download")
    assert (answer.status_code, answer["Content-Length"]) == (200, str(row.size))
