"""A proxy with HTTPS and a path, a kill under `logs -f` and `watch`, a keyring, a bucket, many jobs, shells."""

import io
import json
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from heimdall import Client
from heimdall.client import profiles
from heimdall.client.command import exits
from heimdall.client.command.main import main
from heimdall.client.errors import CertificateRefused, DownloadBroken, LoginRequired
from tests.support.running import PATIENCE, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
COMMAND = [sys.executable, "-m", "heimdall.client.command.main"]


@pytest.fixture
def heimdall(capsys):
    """Runs the command in this process: exit code and standard output."""

    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        return int(end.value.code or 0), capsys.readouterr().out

    return run


# nginx.

CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    map $http_upgrade $kept {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
        location /lab/ {{
            proxy_pass http://127.0.0.1:{target}/;
            proxy_http_version 1.1; proxy_read_timeout 120s;
            proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $kept;
        }}
    }}
}}
"""


@pytest.fixture
def proxied(site, tmp_path):
    """The address of the site behind nginx, and the certificate that it shows."""
    if NGINX is None:
        pytest.skip("there is no nginx on this machine")
    folder, port = tmp_path / "nginx", free_port()
    folder.mkdir(mode=0o755)
    certificate = folder / "certificate.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    words += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(folder / "key.pem"),
        "-out",
        str(certificate),
    ]
    subprocess.run(words, check=True, capture_output=True)
    written = folder / "nginx.conf"
    written.write_text(CONFIGURATION.format(folder=folder, port=port, target=site.port))
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(written)], stderr=subprocess.DEVNULL)
    try:
        _wait_for_https(port, certificate, process)
        yield f"https://127.0.0.1:{port}/lab", certificate
    finally:
        process.terminate()
        process.wait()


def _wait_for_https(port: int, certificate, process) -> None:
    import socket

    context = ssl.create_default_context(cafile=str(certificate))
    for _ in range(int(200 * PATIENCE)):
        assert process.poll() is None, "nginx ended"
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 1) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1"),
            ):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nginx does not answer")


@pytest.mark.processes
def test_all_goes_through_nginx_with_https_below_a_path(site, proxied, heimdall, tmp_path):
    url, certificate = proxied
    with Client(url, token=site.token) as stranger, pytest.raises(CertificateRefused):
        stranger.me()
    code, _ = heimdall("login", url, "--token", site.token, "--certificates", certificate)
    assert code == 0
    name = "naïve 🚀 wave"
    settings = ("--set", "device=cpu", "--set", "epochs=2")
    code, out = heimdall("submit", "tiny", "--name", name, *settings, "--wait", "--json")
    assert code == 0, out
    number = json.loads(out.splitlines()[0])["id"]
    assert name in heimdall("ls", "-n", 1)[1]
    assert heimdall("logs", "-f", number)[0] == 0
    assert heimdall("watch", number)[0] == 0
    code, out = heimdall(
        "get", number, "--checkpoint", "final", "--output", tmp_path / "x.safetensors", "--json"
    )
    assert (code, (tmp_path / "x.safetensors").exists()) == (0, True)
    with Client(url, token=site.token, certificates=str(certificate)) as client:
        job = client.job(number)
        steps = [update.data["step"] for update in job.follow(from_start=True, kinds=["step"])]
        assert steps == [row["step"] for row in job.metrics()]
        assert job.url == f"{url}/jobs/{number}/"
        full = tmp_path / "full" / "y.safetensors"
        full.parent.mkdir()
        digest = job.checkpoints["final"].fields.digest
        full.with_name(f".{full.name}.{digest[:16]}.part").symlink_to(
            "/dev/full"
        )  # every write: no space left
        with pytest.raises(DownloadBroken, match="no room left"):
            job.checkpoints["final"].download(full)
        assert list(full.parent.iterdir()) == []


# A kill of the server under commands that follow.


COUNTER = """
import time

for step in range(1, 81):
    print(f"step={step} loss={1 / step}", flush=True)
    time.sleep(0.05)
