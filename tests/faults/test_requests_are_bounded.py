"""Too much at once is refused at the door: memory, bodies, and how often one may ask."""

from __future__ import annotations

import json
import re
import time
from ipaddress import ip_network

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.exceptions import ImproperlyConfigured

from heimdall.errors import InvalidConfig
from heimdall.recipes import registry
from heimdall.site import env
from heimdall.site.limits import bounded_bodies
from tests.support.tokens import token_of
from training import hardware, services
from training.models import TrainingJob
from training.presentation import throttles

BIG = {"width": 1024, "heads": 8, "layers": 16, "samples": 1_000_000, "batch_size": 60_000}


@pytest.fixture(autouse=True)
def _fresh_throttles():
    throttles.verbs.forget()
    throttles.logins.forget()


# Memory.


def test_a_config_that_no_memory_holds_is_refused_by_every_door(settings, client, alice):
    settings.MAX_JOB_MEMORY_GB = 2.0
    with pytest.raises(InvalidConfig, match=r"needs about .* GB .* 2\.0 GB is the limit"):
        services.submit(by=alice, job_name="bomb", recipe="localization", config=BIG)
    answer = client.post(
        "/v1/training/jobs",
        json.dumps({"job_name": "bomb", "recipe": "localization", "config": BIG}),
        content_type="application/json",
        headers={"Authorization": f"Token {token_of(alice)}"},
    )
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["config"]
    client.force_login(alice)
    choices = {k: v for k, v in registry.validate("localization", {}).items() if isinstance(v, str)}
    form = {f"config.{name}": value for name, value in (choices | BIG).items()}
    form |= {"job_name": "bomb", "priority": 0}
    page = client.post("/jobs/new/?recipe=localization", form)
    assert page.status_code == 400
    assert re.search(r"needs about .* GB .* 2\.0 GB is the limit", page.content.decode())
    assert not TrainingJob.objects.exists()


def test_the_defaults_of_the_shipped_recipes_fit_in_two_gigabytes(settings, alice):
    settings.MAX_JOB_MEMORY_GB = 2.0
    for recipe in ("language_model", "localization", "rf_dataset"):
        services.submit(by=alice, job_name=recipe, recipe=recipe, config={})


def test_the_limit_is_what_the_machine_has_unless_it_is_said(monkeypatch, settings, alice):
    assert 2**28 < hardware.memory_bytes() < 2**50
    assert settings.MAX_JOB_MEMORY_GB is None
    monkeypatch.setattr(hardware, "memory_bytes", lambda: 2**33)
    huge = BIG | {"batch_size": 65_536, "refinements": 8}
    with pytest.raises(InvalidConfig, match=r"8\.6 GB is the limit"):
        services.submit(by=alice, job_name="bomb", recipe="localization", config=huge)
    monkeypatch.setenv("HEIMDALL_MAX_JOB_MEMORY_GB", "80")
    assert env.gigabytes("HEIMDALL_MAX_JOB_MEMORY_GB") == 80.0
    monkeypatch.setenv("HEIMDALL_MAX_JOB_MEMORY_GB", "0")
    with pytest.raises(ImproperlyConfigured, match="HEIMDALL_MAX_JOB_MEMORY_GB=0"):
        env.gigabytes("HEIMDALL_MAX_JOB_MEMORY_GB")


# Bodies.


@pytest.mark.parametrize("body", [{}, {"config": {}}, {"config": {"inner": [{}, {}]}}])
def test_a_body_with_very_many_names_is_refused_by_their_number(client, alice, body):
    many = {f"field{number}": 1 for number in range(60_000)}
    text = json.dumps(body).replace("{}", json.dumps(many), 1)
    headers = {"Authorization": f"Token {token_of(alice)}"}
    started = time.process_time()
    answer = client.post("/v1/training/jobs", text, content_type="application/json", headers=headers)
    assert time.process_time() - started < 0.5
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The body holds more than 2,000 names of fields. Send fewer."


async def echo(scope, receive, send):
    message = await receive()
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


async def posted(chunks: list[bytes], *, declared: bytes | None = None, path: str = "/login/"):
    headers = [] if declared is None else [(b"content-length", declared)]
    talk = ApplicationCommunicator(bounded_bodies(echo), {"type": "http", "path": path, "headers": headers})
    for number, chunk in enumerate(chunks, start=1):
        await talk.send_input({"type": "http.request", "body": chunk, "more_body": number < len(chunks)})
    start, body = await talk.receive_output(10), await talk.receive_output(10)
    return start["status"], body["body"]


