"""The systemd units drain as long as a worker may take, and the proxy hands on what the settings rest on."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands

DEPLOY = Path(__file__).parents[2] / "deploy"
EXAMPLE = dict(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", (DEPLOY / ".env.example").read_text(), re.M))
NGINX = (DEPLOY / "nginx.conf").read_text()


def unit(name: str) -> ConfigParser:
    found = ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(DEPLOY / "systemd" / f"heimdall-{name}.service")
    return found


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_unit_runs_one_of_our_commands_as_the_user_of_the_data(name):
    service = unit(name)["Service"]
    python, script, command = service["ExecStart"].split()
    assert (python, script) == ("/opt/heimdall/.venv/bin/python", "manage.py")
    assert command == name
    assert command in get_commands()
    assert service["User"] == "heimdall"
    assert f"/var/lib/{service['StateDirectory']}" == EXAMPLE["HEIMDALL_DATA_DIR"]
    assert service["EnvironmentFile"] in (DEPLOY / ".env.example").read_text()
    assert service["EnvironmentFile"] in (DEPLOY / "heimdall").read_text()


def test_a_worker_is_told_alone_and_has_time_to_land():
    service = unit("worker")["Service"]
    assert (service["KillMode"], service["KillSignal"]) == ("mixed", "SIGTERM")
    assert int(service["TimeoutStopSec"]) >= settings.DRAIN_GRACE_SECONDS + 15


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    for path in (DEPLOY / "systemd").glob("*.service"):
        # Whether the interpreter is installed in /opt is the machine's affair.
        text = re.sub(r"(?m)^(Exec\w+=)\S+", r"\1/bin/true", path.read_text())
        (tmp_path / path.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.glob("*.service"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if line.startswith("heimdall") or str(tmp_path) in line]
    assert ours == []


def test_the_proxy_hands_on_what_the_settings_read():
    [web] = [block for block in NGINX.split("\nserver {") if "proxy_pass http://heimdall" in block]
    handed_on = dict(re.findall(r"proxy_set_header (\S+) (\S+);", web))
    assert handed_on == {
        "Host": "$host",
        "X-Forwarded-Proto": "$scheme",
        "X-Forwarded-For": "$proxy_add_x_forwarded_for",
        "Upgrade": "$http_upgrade",
        "Connection": "$heimdall_connection",
    }
    size = re.search(r"client_max_body_size (\d+)m;", web)
    assert size is not None
    assert int(size[1]) * 1_048_576 > settings.DATA_UPLOAD_MAX_MEMORY_SIZE


def test_the_proxy_and_the_example_speak_of_one_name_and_port():
    assert (
        re.search(r"upstream heimdall \{\s*server 127\.0\.0\.1:(\d+);", NGINX)[1] == EXAMPLE["HEIMDALL_PORT"]
    )  # type: ignore[index]
    name = EXAMPLE["HEIMDALL_URL"].removeprefix("https://")
    assert f"server_name {name};" in NGINX
    assert name in EXAMPLE["HEIMDALL_ALLOWED_HOSTS"].split(",")
    assert EXAMPLE["HEIMDALL_TRUSTED_ORIGINS"] == f"https://{name}"
