"""The page of settings has what the code reads and nothing else, and a bad value stops the start by its name."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from heimdall.site import env
from heimdall.site.variables import BY_NAME, GROUPS
from training.management import settings_page

ROOT = Path(__file__).parents[1]
VARIABLE = re.compile(r"\b(?:HEIMDALL_[A-Z0-9_]+[A-Z]|DATABASE_URL|REDIS_URL)\b")
# A script that reports from elsewhere is a client, too.
CLIENT = {*(ROOT / "heimdall/client").rglob("*.py"), ROOT / "heimdall/attached/reporting.py"}
FOR_TESTS = {
    "HEIMDALL_FAILPOINTS",
    "HEIMDALL_FAILPOINTS_ONCE",
    "HEIMDALL_TEST_EXAMPLES",
    "HEIMDALL_FUZZ_EXAMPLES",
}
BETWEEN_PROCESSES = {"HEIMDALL_CHECK_WORD"}  # set by a supervisor for what it starts


def read_by_the_server() -> set[str]:
    """The table itself does not count, and the client is a laptop's."""
    paths = {*(ROOT / "heimdall").rglob("*.py"), *(ROOT / "training").rglob("*.py")}
    return read_by(paths - {ROOT / "heimdall/site/variables.py"} - CLIENT)


def read_by(paths: set[Path]) -> set[str]:
    """Names in quotes are those that are read."""
    found = {name for path in paths for name in re.findall(r"[\"'](\w+)[\"']", path.read_text())}
    return {name for name in found if VARIABLE.fullmatch(name)} - FOR_TESTS - BETWEEN_PROCESSES


def test_page_and_example_are_not_stale():
    assert settings_page.PAGE.read_text() == settings_page.page(), "docs/settings.md is stale: make settings"
    assert settings_page.EXAMPLE.read_text() == settings_page.example(), "deploy/.env.example: make settings"


def test_every_variable_that_is_read_has_its_line_and_no_line_is_of_nothing():
    listed = {name for name in BY_NAME if not name.startswith("AWS_")}  # boto3 reads those by itself
    assert listed == read_by_the_server()
    assert len(BY_NAME) == sum(len(group.variables) for group in GROUPS), "a variable stands twice"


def test_every_variable_of_the_client_is_on_its_page_and_no_other():
    rows = [
        line for line in (ROOT / "docs/client.md").read_text().splitlines() if line.startswith("| `HEIMDALL_")
    ]
    assert set(VARIABLE.findall("\n".join(line.split("|")[1] for line in rows))) == read_by(CLIENT)


def test_a_variable_without_a_line_or_with_another_default_is_not_read():
    with pytest.raises(AssertionError, match="HEIMDALL_UNHEARD_OF is read and has no line"):
        env.text("HEIMDALL_UNHEARD_OF")
    with pytest.raises(AssertionError, match="HEIMDALL_PORT has another default"):
        env.integer("HEIMDALL_PORT", 8001, low=1, high=65_535)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEIMDALL_PORT", "eighty"),
        ("HEIMDALL_SLOTS", "0"),
        ("HEIMDALL_TRUSTED_PROXIES", "proxy.example.org"),
        ("HEIMDALL_DEMO", "maybe"),
        ("HEIMDALL_HEARTBEAT_SECONDS", "50"),
        ("HEIMDALL_START_METHOD", "hot"),
        ("HEIMDALL_LOG_LEVEL", "LOUD"),
        ("HEIMDALL_TIME_ZONE", "Mars/Olympus"),
        ("HEIMDALL_TIME_ZONE", "Europe"),
        ("HEIMDALL_STATIC_ROOT", "/dev/null/static"),
        ("HEIMDALL_URL", "gpu.example.org"),
        ("HEIMDALL_URL", "https://gpu.example.org/jobs"),
        ("HEIMDALL_URL", "https://gpu.example.org/a/../b"),
        ("HEIMDALL_URL", "https://gpu.example.org/a b"),
        ("HEIMDALL_URL", "https://gpu.example.org/a?b"),
        ("HEIMDALL_ALLOWED_HOSTS", "127.0.0.1,https://gpu.example.org"),
        ("HEIMDALL_ALLOWED_HOSTS", "gpu.example.org:8000"),
        ("HEIMDALL_TRUSTED_ORIGINS", "gpu.example.org"),
        ("HEIMDALL_TRUSTED_ORIGINS", "https://gpu.example.org/"),
        ("HEIMDALL_EMAIL_FROM", "the lab"),
        ("HEIMDALL_EMAIL_URL", "post://mail"),
        ("HEIMDALL_EMAIL_URL", "smtp://"),
        ("HEIMDALL_WEBHOOK_ALLOW", "chat.lab,10.1.0.0/33"),
        ("HEIMDALL_WEBHOOK_PORTS", "443,0"),
        ("HEIMDALL_WEBHOOK_PORTS", "https"),
        ("DATABASE_URL", "nonsense"),
        ("HEIMDALL_S3_BUCKET", "a bucket/with a path"),
        ("HEIMDALL_S3_PREFIX", "../above"),
        ("REDIS_URL", "localhost:6379"),
        ("HEIMDALL_STAGING_MAX_FILES", "9"),
        ("HEIMDALL_S3_ENDPOINT", "https://key:secret@s3.example.org"),
        ("HEIMDALL_S3_BUCKET", ""),  # an endpoint alone would be ignored
    ],
)
def test_a_bad_value_stops_the_start_and_names_its_variable(name, value, tmp_path):
    environment = os.environ | {"HEIMDALL_DATA_DIR": str(tmp_path), name: value}
    if name == "HEIMDALL_S3_BUCKET":
        environment["HEIMDALL_S3_ENDPOINT"] = "https://s3.example.org"
    command = [sys.executable, "-c", "import heimdall.site.settings"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured" in last
    assert name in last


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("", []),
        ("2,0", [2, 0]),
        ("0, -1, 1", [0]),  # so CUDA reads it
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,1", ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 1]),
        ("NoDevFiles", []),
    ],
)
def test_gpus_are_known_by_number_or_uuid(visible, found, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert env.gpus() == found


@pytest.mark.parametrize("host", ["127.0.0.1", "gpu.lab", "::1"])
def test_the_address_that_links_begin_with_can_be_called(host, monkeypatch):
    monkeypatch.delenv("HEIMDALL_URL", raising=False)
    url = env.web_address("HEIMDALL_URL", env.http_url(host, 8000))
    assert (urlsplit(url).hostname, urlsplit(url).port) == (host, 8000)
