"""What `make run` starts, what it prints, and how it ends."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import stat
import subprocess
import time
from io import StringIO
from pathlib import Path

import psutil
import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.running import PATIENCE, ROOT, Site, free_port
from training.management.commands import start
from training.management.examples import EXAMPLES
from training.models import TrainingJob

pytestmark = pytest.mark.processes


@pytest.fixture
def site(tmp_path):
    (tmp_path / "data").mkdir()  # empty: a very first start
    site = Site(tmp_path, {"HEIMDALL_DEMO": "1"})
    try:
        yield site
    finally:
        site.stop()


def waited_for_a_processor(process: psutil.Process) -> float:
    """Seconds that it could have run and did not: others had the processors."""
    schedstat = Path(f"/proc/{process.pid}/schedstat")
    return int(schedstat.read_text().split()[1]) / 1e9 if schedstat.exists() else 0.0


def has_torch(process: psutil.Process) -> bool:
    return any("libtorch" in mapped.path for mapped in process.memory_maps())


def cpu_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def ctrl_c(site: Site, process: subprocess.Popen[bytes]) -> float:
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
    process.wait(timeout=30 * PATIENCE)
    assert site.processes() == []
    return time.monotonic() - began


def test_the_first_start_the_proof_ctrl_c_and_the_second_start(site):
    started = site.start("start")
    site.wait_until(lambda: "Heimdall is at" in site.log, seconds=60)
    token = re.search(r"API token  (\w+)", site.log)[1]
    assert re.search(r"password   \S{12}", site.log)
    assert site.token == token
    assert stat.S_IMODE((site.data / "api-token").stat().st_mode) == 0o600
    demos = site.get("/jobs")["results"]
    assert demos
    job = site.submit(
        epochs=500, samples=320, step_seconds=0.05, priority=40
    )  # ahead of the demo, after the proof
    site.wait_for_step(job, 5)

    # Of a small recipe: the shipped one is proven in the test of several slots.
    given = {"epochs": 12, "samples": 310, "step_seconds": 0.01}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    proof = site.start("prove", "--recipe", "tiny", *words)

    second = site.start("start")  # the port is taken
    assert second.wait(timeout=30 * PATIENCE) == 1
    assert f"Port {site.port} on 127.0.0.1 is in use" in site.log

    third = site.start("start", HEIMDALL_PORT=str(free_port()))  # the data folder is taken
    assert third.wait(timeout=30 * PATIENCE) == 1
    assert re.search(r"Heimdall runs in \S+ already: its worker is process \d+\. Stop it first", site.log)

    proof.wait(timeout=200 * PATIENCE)
    proven = site.get("/jobs?search=Proof")["results"]
    assert [one["config"].items() >= given.items() for one in proven] == [True, True]
    assert "PROVEN" in site.log, site.log
    assert "NOT PROVEN" not in site.log
    # The job that waited has the only slot again: the proof says so and ends, instead of waiting with it.
    assert re.search(r"no slot is idle: \d+ replays wait until one is", site.log), site.log
    assert "with a changed byte, at 50 places: noticed" in site.log
    assert proof.returncode == 0

    site.wait_for(job, lambda seen: seen["status"] == "running" and seen["phase"] == "training")
    assert ctrl_c(site, started) < 10 * PATIENCE
    (row,) = site.rows("select status, current_step from training_trainingjob where id=?", job)
    assert row["status"] == "queued"
    assert row["current_step"] >= 5

    said = len(site.log)
    here = psutil.Process()
    began = time.monotonic() - waited_for_a_processor(here)
    again = site.start("start")
    site.wait_until(lambda: "Heimdall is at" in site.log[said:], seconds=60)
    ready = time.monotonic() - waited_for_a_processor(here)
    in_turn = [
        psutil.Process(again.pid),
        site.the("heimdall web"),
    ]  # the second comes when the first has prepared
    assert sum(map(cpu_seconds, in_turn)) < 5
    assert ready - began - sum(map(waited_for_a_processor, in_turn)) < 5
    assert not any(map(has_torch, in_turn))
    assert "password" not in site.log[said:]
    assert site.token == token
    site.wait_for_step(job, row["current_step"] + 1)  # it went on from there
    assert len(site.get("/jobs")["results"]) == len(demos) + 3
    ctrl_c(site, again)


@pytest.mark.django_db
def test_what_the_first_start_has_prepared_is_looked_at_and_not_made_again(settings, tmp_path, monkeypatch):
    settings.DATA_DIR, settings.DEMO = tmp_path, "examples"
    monkeypatch.setattr(start, "setproctitle", lambda title: None)
    call_command("start", "--prepare-only", stdout=(said := StringIO()))
    assert "password" in said.getvalue()
    assert "Not all" not in said.getvalue()
    found = {job.job_name.removeprefix("Example: "): job for job in TrainingJob.objects.filter(recipe="")}
    programs = {path.parent.name for path in (ROOT / "examples").glob("*/*") if path.suffix in (".py", ".sh")}
    needed = {one.folder for one in EXAMPLES if one.needs and importlib.util.find_spec(one.needs) is None}
    assert found.keys() == programs - needed
    commands = {name for name, job in found.items() if job.program["kind"] == "command"}
    assert commands == {"numbers", "shell"}
    written, made = start.token_file().stat().st_mtime_ns, TrainingJob.objects.count()
    with CaptureQueriesContext(connection) as asked:
        call_command("start", "--prepare-only", stdout=(said := StringIO()))
    assert said.getvalue() == ""
    assert start.token_file().stat().st_mtime_ns == written
    assert TrainingJob.objects.count() == made > 0
    statements = [query["sql"] for query in asked]
    assert {statement.split()[0] for statement in statements} == {"SELECT"}, statements
    assert len(statements) <= 6, statements


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"HEIMDALL_SLOTS": "many"}, "HEIMDALL_SLOTS='many' is not a number"),
        ({"HEIMDALL_HOST": "203.0.113.7"}, "HEIMDALL_HOST=203.0.113.7"),
        ({"HEIMDALL_RECIPES": "no.such.recipe"}, "no.such.recipe"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_sentence(site, wrong, sentence):
    process = site.start("start", **wrong)
    assert process.wait(timeout=60 * PATIENCE) == 1
    assert sentence in site.log
    assert "Traceback" not in site.log