async def test_a_body_within_the_bound_arrives_whole(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert await posted([b"a" * 600, b"b" * 400], declared=b"1000") == (200, b"a" * 600 + b"b" * 400)
    assert await posted([b""]) == (200, b"")


@pytest.mark.parametrize("declared", [b"1001", b"9" * 400, b"-1", b"x", None])
async def test_a_body_that_is_too_large_is_413_whatever_its_length_says(settings, declared):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert (await posted([b"a" * 600, b"b" * 401], declared=declared))[0] == 413


async def test_the_api_says_it_in_its_own_shape(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    status, body = await posted([b"x"], declared=b"2000", path="/v1/training/jobs")
    assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")


def test_a_form_that_is_too_large_is_413(client, alice, settings):
    client.force_login(alice)
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert client.post("/jobs/new/", {"job_name": "x" * 2000}).status_code == 413


# How often.


@pytest.fixture
def twice_a_minute(settings):
    rates = {"DEFAULT_THROTTLE_RATES": {"verbs": "2/min", "login": "2/min"}}
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | rates


def test_verbs_of_pages_admin_and_api_count_together_and_reading_goes_on(
    client, admin_user, make_job, twice_a_minute
):
    job = make_job(status="running")
    client.force_login(admin_user)
    page, admin = f"/jobs/{job.pk}/pause/", f"/admin/training/trainingjob/{job.pk}/do/pause/"
    assert client.post(page).status_code == 302
    assert client.post(admin).status_code == 302
    for url in (page, admin, f"/jobs/{job.pk}/edit/", "/admin/training/trainingjob/", "/jobs/new/"):
        refused = client.post(url)
        assert (refused.status_code, refused["Retry-After"].isdigit()) == (429, True), url
    for url in (f"/jobs/{job.pk}/", page, "/admin/training/trainingjob/"):
        assert client.get(url).status_code == 200


def tries(client, *ways: str, sender: str = "127.0.0.1") -> list[int]:
    """Logins that came from `sender`, each with what stands in its X-Forwarded-For."""
    return [
        client.post("/login/", {}, REMOTE_ADDR=sender, HTTP_X_FORWARDED_FOR=way).status_code for way in ways
    ]


def test_without_a_proxy_the_address_is_the_senders_whatever_it_writes(client, db, twice_a_minute):
    assert tries(client, "10.0.0.1", "10.0.0.2", "10.0.0.3") == [200, 200, 429]


def test_behind_a_trusted_proxy_each_client_is_counted_alone(client, db, twice_a_minute, settings):
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1"), ip_network("192.168.7.0/24")]
    assert tries(client, "1.1.1.1, 9.9.9.9", "1.1.1.2, 9.9.9.9", "9.9.9.9") == [200, 200, 429]
    assert tries(client, "9.9.9.8", "9.9.9.7, 192.168.7.3") == [200, 200]  # through two proxies of ours
    assert tries(client, "9.9.9.9", sender="::ffff:127.0.0.1") == [429]
    throttles.logins.forget()
    # A stranger who comes past the proxy may write what he likes.
    assert tries(client, "9.9.9.1", "9.9.9.2", "9.9.9.3", sender="9.9.9.9") == [200, 200, 429]
    assert tries(client, "", "junk", sender="192.168.7.9") == [200, 200]


def test_trusted_proxies_are_addresses_or_networks(monkeypatch):
    monkeypatch.setenv("HEIMDALL_TRUSTED_PROXIES", "10.0.0.7, 192.168.0.0/16, ::1")
    assert [str(each) for each in env.networks("HEIMDALL_TRUSTED_PROXIES")] == [
        "10.0.0.7/32", "192.168.0.0/16", "::1/128"
    ]  # fmt: skip
    monkeypatch.setenv("HEIMDALL_TRUSTED_PROXIES", "10.0.0.7/8")
    with pytest.raises(ImproperlyConfigured, match=r"HEIMDALL_TRUSTED_PROXIES: '10\.0\.0\.7/8'"):
        env.networks("HEIMDALL_TRUSTED_PROXIES")
