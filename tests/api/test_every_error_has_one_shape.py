"""Every refusal is {"error": {"code", "message", ...}}, whatever was wrong and wherever."""

import json

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection
from django.test import Client
from rest_framework.test import APIClient

from heimdall.site import env
from training import fields
from training.presentation import throttles


def error_of(answer, status):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    assert body["error"]["code"]
    assert body["error"]["message"].endswith((".", "?")) or "fields" in body["error"]
    return body["error"]


def test_without_a_login_and_with_a_wrong_token_it_is_401(client_of):
    for headers in ({}, {"HTTP_AUTHORIZATION": "Token wrong"}, {"HTTP_AUTHORIZATION": "Token \xe4"}):
        for url in ("/v1/training/jobs", "/v1/training/jobs/1", "/v1/training/recipes"):
            answer = Client().get(url, **headers)
            assert error_of(answer, 401)["code"] == "not_authenticated"
            assert answer["WWW-Authenticate"] == "Bearer"


def test_a_session_needs_the_csrf_token_to_change_something(make_job, alice):
    job = make_job(status="running")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(alice)
    url = f"/v1/training/jobs/{job.pk}/pause"
    assert error_of(browser.post(url), 403)["code"] == "not_allowed"
    browser.cookies["heimdall_csrf"] = "a" * 32
    signed = {"X-CSRFToken": "a" * 32}
    error_of(browser.post(url, headers=signed), 415)  # a form
    assert browser.post(url, content_type="application/json", headers=signed).status_code == 202


def test_what_one_cannot_see_does_not_exist(client_of, make_job, mallory):
    job = make_job(status="completed")
    stranger = client_of(mallory)
    for path in (
        "",
        "/metrics",
        "/events",
        "/logs",
        "/checkpoints",
        "/checkpoints/1",
        "/checkpoints/1/download",
    ):
        seen = stranger.get(f"/v1/training/jobs/{job.pk}{path}").json()
        unseen = stranger.get(f"/v1/training/jobs/{job.pk + 1000}{path}").json()
        assert seen == json.loads(json.dumps(unseen).replace(str(job.pk + 1000), str(job.pk)))
    assert error_of(stranger.delete(f"/v1/training/jobs/{job.pk}"), 404)["code"] == "not_found"
    assert stranger.get("/v1/training/jobs").json()["count"] == 0


@pytest.mark.parametrize(
    "path", ["x", "x/", "training", "training/jobs/x/", "training/jobs/x", "training/jobs/-1", "docs"]
)
def test_an_address_that_is_not_there_is_404(api, path):
    assert error_of(api.get(f"/v1/{path}"), 404)["code"] == "not_found"


