"""README's table of settings and the code name the same variables, and a bad value stops the start by its name."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from heimdall.site import env

ROOT = Path(__file__).parents[1]
VARIABLE = re.compile(r"\b(?:HEIMDALL_[A-Z_]+[A-Z]|DATABASE_URL|REDIS_URL)\b")
FOR_TESTS = {
    "HEIMDALL_FAILPOINTS",
    "HEIMDALL_FAILPOINTS_ONCE",
    "HEIMDALL_TEST_EXAMPLES",
    "HEIMDALL_FUZZ_EXAMPLES",
}


def named_in_code() -> set[str]:
    paths = [*(ROOT / "heimdall").rglob("*.py"), *(ROOT / "training").rglob("*.py")]
    found = {name for path in paths for name in re.findall(r"[\"'](\w+)[\"']", path.read_text())}
    return {name for name in found if VARIABLE.fullmatch(name)} - FOR_TESTS


def named_in_readme() -> set[str]:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    return {name for row in rows for name in VARIABLE.findall(row.split("|")[1])}


def test_the_table_is_complete_and_has_nothing_that_is_not_read():
    assert named_in_readme() == named_in_code()


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
        ("HEIMDALL_ALLOWED_HOSTS", "127.0.0.1,https://gpu.example.org"),
        ("HEIMDALL_ALLOWED_HOSTS", "gpu.example.org:8000"),
        ("HEIMDALL_TRUSTED_ORIGINS", "gpu.example.org"),
        ("HEIMDALL_TRUSTED_ORIGINS", "https://gpu.example.org/"),
        ("HEIMDALL_EMAIL_FROM", "the lab"),
        ("HEIMDALL_EMAIL_URL", "post://mail"),
        ("HEIMDALL_EMAIL_URL", "smtp://"),
        ("HEIMDALL_WEBHOOK_ALLOW", "chat.lab,10.1.0.0/33"),
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


def test_the_readme_shows_the_measured_table_of_the_documentation():
    table = re.compile(r"<!-- evaluate default -->\n.*?<!-- end of default -->", re.S)
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/localization.md")]
    first, second = (table.search(text) for text in texts)
    assert first is not None
    assert second is not None
    assert first.group(0) == second.group(0)