"""


@pytest.mark.processes
def test_logs_and_watch_lose_nothing_and_repeat_nothing_when_the_server_is_killed(
    site, client, logged_in, tmp_path
):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "count.py").write_text(COUNTER)
    pattern = r"step=(?P<step>\d+) loss=(?P<loss>\S+)"
    job = client.submit_program(
        ["python", "count.py"], folder=tmp_path / "code", program={"metric_patterns": [pattern]}
    )
    job.wait(until=["running", "failed"], timeout=90)
    assert job.status == "running", job.fields.error_message
    log, watched = tmp_path / "log", tmp_path / "watched"
    with open(log, "w") as to_log, open(watched, "w") as to_watched:
        following = subprocess.Popen([*COMMAND, "logs", "-f", str(job.id)], stdout=to_log)
        watching = subprocess.Popen([*COMMAND, "watch", str(job.id), "--json"], stdout=to_watched)
        while "step=5 " not in log.read_text() or '"step"' not in watched.read_text():
            assert following.poll() is None
            time.sleep(0.05)
        site.web.kill()
        site.web.wait()
        site.start_web()
        assert (following.wait(timeout=60 * PATIENCE), watching.wait(timeout=60 * PATIENCE)) == (0, 0)
    assert log.read_text() == "".join(f"step={step} loss={1 / step}\n" for step in range(1, 81))
    updates = [json.loads(line) for line in watched.read_text().splitlines()]
    steps = [one["data"]["step"] for one in updates if one["kind"] == "step"]
    assert steps == list(range(steps[0], 81))


# A keyring.


def test_a_token_lies_in_the_keyring_and_not_in_the_file(tmp_path, monkeypatch):
    keyring = pytest.importorskip("keyring")
    backend = pytest.importorskip("keyrings.alt.file").PlaintextKeyring()
    monkeypatch.setattr(type(backend), "file_path", str(tmp_path / "keyring.cfg"))
    monkeypatch.setenv("HEIMDALL_KEYRING", "1")
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        token = "heimdall_" + "7" * 48
        assert profiles.keep(profiles.Profile("https://gpu.example.org", token)).in_keyring
        assert token not in profiles.file().read_text()
        assert profiles.chosen().token == token
        backend.delete_password(profiles.SERVICE, "default")
        with pytest.raises(LoginRequired, match="not in this machine's keyring any more"):
            profiles.chosen()
        profiles.forget("default")
        monkeypatch.setattr(type(backend), "set_password", _locked)
        assert not profiles.keep(profiles.Profile("https://gpu.example.org", token)).in_keyring
        assert profiles.chosen().token == token
    finally:
        keyring.set_keyring(before)


def _locked(*_: object) -> None:
    raise RuntimeError("the keyring is locked")


# A bucket that a download leads to, and many jobs.


class Answers(BaseHTTPRequestHandler):
    """What the tests say of each path, and what was asked."""

    asked: list[tuple[str, dict[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers)))
        status, headers, body = self.answer(urlsplit(self.path))
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answer(self, address):
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(kind: type[Answers]):
    kind.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_token_does_not_go_along_to_a_bucket():
    class Bucket(Answers):
        def answer(self, address):
            return 206, {}, b"rest"

    with served(Bucket) as bucket:

        class LeadsToBucket(Answers):
            def answer(self, address):
                return 302, {"Location": f"{bucket}/checkpoint?signature=1"}, b""

        with served(LeadsToBucket) as url, Client(url, token="a" * 40) as client:
            answer = client.server.stream("/v1/training/jobs/1/checkpoints/1/download", {"Range": "bytes=7-"})
            assert (answer.status_code, answer.read()) == (206, b"rest")
            assert LeadsToBucket.asked[0][1]["Authorization"] == "Bearer " + "a" * 40
    path, headers = Bucket.asked[0]
    assert (path, headers["Range"], "Authorization" in headers) == (
        "/checkpoint?signature=1",
        "bytes=7-",
        False,
    )


def test_ten_thousand_jobs_are_listed_page_by_page(heimdall, monkeypatch):
    row = {"id": 1, "headline": "completed", "progress_percent": 100.0, "current_epoch": 1, "total_epochs": 1}
    row |= {"train_loss": 0.5, "owner": "anna", "job_name": "wave", "status": "completed"}

    class Many(Answers):
        def answer(self, address):
            begin = int(parse_qs(address.query).get("cursor", ["0"])[0])
            rows = [row | {"id": 10_000 - number} for number in range(begin, begin + 200)]
            following = (
                f"http://elsewhere/?page_size=200&cursor={begin + 200}" if begin + 200 < 10_000 else None
            )
            body = json.dumps({"count": 10_000, "next": following, "results": rows}).encode()
            return 200, {"Content-Type": "application/json"}, body

    with served(Many) as url:
        monkeypatch.setenv("HEIMDALL_SERVER", url)
        monkeypatch.setenv("HEIMDALL_TOKEN", "a" * 40)
        began = time.monotonic()
        code, out = heimdall("ls", "-n", 10_000)
        assert time.monotonic() - began < 10 * PATIENCE
    numbers = [int(line.split()[0]) for line in out.splitlines()[1:]]
    assert (code, numbers) == (0, list(range(10_000, 0, -1)))
    assert len(Many.asked) == 50


# Shells.

SHELLS = {
    "bash": {"COMP_WORDS": "heimdall pa", "COMP_CWORD": "1"},
    "zsh": {"_TYPER_COMPLETE_ARGS": "heimdall pa"},
    "fish": {"_TYPER_COMPLETE_ARGS": "heimdall pa", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}


@pytest.mark.parametrize("shell", SHELLS)
def test_words_are_completed_in_three_shells(heimdall, monkeypatch, shell):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    for name, value in SHELLS[shell].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_HEIMDALL_COMPLETE", f"complete_{shell}")
    heimdall()
    found = sys.stdout.getvalue()
    assert "pause" in found
    assert "submit" not in found
    monkeypatch.setenv("_HEIMDALL_COMPLETE", f"source_{shell}")
    heimdall()
    assert f"complete_{shell}" in sys.stdout.getvalue()


def test_the_exit_codes_are_those_of_the_documentation():
    from tests.support.running import ROOT

    table = (ROOT / "docs" / "client.md").read_text().partition("| exit code | |")[2].partition("\n\n")[0]
    written = {
        int(code) for line in table.splitlines()[2:] for code in re.findall(r"\d+", line.split("|")[1])
    }
    known = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert written == known | {0}
