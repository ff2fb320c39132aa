"""The example environment, the image and the compose file name what there is, and what they set can be started."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands

from heimdall.site.variables import BY_NAME

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EXAMPLE = (DEPLOY / ".env.example").read_text()
OF_COMPOSE = {"POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD"}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: one for name, one in COMPOSE["services"].items() if one.get("image") == "heimdall"}


def shown() -> dict[str, str]:
    """Every variable of the example, with its value or its default."""
    found = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE, re.M)
    assert len(found) == len(dict(found)), "a variable stands twice"
    return dict(found)


def in_effect() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE, re.M))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions; the last stage is what follows the last FROM."""
    lines = (DEPLOY / "Dockerfile").read_text().replace(" \\\n", " ").splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]  # type: ignore[misc]


def last_stage() -> list[tuple[str, str]]:
    start = max(number for number, (word, _) in enumerate(instructions()) if word == "FROM")
    return instructions()[start:]


def test_the_example_has_every_variable_once_and_no_other():
    assert set(shown()) == set(BY_NAME) | OF_COMPOSE


@pytest.mark.parametrize("door", ["systemd", "compose"])
def test_the_check_of_a_deployment_is_clean_under_it(door, tmp_path):
    environment = in_effect()
    if door == "compose":
        environment |= {name: str(value) for name, value in OURS["web"]["environment"].items()}
        environment = {
            name: re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value) for name, value in environment.items()
        }
    unwanted = ("HEIMDALL_", "AWS_", "DATABASE_URL")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment = clean | environment | {"HEIMDALL_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    # Store and database of the compose file are not running here, and that is all that may be said.
    said = set(re.findall(r"\((\w+\.[EW]\d+)\)", done.stderr))
    assert said <= ({"heimdall.E002", "heimdall.E003"} if door == "compose" else set()), done.stderr


def test_what_the_image_copies_is_enough_to_start_and_is_let_through(tmp_path):
    """The steps of the Dockerfile, done in a folder."""
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    for word, rest in instructions():
        if word != "COPY" or rest.startswith("--from"):
            continue
        *sources, target = rest.split()
        for source in sources:
            assert f"!{source}" in let_through, source
            place = tmp_path / (f"{target}/{Path(source).name}" if target.endswith("/") else target)
            if target.startswith("/tmp/"):
                assert (ROOT / source).is_file()
            elif (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDALL_")}
    code = (
        "import django; django.setup();"
        "import heimdall.site.asgi; from django.template.loader import get_template; get_template('jobs.html');"
        "from django.contrib.staticfiles import finders; assert finders.find('heimdall/app.css');"
        "from heimdall.recipes import registry; assert not registry.problems();"
        "import heimdall; print(heimdall.__file__)"
    )
    environment = clean | {
        "HEIMDALL_DATA_DIR": str(tmp_path / "data"),
        "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "heimdall" / "__init__.py")


def test_the_image_runs_one_of_our_commands_as_a_user_of_its_own():
    stage = dict(last_stage())
    assert stage["USER"] == "heimdall"
    assert json.loads(stage["ENTRYPOINT"]) == ["python", "manage.py"]
    assert json.loads(stage["CMD"])[0] in get_commands()
    assert {rest.split()[0] for _, rest in _all("FROM")} == {"${BASE}"}, "the stages stand on one Python"
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", _all("ARG")[0][1])
    pinned = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert pinned
    assert all("-r /tmp/requirements.txt -c /tmp/constraints.txt" in rest for rest in pinned)
    variables = {word.partition("=")[0] for _, rest in _all("ENV") for word in shlex.split(rest)}
    assert not [name for name in variables if "SECRET" in name or "PASSWORD" in name]
    names = [word for word, _ in last_stage()]
    assert names.index("USER") > max(number for number, word in enumerate(names) if word in {"RUN", "COPY"})


def _all(word: str) -> list[tuple[str, str]]:
    return [one for one in instructions() if one[0] == word]


def test_the_health_check_asks_by_an_allowed_name_and_fails_where_nobody_answers():
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Host"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        port = str(server.server_address[1])
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert _check(port) == 0
    assert asked == [("/healthz", "gpu.example.org")]
    assert _check(port) == 1


def _check(port: str) -> int:
    environment = os.environ | {"HEIMDALL_PORT": port, "HEIMDALL_ALLOWED_HOSTS": "gpu.example.org,127.0.0.1"}
    command = [sys.executable, str(DEPLOY / "healthcheck.py")]
    return subprocess.run(command, env=environment, capture_output=True, timeout=30).returncode


def test_compose_starts_our_commands_after_what_they_need():
    services = COMPOSE["services"]
    assert set(OURS) == {"prepare", "web", "worker"}
    for name, one in OURS.items():
        assert one["command"][0] in get_commands(), name
        for other, how in one["depends_on"].items():
            ends = services[other].get("restart") == "no"
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy")
            assert ends or "test" in services[other]["healthcheck"]
    assert OURS["worker"]["stop_grace_period"] == "90s"
    assert settings.DRAIN_GRACE_SECONDS + 15 <= 90


def test_compose_opens_ports_to_this_machine_alone_and_keeps_no_password():
    opened = [port for one in COMPOSE["services"].values() for port in one.get("ports", [])]
    assert sorted(opened) == ["127.0.0.1:8000:8000", "127.0.0.1:9000:9000"]
    text = (DEPLOY / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", text)) == OF_COMPOSE
    assert len(re.findall(r"\$\{", text)) == len(re.findall(r"\$\{\w+:\?", text)), "a password has a default"
    for name, one in COMPOSE["services"].items():
        assert not {"privileged", "network_mode", "pid", "userns_mode"} & set(one), name
        assert one["image"] == "heimdall" or re.search(r":[\w.-]*\d[\w.-]*$", one["image"]), name
        kept = {volume.partition(":")[0] for volume in one.get("volumes", [])}
        assert kept <= set(COMPOSE["volumes"]), name


def test_our_containers_write_nowhere_but_in_their_volume_and_tmp():
    for name, one in OURS.items():
        assert (one["read_only"], one["tmpfs"], one["cap_drop"]) == (True, ["/tmp"], ["ALL"]), name
        assert [volume.partition(":")[2] for volume in one["volumes"]] == [
            one["environment"]["HEIMDALL_DATA_DIR"]
        ]


def test_compose_trusts_the_proxy_as_its_containers_see_it():
    """What comes through an opened port comes from the gateway of the network."""
    [network] = COMPOSE["networks"]["default"]["ipam"]["config"]
    gateway = ip_address(network["gateway"])
    assert gateway in ip_network(network["subnet"])
    assert all(one["environment"]["HEIMDALL_TRUSTED_PROXIES"] == str(gateway) for one in OURS.values())


def test_compose_sets_only_variables_that_there_are():
    for one in OURS.values():
        assert set(one["environment"]) <= set(shown())
