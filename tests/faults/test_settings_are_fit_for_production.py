"""Django's own check of a deployment finds nothing, and every answer carries the Content-Security-Policy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from heimdall.site.middleware import policy_for
from tests.services.test_races_have_one_winner import at_once
from tests.support import postgres

ROOT = Path(__file__).parents[2]
PRODUCTION = {
    "HEIMDALL_HTTPS": "1",
    "HEIMDALL_SECRET_KEY": "a-key-of-fifty-letters-or-more-for-this-test-alone-1234567890",
    "HEIMDALL_ALLOWED_HOSTS": "gpu.example.org",
    "HEIMDALL_TRUSTED_ORIGINS": "https://gpu.example.org",
}


@pytest.mark.parametrize(
    "extra", [{}, {"HEIMDALL_SECRET_KEY": ""}], ids=["a key that was given", "one that was made"]
)
def test_check_deploy_has_no_warning(tmp_path, extra):
    database = {"DATABASE_URL": postgres.server().url("postgres")} if postgres.IS_DEFAULT else {}
    environment = os.environ | PRODUCTION | {"HEIMDALL_DATA_DIR": str(tmp_path)} | database | extra
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_a_secret_key_that_was_made_is_its_owners_alone(tmp_path):
    from heimdall.site import env

    first = env.secret_in_file(tmp_path / "secret-key")
    assert len(first) >= 50
    assert (tmp_path / "secret-key").stat().st_mode & 0o777 == 0o600
    assert env.secret_in_file(tmp_path / "secret-key") == first


def test_who_starts_at_the_same_time_finds_the_same_whole_secret(tmp_path):
    from heimdall.site import env

    for number in range(20):
        path = tmp_path / f"secret-key-{number}"
        found = at_once(*[lambda path=path: env.secret_in_file(path)] * 4)
        assert len(set(found)) == 1
        assert len(found[0]) >= 50
    assert len(list(tmp_path.iterdir())) == 20


def test_a_full_disk_leaves_no_empty_secret_behind(tmp_path, monkeypatch):
    from heimdall.site import env

    def refuse(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(env.secrets, "token_urlsafe", refuse)
        with pytest.raises(OSError, match="No space left"):
            env.secret_in_file(tmp_path / "secret-key")
    assert len(env.secret_in_file(tmp_path / "secret-key")) >= 50


@pytest.fixture
def answers(admin_user, make_job):
    job = make_job(status="running")
    client = Client(enforce_csrf_checks=True)
    stranger = Client()
    client.force_login(admin_user)
    urls = ["/", f"/jobs/{job.pk}/", "/jobs/new/", "/settings/notifications/",
            "/settings/notifications/new/", "/nowhere", "/jobs/99999/", "/login", "/login/", "/healthz",
            "/v1/docs/", "/v1/docs/?script", "/v1/training/jobs", "/v1/nowhere", "/static/heimdall/app.css",
            "/admin/", "/admin/training/trainingjob/", "/admin/nowhere/", "/favicon.ico"]  # fmt: skip
    found = [(url, client.get(url)) for url in urls]
    found += [(url, stranger.get(url)) for url in ("/", "/login/", "/admin/", "/admin/login/")]
    found += [
        ("no csrf token", client.post(f"/jobs/{job.pk}/pause/")),
        ("bad host", client.get("/", HTTP_HOST="evil")),
    ]
    yield found
    for _, response in found:
        response.close()  # static files are streamed


def test_every_answer_carries_the_policy(answers):
    assert {response.status_code for _, response in answers} >= {200, 301, 302, 400, 403, 404}
    for name, response in answers:
        policy = dict(rule.split(" ", 1) for rule in response["Content-Security-Policy"].split("; "))
        path = response.wsgi_request.path
        assert response["Content-Security-Policy"] == policy_for(path), name
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["connect-src"] == policy["form-action"] == "'self'"
        admin = path.startswith("/admin/")
        assert policy["script-src"] == ("'self' 'unsafe-eval'" if admin else "'self'")
        assert policy["style-src"] == ("'self' 'unsafe-inline'" if admin else "'self'")


def test_nobody_between_server_and_browser_keeps_an_answer(answers):
    for name, response in answers:
        path, said = response.wsgi_request.path, response["Cache-Control"]
        if path.startswith("/static/") and response.status_code == 200:
            assert "public" in said, name
        elif path.startswith("/v1/"):
            assert said == "private, no-store", name
        else:
            assert "private" in said, name


@pytest.mark.parametrize(
    "path", ["/jobs/download/", "/compare/?jobs={job}&format=csv", "/jobs/{job}/metrics/"]
)
def test_a_download_is_kept_nowhere(client, alice, make_job, path):
    client.force_login(alice)
    other = make_job()
    answer = client.get(path.format(job=f"{make_job().pk},{other.pk}" if "jobs=" in path else other.pk))
    assert (answer.status_code, answer["Cache-Control"]) == (200, "private, no-store")


def test_pages_need_nothing_that_the_policy_forbids(answers):
    pages = {
        name: response.content.decode()
        for name, response in answers
        if not name.startswith("/admin") and "html" in response.get("Content-Type", "")
    }
    assert len(pages) >= 5
    for name, page in pages.items():
        assert " style=" not in page, name
        assert "<style" not in page, name
        assert "<script>" not in page, name
        assert " onclick=" not in page, name


def test_the_browser_asks_for_a_favicon_and_gets_one(client, db):
    answer = client.get("/favicon.ico")
    assert (answer.status_code, answer["Location"]) == (301, "/static/heimdall/favicon.svg")
    picture = client.get(answer["Location"])
    assert (picture.status_code, picture["Content-Type"]) == (200, "image/svg+xml")
    picture.close()
