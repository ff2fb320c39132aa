"""A real Chromium on real pages: the web server and a worker run as processes on a data folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.running import PATIENCE, Site, running

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")
NAME, PASSWORD = "anna", "long enough for a test"
MAKE_ANNA = (
    "from django.contrib.auth.models import User;"
    f"User.objects.create_superuser({NAME!r}, password={PASSWORD!r})"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(chromium, tmp_path_factory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("browser")) as site:
        assert site.start("shell", "-c", MAKE_ANNA).wait(timeout=60) == 0
        yield site


@pytest.fixture
def visit(chromium, site) -> Iterator[Callable[..., Any]]:
    """visit("/jobs/3/"): a page that is logged in. Any error in its scripts fails the test."""
    contexts, errors = [], []

    def open_page(path: str = "/", *, ignore: tuple[str, ...] = (), **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000 * PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                errors.append(message.text)
                if message.type == "error" and not any(part in message.text for part in ignore)
                else None
            ),
        )
        page.goto(f"{site.url}/login/?next={path}")
        page.fill("#id_username", NAME)
        page.fill("#id_password", PASSWORD)
        page.click("text=Log in")
        page.wait_for_url(site.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
