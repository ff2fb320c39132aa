"""A real server and worker with a secret key, a token and passwords, told to log everything: none is written."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from pathlib import Path

import pytest

from tests.faults.test_log_lines_cannot_be_forged import LINE
from tests.support.running import Answer, Site, running

pytestmark = pytest.mark.processes
KEY = "the-secret-key-of-this-test-which-nobody-may-ever-read-in-a-log"
PASSWORD = "the password of this test, typed by a person"
FORGED = "12:00:00 INFO training: forged"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    with running(folder, HEIMDALL_SECRET_KEY=KEY, HEIMDALL_LOG_LEVEL="DEBUG") as site:
        site.add_superuser("anna", PASSWORD)
        yield site


def ask(
    site: Site, method: str, path: str, body: bytes | None = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request(method, path, body=body, headers=headers)
    answer = connection.getresponse()
    answer.text = answer.read().decode(errors="replace")  # type: ignore[attr-defined]
    connection.close()
    return answer


def log_in(site: Site, password: str) -> str:
    """The session's cookie, or nothing."""
    page = ask(site, "GET", "/login/")
    csrf = page.getheader("Set-Cookie").partition("heimdall_csrf=")[2].partition(";")[0]
    form = {"username": "anna", "password": password, "csrfmiddlewaretoken": csrf}
    kind = "application/x-www-form-urlencoded"
    cookie = {"Cookie": f"heimdall_csrf={csrf}", "Content-Type": kind}
    answer = ask(site, "POST", "/login/", urllib.parse.urlencode(form).encode(), **cookie)
    return (answer.getheader("Set-Cookie") or "").partition("heimdall_session=")[2].partition(";")[0]


def test_nothing_secret_is_written_and_no_line_is_forged(site, tmp_path):
    session = log_in(site, PASSWORD)
    assert session
    assert not log_in(site, PASSWORD + " but wrong")
    wrong = "f" * 40
    assert ask(site, "GET", "/v1/training/jobs", Authorization=f"Token {wrong}").status == 401
    hostile = urllib.parse.quote(f"/nowhere\r\n{FORGED}\n\x1b[2J")
    assert ask(site, "GET", hostile, Cookie=f"heimdall_session={session}").status == 404
    assert ask(site, "GET", "/", Host="evil\x1b[2J.example").status == 400
    assert ask(site, "POST", "/login/", f"password={PASSWORD}".encode()).status == 403
    with pytest.raises(Answer) as refused:
        site.submit(job_name=f"name\n{FORGED}")
    assert refused.value.status == 400

    job = site.submit(job_name="<script>alert(1)</script>", epochs=500, samples=320, step_seconds=0.05)
    site.wait_for_step(job, 1)
    trainer = site.the("heimdall trainer", f"job {job}")
    assert KEY not in " ".join(f"{name}={value}" for name, value in trainer.environ().items())
    site.verb(job, "cancel")
    site.wait_for_status(job, "cancelled")

    lines = site.log.rstrip("\n").split("\n")
    assert any("nowhere" in line for line in lines)  # refusals are logged
    for secret in (KEY, PASSWORD, site.token, session, wrong):
        assert not [line for line in lines if secret in line]
    assert not [line for line in lines if line.startswith(FORGED)]
    ours = [line for line in lines if line[:2].isdigit() or line.startswith("    | ")]
    assert ours
    assert all(LINE.fullmatch(line) for line in ours), [line for line in ours if not LINE.fullmatch(line)]


def test_a_body_without_end_fills_no_disk(site):
    """50 MB in chunks, with no length declared: refused, and not kept anywhere while it comes."""

    def chunks():
        for _ in range(50):
            kept.append(biggest_file_of(site.web.pid))
            yield b"x" * 2**20

    kept: list[int] = []
    assert (
        ask(site, "POST", "/v1/training/jobs", chunks(), **{"Content-Type": "application/json"}).status == 413
    )
    assert max(kept) < 3 * 2**20
    declared = {"Content-Length": str(10 * 2**20), "Content-Type": "multipart/form-data; boundary=x"}
    answer = ask(site, "POST", "/login/", b"x" * (10 * 2**20), **declared)
    assert (answer.status, "bytes" in answer.text) == (413, True)
    answer = ask(
        site, "POST", "/v1/training/jobs", b"x" * (2 * 2**20), **{"Content-Type": "application/json"}
    )
    assert (answer.status, json.loads(answer.text)["error"]["code"]) == (413, "too_large")


def biggest_file_of(pid: int) -> int:
    """The largest unnamed file that the process has open."""
    sizes = [0]
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "(deleted)" in str(handle.readlink()):
                sizes.append(handle.stat().st_size)
        except OSError:
            continue
    return max(sizes)
