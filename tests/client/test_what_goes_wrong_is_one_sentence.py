"""No server, a foreign page, a certificate, an older server, broken downloads, a full disk, a wrong token, a kill."""

import errno
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from heimdall import Client, codec
from heimdall.client import answers, partial_files, profiles, security, shapes
from heimdall.client.command import exits
from heimdall.client.command.main import main
from heimdall.client.errors import (
    CertificateRefused,
    DownloadBroken,
    LoginRequired,
    NotHeimdall,
    OlderServer,
    ProfileUnknown,
    ServerUnreachable,
)
from heimdall.errors import InvalidInput
from tests.support.proxy import path_proxy
from tests.support.running import free_port, running

pytestmark = pytest.mark.processes


class Pages(BaseHTTPRequestHandler):
    """Whatever is asked: the page of a proxy's login, or an address that an older server does not know."""

    said = b""

    def do_GET(self) -> None:
        if self.said:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(self.said)
            return
        is_old = self.path.startswith("/v1/me")
        body = (
            b'{"error": {"code": "not_found", "message": "There is nothing at /v1/me."}}'
            if is_old
            else b"<html>"
        )
        self.send_response(404 if is_old else 200)
        self.send_header("Content-Type", "application/json" if is_old else "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def pages(context: ssl.SSLContext | None = None):
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_nobody_answers():
    with Client(f"http://127.0.0.1:{free_port()}", token="x") as client:
        with pytest.raises(ServerUnreachable, match="does not answer") as away:
            client.me()
        assert exits.code_of(away.value) == exits.UNREACHABLE


def test_a_page_of_a_proxy_is_not_heimdall_and_an_older_server_says_so():
    with pages() as url, Client(url, token="x") as client:
        with pytest.raises(NotHeimdall, match="text/html"):
            next(iter(client.jobs()))
        with pytest.raises(OlderServer, match="older than this client"):
            client.me()


def test_a_certificate_of_ones_own_is_refused_until_it_is_named(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with pages(context) as url:
        with Client(url, token="x") as client, pytest.raises(CertificateRefused, match="--certificates"):
            client.about()
        with Client(url, token="x", certificates=str(certificate)) as client, pytest.raises(NotHeimdall):
            client.about()
        with Client(url.replace("https", "http"), token="x") as client, pytest.raises(ServerUnreachable):
            client.about()
    with pytest.raises(InvalidInput, match="no certificates"):
        security.context_for(profiles.Profile("https://x", certificates=str(key)))


def test_a_wrong_token_ends_a_request_and_a_socket(site, client):
    job = client.submit("tiny", device="cpu", pool="nowhere")
    with Client(site.url, token="heimdall_" + "0" * 48) as stranger:
        with pytest.raises(LoginRequired):
            stranger.job(job.id)
        stolen = type(job)(stranger.server, job.fields.raw)
        with pytest.raises(LoginRequired):
            next(stolen.follow())
    job.cancel()


def test_a_download_goes_on_where_it_broke_and_what_is_damaged_does_not_stay(client, tmp_path):
    job = client.submit("tiny", device="cpu", epochs=1).wait(timeout=90)
    checkpoint = job.checkpoints["final"]
    whole = checkpoint.download(tmp_path / "whole.safetensors").read_bytes()
    target = tmp_path / "again.safetensors"
    part = target.with_name(f".{target.name}.{checkpoint.fields.digest[:16]}.part")
    part.write_bytes(whole[: len(whole) // 2])
    assert checkpoint.download(target).read_bytes() == whole
    assert not part.exists()

    target.unlink()
    part.write_bytes(b"\0" * (len(whole) // 2))  # damaged, and not noticed until it is whole
    with pytest.raises(DownloadBroken, match="removed"):
        checkpoint.download(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole.safetensors"]
    assert codec.verify(checkpoint.download(target)).digest == checkpoint.fields.digest
    with pytest.raises(DownloadBroken, match="cannot be written"):
        checkpoint.download(tmp_path / "no" / "such" / "folder" / "x")


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    part = tmp_path / ".x.part"
    part.write_bytes(b"half")
    assert "no room" in str(partial_files.not_written(OSError(errno.ENOSPC, "No space left on device"), part))
    assert not part.exists()


def test_nothing_is_lost_and_nothing_comes_twice_when_the_server_is_killed(site, client):
    job = client.submit("tiny", device="cpu", epochs=4, step_seconds=0.1)
    job.wait(until=["running"], timeout=90)
    steps, events = [], []
    for update in job.follow(from_start=True):
        if update.kind == "step":
            steps.append(update.data["step"])
        if update.kind == "event":
            events.append(update.data["seq"])
        if steps and len(steps) >= 3 and site.web is not None:
            site.web.kill()
            site.web.wait()
            site.web = None
            site.start_web()
            restarted, site.web = site.web, None  # so that it is killed once
    site.web = restarted
    assert job.status == "completed"
    assert steps == list(range(1, job.fields.current_step + 1))
    assert events == list(range(1, job.fields.event_seq + 1))


def test_addresses_and_profiles_are_read_as_people_write_them():
    assert profiles.clean_url("gpu.example.org/") == "https://gpu.example.org"
    assert profiles.clean_url("localhost:8000") == "http://localhost:8000"
    assert profiles.clean_url("https://example.org/heimdall/v1/training") == "https://example.org/heimdall"
    for bad in ("ftp://x", "https://user:secret@x", "https://", "http://x:99999"):
        with pytest.raises(InvalidInput):
            profiles.clean_url(bad)
    profiles.folder().mkdir(parents=True)
    profiles.file().write_text("{")
    with pytest.raises(ProfileUnknown, match="log in again"):
        profiles.chosen()


@pytest.mark.parametrize(
    "bad", ["https://user:secret@gpu.example.org", "user:secret@gpu", "https://[::1", "x y@z"]
)
def test_an_address_that_is_none_is_refused_without_its_password(bad):
    with pytest.raises(InvalidInput) as refused:
        profiles.clean_url(bad)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "token", ["heimdall_abc\ndef", "heimdall_abc def", "heimdall_\u00e4bc", "heimdall_abc\r"]
)
def test_a_token_that_no_header_carries_is_refused_and_not_printed(monkeypatch, token):
    with pytest.raises(LoginRequired, match="look at HEIMDALL_TOKEN") as refused:
        Client("http://127.0.0.1:1", token=token)
    assert "bc" not in str(refused.value)
    monkeypatch.setenv("HEIMDALL_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("HEIMDALL_TOKEN", "heimdall_abc\r\n")  # as a file with one line gives it
    assert profiles.chosen().token == "heimdall_abc"


@pytest.mark.parametrize(
    "told",
    [
        {"job": "1/../../x"},
        {"step": "../../x"},
        {"digest": "../../../etc/x" + "0" * 50},
        {"size": "9"},
        {"id": -1},
    ],
)
def test_what_a_server_says_of_a_checkpoint_leads_its_file_nowhere_else(tmp_path, told):
    said = {"id": 1, "job": 1, "step": 5, "size": 9, "digest": "0" * 64}
    fields = shapes.CheckpointFields.of(said)
    assert partial_files.target(fields, tmp_path) == tmp_path / "job-1-step-5.safetensors"
    with pytest.raises(NotHeimdall, match="nothing is downloaded"):
        partial_files.target(shapes.CheckpointFields.of(said | told), tmp_path)


@pytest.mark.parametrize(
    "said", [b"null", b"[1]", b"{}", b'{"results": [1], "next": null}', b'{"id": "1/../2"}']
)
def test_another_program_that_speaks_json_is_not_taken_for_heimdall(monkeypatch, said):
    monkeypatch.setattr(Pages, "said", said)
    with pages() as url, Client(url, token="x") as client:
        for ask in (lambda: client.job(1), lambda: list(client.jobs()), client.nodes, client.me):
            with pytest.raises(NotHeimdall):
                ask()


def test_an_answer_that_lacks_what_a_command_shows_or_never_ends_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(Pages, "said", b'{"id": 1, "name": "x", "schema": {}, "results": [{"name": "n"}]}')
    with pages() as url:
        monkeypatch.setenv("HEIMDALL_SERVER", url)
        monkeypatch.setenv("HEIMDALL_TOKEN", "x")
        for words, lacking in ((["recipes", "x"], "has no 'properties'"), (["nodes"], "has no 'state'")):
            with pytest.raises(SystemExit) as ended:
                main(words)
            said = capsys.readouterr().err
            assert (ended.value.code, said.count("\n")) == (exits.UNREACHABLE, 1), said
            assert lacking in said
        monkeypatch.setattr(answers, "MOST_BYTES", 50)
        with Client(url, token="x") as client, pytest.raises(NotHeimdall, match="more than"):
            client.about()


def test_the_host_of_a_next_page_is_not_trusted():
    assert answers.query_of(
        "http://elsewhere/v1/training/jobs?cursor=a%3D&where=config.a%3C1&where=config.b%3D2"
    ) == {
        "cursor": ["a="],
        "where": ["config.a<1", "config.b=2"],
    }


def test_a_server_below_a_path_is_asked_there_alone(tmp_path):
    with path_proxy("/lab/heimdall", strips=True) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/lab/heimdall"
        with running(tmp_path, worker=False, HEIMDALL_URL=url) as site:
            proxy.target = site.port
            with Client(url, token=site.token) as client:
                jobs = [client.submit("tiny", device="cpu", epochs=1) for _ in range(3)]
                assert [row["id"] for row in client.server.pages("/v1/training/jobs", {"page_size": 1})] == [
                    3,
                    2,
                    1,
                ]
                followed = jobs[0].follow(kinds=["job"])
                assert next(followed).data["status"] == "queued"
                jobs[0].cancel()
                assert [update.data["status"] for update in followed][-1] == "cancelled"
                assert client.about()["training"] == f"{url}/v1/training"
                assert jobs[0].url == f"{url}/jobs/1/"
        assert proxy.refused == []
