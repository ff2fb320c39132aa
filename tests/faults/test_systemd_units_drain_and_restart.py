"""The units that are shipped: signals go where a drain needs them, there is time for it, and little is left open."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
HARDENING = {
    "NoNewPrivileges": "true",
    "ProtectSystem": "strict",
    "PrivateTmp": "true",
    "ProtectKernelTunables": "true",
    "ProtectControlGroups": "true",
    "RestrictSUIDSGID": "true",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "StateDirectoryMode": "0700",
}


def read(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    return unit


@pytest.fixture(params=UNITS, ids=lambda path: path.stem)
def unit(request) -> configparser.ConfigParser:
    return read(request.param)


def test_there_is_one_for_the_web_and_one_for_the_worker():
    assert [path.name for path in UNITS] == ["heimdall-web.service", "heimdall-worker.service"]


def test_it_runs_a_command_of_ours_as_a_user_of_its_own(unit):
    service = unit["Service"]
    for line in (service["ExecStart"], service.get("ExecStartPre", "manage.py migrate")):
        command = re.search(r"manage\.py (\w+)", line)[1]
        assert command in get_commands(), line
    assert service["User"] not in {"root", ""}
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_a_stop_reaches_the_main_process_alone_and_a_death_is_mended(unit):
    service = unit["Service"]
    assert (service["KillMode"], service["KillSignal"], service["Restart"]) == ("mixed", "SIGTERM", "always")


def test_the_worker_has_time_to_land_its_jobs_and_outlives_a_trainer_that_took_all_memory():
    service = read(ROOT / "deploy/systemd/heimdall-worker.service")["Service"]
    assert int(service["TimeoutStopSec"]) >= settings.DRAIN_GRACE_SECONDS + 15
    assert service["OOMPolicy"] == "continue"


def test_the_worker_reaches_its_gpus():
    """PrivateDevices hides them, and ProtectClock brings a list of devices in which they are not."""
    service = read(ROOT / "deploy/systemd/heimdall-worker.service")["Service"]
    assert not {
        "PrivateDevices",
        "ProtectClock",
        "DeviceAllow",
        "DevicePolicy",
        "MemoryDenyWriteExecute",
    } & set(service)


def test_little_is_left_open(unit):
    service = unit["Service"]
    assert {name: service[name] for name in HARDENING} == HARDENING


def test_no_secret_stands_in_a_unit():
    assert not [path for path in UNITS if "SECRET" in path.read_text() or "Environment=" in path.read_text()]


def test_systemd_understands_them():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd on this machine")
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, UNITS)], capture_output=True, text=True, timeout=60
    )
    said = [
        line for line in done.stderr.splitlines() if "is not executable" not in line
    ]  # it is not installed here
    assert not said
