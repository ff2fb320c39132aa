"""https://lab.example.org/heimdall in a real browser, behind a proxy that takes the path away or hands it on."""

from __future__ import annotations

import json
import urllib.request

import pytest

from tests.browser.conftest import NAME, PASSWORD
from tests.support.proxy import path_proxy
from tests.support.running import PATIENCE, running

pytestmark = [pytest.mark.browser, pytest.mark.processes]


@pytest.fixture(scope="module")
def behind_a_proxy(chromium, tmp_path_factory):
    """The proxy's address with the path, the site behind it, and the proxy."""
    with path_proxy("/heimdall", strips=True) as proxy:
        url = f"http://127.0.0.1:{proxy.port}/heimdall"
        with running(tmp_path_factory.mktemp("below"), HEIMDALL_URL=url) as site:
            proxy.target = site.port
            site.add_superuser(NAME, PASSWORD)
            yield url, site, proxy


@pytest.fixture(params=[True, False], ids=["taken away", "handed on"])
def proxied(request, behind_a_proxy):
    behind_a_proxy[2].strips = request.param
    return behind_a_proxy


@pytest.fixture
def page(chromium, proxied):
    """Logged in. Any error in its scripts, and whatever is asked outside of the path, fails the test."""
    url, _, proxy = proxied
    context, errors = chromium.new_context(viewport={"width": 1280, "height": 860}), []
    page = context.new_page()
    page.set_default_timeout(30_000 * PATIENCE)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.goto(f"{url}/settings/account/")
    page.wait_for_url(f"{url}/login/?next=/heimdall/settings/account/")
    page.fill("#id_username", NAME)
    page.fill("#id_password", PASSWORD)
    page.click("text=Log in")
    page.wait_for_url(f"{url}/settings/account/")
    yield page
    paths = {cookie["name"]: cookie["path"] for cookie in context.cookies()}
    context.close()
    assert not errors
    assert not [path for path in proxy.refused if path != "/favicon.ico"]
    assert paths == {"heimdall_session": "/heimdall/", "heimdall_csrf": "/heimdall/"}


def test_a_job_is_found_watched_and_paused(page, proxied):
    url, site, _ = proxied
    job = site.submit(job_name="below", epochs=500, samples=320, step_seconds=0.05)
    page.goto(f"{url}/")
    page.locator("#link-state", has_text="live").wait_for()
    page.click("text=below")
    page.wait_for_url(f"{url}/jobs/{job}/")
    page.locator("#link-state", has_text="live").wait_for()
    site.wait_for_step(job, 3)
    page.locator("[data-verb=pause]").first.click()
    page.locator("dialog[open] form button.button").first.wait_for()
    page.locator("dialog[open] form button:has-text('Pause')").first.click()
    site.wait_for_status(job, "paused")
    page.locator("#head .state-paused").wait_for()  # pushed; nobody loaded the page again


def test_the_admin_and_the_page_of_the_api_work(page, proxied):
    url, site, _ = proxied
    job = site.submit(job_name="seen", epochs=1)
    page.goto(f"{url}/admin/training/trainingjob/")
    page.locator(".heimdall-verbs a").first.wait_for()
    assert page.locator(f"a[href^='/heimdall/admin/training/trainingjob/{job}/']").count()
    page.goto(f"{url}/v1/docs/")
    page.locator(".opblock-tag").first.wait_for()
    assert page.locator(".servers option").first.get_attribute("value") == url


def test_what_the_api_answers_leads_back_below_the_path(proxied):
    url, site, _ = proxied

    def ask(path, body=None):
        headers = {"Authorization": f"Bearer {site.token}", "Content-Type": "application/json"}
        sent = urllib.request.Request(url + path, json.dumps(body).encode() if body else None, headers)
        with urllib.request.urlopen(sent) as answer:
            return answer.headers, json.load(answer)

    body = {"job_name": "one", "recipe": "tiny", "config": {"epochs": 1, "device": "cpu"}}
    headers, made = ask("/v1/training/jobs", body)
    ask("/v1/training/jobs", body)
    _, rows = ask("/v1/training/jobs?page_size=1")
    assert rows["next"].startswith(url + "/v1/training/jobs?")
    headers, _ = ask(f"/v1/training/jobs/{made['id']}/clone", {"job_name": "again"})
    assert headers["Location"].startswith(url + "/v1/training/jobs/")
