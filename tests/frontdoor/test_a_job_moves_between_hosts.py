"""PostgreSQL, S3 and Redis, a web server and two workers as two hosts: everything that production is made of.

The database is the only thing that the hosts share beside the bucket and Redis; each has a data folder of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import signal
from dataclasses import dataclass, field
from subprocess import Popen
from urllib.request import urlopen

import pytest
import websockets

from tests.live.server import Client
from tests.storage.servers import BUCKET, CREDENTIALS, Wire, rclone
from tests.support import postgres
from tests.support.redis_server import RedisServer
from tests.support.running import PATIENCE, Site, running

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(bool(postgres.why_absent()), reason=postgres.why_absent()),
]
CONFIG = {"epochs": 3, "samples": 160, "step_seconds": 0.08, "ema_decay": 0.9, "warmup_epochs": 1, "seed": 7}


@dataclass
class Production:
    site: Site
    wire: Wire  # to the bucket
    hosts: dict[str, Popen[bytes]] = field(default_factory=dict)

    def host(self, name: str) -> Popen[bytes]:
        """The worker of this host, started where it does not run."""
        if name not in self.hosts:
            folder = str(self.site.data.with_name(name))
            self.hosts[name] = self.site.start("worker", HEIMDALL_NODE_NAME=name, HEIMDALL_DATA_DIR=folder)
        return self.hosts[name]

    def hosts_of(self, job: int) -> list[str]:
        query = "select node_name from training_attempt where job_id=? order by number"
        return [row["node_name"] for row in self.site.rows(query, job)]


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    folder = tmp_path_factory.mktemp("production")
    (folder / "s3" / BUCKET).mkdir(parents=True)
    redis = RedisServer(folder)
    with rclone(folder / "s3") as address:
        wire = Wire(address)
        settings = CREDENTIALS | {
            "HEIMDALL_S3_BUCKET": BUCKET,
            "HEIMDALL_S3_ENDPOINT": wire.address,
            "HEIMDALL_S3_TIMEOUT_SECONDS": "2",
            "REDIS_URL": redis.url,
            "HEIMDALL_SLOTS": "2",
        }
        try:
            with running(folder, worker=False, server=postgres.server(), **settings) as site:
                yield Production(site, wire)
        finally:
            redis.stop()
            wire.close()


def test_a_pause_waits_for_the_bucket_and_the_job_goes_on_elsewhere_with_the_same_bits(production):
    site, wire = production.site, production.wire
    first = production.host("host-a")
    undisturbed = site.submit(**CONFIG)
    job = site.submit(**CONFIG)
    site.wait_for(job, lambda seen: seen["current_step"] >= 3)

    # The bucket goes away, then a pause is asked for: it waits, says why, and the attempt lives.
    wire.cut()
    site.pause(job, "step")
    site.wait_until(lambda: "checkpoint_failed" in kinds(site, job), seconds=60)
    seen = site.job(job)
    assert (seen["status"], seen["stop"]["kind"]) == ("running", "pause")
    told = [event["message"] for event in site.events(job) if event["kind"] == "checkpoint_failed"]
    assert "S3 bucket heimdall" in told[-1]
    lease = "select lease_expires_at as at from training_trainingjob where id=?"
    before = site.rows(lease, job)[0]["at"]
    site.wait_until(lambda: site.rows(lease, job)[0]["at"] > before, seconds=20)

    # It is back: the pause lands by itself. The first host is stopped; the undisturbed job ends on it before.
    wire.mode = "pass"
    site.wait_for_status(job, "paused")
    site.wait_for_status(undisturbed, "completed")
    first.send_signal(signal.SIGTERM)
    assert first.wait(60 * PATIENCE) == 0

    # Another host, with nothing but the database, the bucket and Redis in common, goes on.
    production.host("host-b")
    site.verb(job, "resume")
    done = site.wait_for_status(job, "completed")
    assert production.hosts_of(job) == ["host-a", "host-b"]
    assert done["approximate"] == []
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
    rows = [[(row["step"], row["values"]) for row in site.metrics(one)] for one in (job, undisturbed)]
    assert rows[0] == rows[1]
    for name in production.hosts:  # nothing of a checkpoint stays on a host
        staging = site.data.with_name(name) / "staging"
        site.wait_until(lambda folder=staging: not list(folder.rglob("*.safetensors")), seconds=20)


def kinds(site: Site, job: int) -> list[str]:
    return [event["kind"] for event in site.events(job)]


async def test_a_web_process_that_dies_costs_no_watcher_an_event(production):
    """Twenty sockets, which come back as pages do: each sees each event and each step once."""
    site = production.site
    production.host("host-b")
    job = await asyncio.to_thread(site.submit, **CONFIG)
    clients = [
        Client(site, f"/ws/training/{job}/", token=site.token, origin=None)  # type: ignore[arg-type]
        for _ in range(20)
    ]
    for client in clients:
        client.next = "after=0&step=0&epoch=0&log=0"
    watchers = [asyncio.ensure_future(watch_to_the_end(client)) for client in clients]
    await asyncio.to_thread(site.wait_for_step, job, 3)
    assert site.web
    site.web.kill()
    site.web.wait()
    await asyncio.to_thread(site.start_web)
    await asyncio.gather(*watchers)
    final = await asyncio.to_thread(site.job, job)
    steps = final["total_steps"]
    for client in clients:
        assert client.events == list(range(1, client.job["event_seq"] + 1))
        assert client.steps == list(range(1, steps + 1))


async def watch_to_the_end(client: Client) -> None:
    async with asyncio.timeout(120 * PATIENCE):
        while client.job.get("status") != "completed":
            try:
                await client.open()
                while client.job.get("status") != "completed":
                    await client.receive()
                await client.close()
            except (OSError, websockets.ConnectionClosed, websockets.InvalidHandshake, EOFError):
                await asyncio.sleep(0.1)  # as a page would


def test_a_download_leads_to_the_bucket(production):
    site = production.site
    job = site.get("/jobs?status=completed")["results"][0]["id"]
    path = f"/v1/training/jobs/{job}/checkpoints/{site.final(job)['id']}/download"
    web = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    web.request("GET", path, headers={"Authorization": f"Token {site.token}"})
    address = web.getresponse().headers["Location"]
    web.close()
    assert address.startswith(production.wire.address)
    with urlopen(address, timeout=30) as file:
        content = file.read()
    final, length = site.final(job), int.from_bytes(content[:8], "little")
    assert len(content) == final["size"]
    assert hashlib.sha256(content[: 8 + length]).hexdigest() == final["header_sha256"]
    assert address.partition("X-Amz-Signature=")[2] not in site.log
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in site.log
