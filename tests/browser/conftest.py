"""A real Chromium on real pages: the web server and a worker run as processes on a data folder of their own.

One browser and one server serve all files of this folder that a test process takes; each file begins without jobs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.running import PATIENCE, Answer, Site, running

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
SETTINGS = {"HEIMDALL_WEBHOOK_ALLOW": "127.0.0.1"}


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def shared_site(chromium, tmp_path_factory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("browser"), **SETTINGS) as site:
        site.add_superuser(NAME, PASSWORD)
        yield site


@pytest.fixture(scope="module")
def site(shared_site) -> Iterator[Site]:
    yield shared_site
    if not shared_site.answers():
        shared_site.start_web()
    take_jobs_away(shared_site)


def take_jobs_away(site: Site) -> None:
    def all_are_over() -> bool:
        jobs = site.get("/jobs?page_size=100")["results"]
        for job in jobs:
            with suppress(Answer):  # it ended meanwhile
                if stop := {"cancel", "discard"}.intersection(job["verbs"]):
                    site.verb(job["id"], stop.pop())
        return all("delete" in job["verbs"] for job in jobs)

    site.wait_until(all_are_over, seconds=30)
    for job in site.get("/jobs?page_size=100")["results"]:
        site.request("DELETE", f"/v1/training/jobs/{job['id']}")
    assert site.get("/jobs")["results"] == []


@pytest.fixture(scope="module")
def cookies() -> list[Any]:
    """Of the first login; later pages are logged in by them."""
    return []


@pytest.fixture
def visit(chromium, site, cookies) -> Iterator[Callable[..., Any]]:
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
        if cookies:
            context.add_cookies(cookies)
            page.goto(site.url + path)
            return page
        page.goto(f"{site.url}/login/?next={path}")
        page.fill("#id_username", NAME)
        page.fill("#id_password", PASSWORD)
        page.click("text=Log in")
        page.wait_for_url(site.url + path)
        cookies.extend(context.cookies())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