def test_a_method_that_is_not_there_is_405_for_everybody(api, make_job):
    job = make_job()
    for client in (api, Client()):
        for method in ("put", "delete", "trace"):
            answer = getattr(client, method)("/v1/training/jobs")
            error_of(answer, 405)
            assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"
        error_of(client.get(f"/v1/training/jobs/{job.pk}/pause"), 405)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400),
        (b'"x"', 400),
        (b"null", 400),
        (b"5", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"a": NaN}', 400),
        (b'{"at": "step", "at": "epoch"}', 400),
        (b'{"a": "\\u0000"}', 400),
        (b'{"a\\u0000": 1}', 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"a": ' + b"9" * 5000 + b"}", 400),
        (b'{"a": 1e999}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 500 + b"1" + b"}" * 500, 400),
        (b'{"job_name": "' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
@pytest.mark.parametrize("login", ["token", "session"])
def test_a_body_that_cannot_be_read_is_refused(api, alice, make_job, body, status, login):
    job = make_job(status="running")
    if login == "session":
        api = APIClient(enforce_csrf_checks=True)
        api.force_login(alice)
        api.cookies["heimdall_csrf"] = "a" * 32
        api.credentials(HTTP_X_CSRFTOKEN="a" * 32)
    for url in ("/v1/training/jobs", f"/v1/training/jobs/{job.pk}/pause"):
        error_of(api.post(url, body, content_type="application/json"), status)
    error_of(api.patch(f"/v1/training/jobs/{job.pk}", body, content_type="application/json"), status)
    job.refresh_from_db()
    assert job.stop == ""


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "*/*", "x"]
)
def test_a_body_that_is_no_json_is_415(api, make_job, kind):
    job = make_job(status="running")
    answer = api.post(f"/v1/training/jobs/{job.pk}/pause", b'{"at": "step"}', content_type=kind)
    assert error_of(answer, 415)["message"] == f"Send the body as application/json, not as {kind}."


def test_an_empty_body_is_no_body_whatever_its_type(api, make_job):
    job = make_job(status="running")
    assert api.post(f"/v1/training/jobs/{job.pk}/pause", b"", content_type="text/plain").status_code == 202


def test_json_is_answered_whatever_is_accepted(api):
    for wanted in ("text/html", "application/xml", "*/*", "x"):
        assert api.get("/v1/training/recipes", HTTP_ACCEPT=wanted)["Content-Type"] == "application/json"


def test_head_and_options_work(api, make_job):
    job = make_job()
    head = api.head(f"/v1/training/jobs/{job.pk}")
    assert (head.status_code, head.content) == (200, b"")
    assert api.options(f"/v1/training/jobs/{job.pk}")["Allow"] == "GET, PATCH, DELETE, HEAD, OPTIONS"


@pytest.mark.parametrize("number", ["0", str(2**31), str(2**63 - 1), str(2**63), "9" * 30, "9" * 5000])
def test_no_number_of_a_job_is_too_big(api, number):
    for path in ("", "/metrics", "/checkpoints", f"/checkpoints/{number}"):
        error_of(api.get(f"/v1/training/jobs/{number}{path}"), 404)
    error_of(api.post(f"/v1/training/jobs/{number}/pause"), 404)


def test_too_many_verbs_are_429_and_reading_goes_on(api, client_of, bob, make_job, settings):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {
        "DEFAULT_THROTTLE_RATES": {"verbs": "3/min", "login": "2/min"}
    }
    job = make_job(status="paused")
    url = f"/v1/training/jobs/{job.pk}"
    for _ in range(3):
        assert api.post(f"{url}/pause").status_code == 200
    answer = api.post(f"{url}/pause")
    assert error_of(answer, 429)["code"] == "throttled"
    assert 1 <= int(answer["Retry-After"]) <= 60
    assert api.get(url).status_code == 200
    assert client_of(bob).post(f"{url}/pause").status_code == 200  # each user has an own count


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", "The database is unavailable"),
        ("/admin/", "The database is unavailable"),
        ("/v1/training/jobs", '"code":"database_unavailable"'),
    ],
)
def test_a_database_that_is_away_is_503_through_every_door(admin_user, path, said):
    def away(*_: object) -> None:
        raise OperationalError("the server has said nothing for 62 s")

    client = Client(raise_request_exception=False)
    client.force_login(admin_user)
    with connection.execute_wrapper(away):
        answer = client.get(path)
    assert answer.status_code == 503
    assert said in answer.content.decode().replace('": "', '":"')
    assert int(answer["Retry-After"]) > 0


@pytest.mark.parametrize("url", ["/login/", "/admin/login/"])
def test_too_many_passwords_are_429(db, settings, url):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {
        "DEFAULT_THROTTLE_RATES": {"verbs": "3/min", "login": "2/min"}
    }
    guess = {"username": "root", "password": "guess"}
    answers = [Client().post(url, guess).status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert Client().get(url).status_code == 200


def test_a_rate_is_a_sliding_window():
    window = throttles.Window()
    rate = env.parse_rate("2/hour")
    assert rate == (2, 3600.0)
    assert [window.take("a", rate) > 0 for _ in range(3)] == [False, False, True]
    assert window.take("b", rate) == 0.0
    assert window.take("a", (2, 0.0)) == 0.0  # what is older than the period does not count


@pytest.mark.parametrize("bad", ["600", "0/min", "x/min", "5/week", "-1/s", "1.5/h"])
def test_a_bad_rate_stops_the_start_and_names_its_variable(monkeypatch, bad):
    monkeypatch.setenv("HEIMDALL_VERB_RATE", bad)
    with pytest.raises(ImproperlyConfigured, match="HEIMDALL_VERB_RATE="):
        env.rate("HEIMDALL_VERB_RATE", "600/min")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"epochs": 0}}, "epochs must be a whole number from 1 to 100000, not 0."),
        ({"config": {"epoch": 1}}, "epoch is not a field of this recipe; did you mean epochs?"),
        ({"priority": 1000}, "priority: Give a whole number from -100 to 100."),
        ({"tags": ["Not one"]}, f"tags.0: This is not a tag; {fields.TAG_RULE}"),
    ],
)
def test_a_field_is_named_once_and_with_the_remedy(api, change, message):
    answer = api.post("/v1/training/jobs", {"job_name": "a", "recipe": "tiny"} | change, format="json")
    assert error_of(answer, 400)["message"] == message
