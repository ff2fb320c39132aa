"""One real server with a worker for all tests of the client in one process."""

import pytest

from heimdall import Client
from heimdall.client import profiles
from tests.support.running import running


@pytest.fixture(scope="package")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("site"), HEIMDALL_SLOTS="2") as found:
        yield found


@pytest.fixture
def client(site):
    with Client(site.url, token=site.token) as made:
        yield made


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path, monkeypatch):
    """A folder of its own for profiles, and no keyring of whoever runs the tests."""
    monkeypatch.setenv("HEIMDALL_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("HEIMDALL_KEYRING", "0")
    for name in ("HEIMDALL_SERVER", "HEIMDALL_TOKEN", "HEIMDALL_PROFILE", "HEIMDALL_CERTIFICATES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def logged_in(site):
    return profiles.keep(profiles.Profile(site.url, site.token))
