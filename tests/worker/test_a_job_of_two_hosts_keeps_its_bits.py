"""Two workers on one PostgreSQL train one job: whatever happens to one, both end, and go on with the same bits."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.storage.servers import Wire
from tests.support import postgres
from tests.support.running import PATIENCE, Site, running

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(bool(postgres.why_absent()), reason=postgres.why_absent()),
]
EPOCHS, STEPS = 6, 9
CONFIG = {
    "epochs": EPOCHS, "samples": 320, "step_seconds": 0.1, "checkpoint_every_minutes": 0, "seed": 5,
    "devices": 2, "hosts": 2,
}  # fmt: skip


def wait_for_attempt(site: Site, job: int, number: int, *, step: int) -> dict:
    return site.wait_for(
        job,
        lambda seen: (
            (seen["attempt"], seen["status"]) == (number, "running") and seen["current_step"] >= step
        ),
    )


class DatabaseWire(Wire):
    """Between a host and the socket of PostgreSQL; its own lies in the folder."""

    def __init__(self, folder: Path, database: Path) -> None:
        self._database = database
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / database.name))
        listener.listen()
        self._serve_on(listener)

    def _connect(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._database))
        return server


@pytest.fixture(scope="module")
def wire():
    """Between the second host and the database."""
    with tempfile.TemporaryDirectory() as folder:
        (database,) = Path(postgres.server().folder).glob(".s.PGSQL.*[0-9]")
        wire = DatabaseWire(Path(folder), database)
        wire.folder = folder
        yield wire
        wire.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, wire):
    folder, server = tmp_path_factory.mktemp("hosts"), postgres.server()
    settings = {"HEIMDALL_SLOTS": "2", "HEIMDALL_ADDRESS": "127.0.0.1"}
    with running(folder, worker=False, server=server, **settings) as site:
        through = site.environment["DATABASE_URL"].replace(str(server.folder), wire.folder)
        site.start("worker", HEIMDALL_NODE_NAME="host-a")
        site.start("worker", HEIMDALL_NODE_NAME="host-b", DATABASE_URL=through)
        yield site


def rank(site: Site, job: int, number: int):
    return site.the("heimdall trainer", f"job {job} rank {number}")


def wait_until_all_ranks_are_gone(site: Site, processes: list) -> None:
    for process in processes:
        process.wait(timeout=10 * PATIENCE)


def test_whatever_happens_to_a_host_the_job_goes_on_from_its_checkpoint_with_the_same_bits(site, wire):
    undisturbed = site.submit(**CONFIG | {"step_seconds": 0})  # how long a step takes is no part of the state
    site.wait_for_status(undisturbed, "completed", seconds=120)
    job = site.submit(**CONFIG)

    seen = wait_for_attempt(site, job, 1, step=STEPS + 2)
    assert (seen["ranks"], {row["node"] for row in seen["rank_devices"]}) == (4, {"host-a", "host-b"})
    processes = [rank(site, job, number) for number in range(4)]
    processes[3].kill()
    wait_until_all_ranks_are_gone(site, processes)

    wait_for_attempt(site, job, 2, step=STEPS + 4)
    processes = [rank(site, job, number) for number in range(4)]
    member = site.rows("select supervisor_pid from training_gangmember where job_id=?", job)
    psutil.Process(member[0]["supervisor_pid"]).kill()
    wait_until_all_ranks_are_gone(site, processes)

    seen = wait_for_attempt(site, job, 3, step=STEPS + 6)
    node = seen["rank_devices"][3]["node"]  # the one that does not lead
    site.post(f"/nodes/{node}/drain")
    site.wait_for_status(job, "queued")
    site.wait_until(lambda: not site.rows("select * from training_heldslot"), seconds=30)
    site.post(f"/nodes/{node}/undrain")

    seen = wait_for_attempt(site, job, 4, step=STEPS + 8)
    places = enumerate(row["node"] for row in seen["rank_devices"])
    processes = [rank(site, job, number) for number, node in places if node == "host-a"]
    wire.cut()  # where the other host leads it, it trains on until it hears that its lease is over
    wait_until_all_ranks_are_gone(site, processes)
    site.wait_until(lambda: not site.rows("select * from training_heldslot"), seconds=30)
    reached = site.job(job)["current_step"]
    wire.mode = "pass"

    wait_for_attempt(site, job, 5, step=reached + 1)
    site.pause(job, at="step")
    assert reached < site.wait_for_status(job, "paused")["current_step"] < EPOCHS * STEPS
    site.wait_until(lambda: not site.named("heimdall trainer", f"job {job}"), seconds=10)
    site.verb(job, "resume")
    ended = site.wait_for_status(job, "completed", "failed", seconds=120)
    assert (ended["status"], ended["current_step"]) == ("completed", EPOCHS * STEPS)
    assert site.final(job)["digest"] == site.final(undisturbed)["digest"]
    assert "replay_differs" not in [event["kind"] for event in site.events(job)]
    assert (
        site.rows("select * from training_heldslot") == site.rows("select * from training_gangmember") == []
    )
