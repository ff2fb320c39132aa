"""A watched job ends: the browser and a webhook tell it, sent by the real worker. The admin's first page follows."""

from __future__ import annotations

import json

import pytest

from tests.browser.test_a_person_watches_and_steers_a_job_without_a_reload import until
from tests.notifications.conftest import receiver  # noqa: F401
from tests.support.running import PATIENCE
from training.notifications import webhook

pytestmark = [pytest.mark.browser, pytest.mark.processes]
LISTEN = """
  window.told = [];
  const Real = window.Notification;
  window.Notification = class extends Real {
    constructor(title, options) { super(title, options); told.push([title, options.body, options.tag]); }
  };
"""


def test_a_watched_jobs_end_is_told_in_the_browser_and_by_a_webhook(site, visit, receiver):  # noqa: F811
    hook = site.post("/subscriptions", {"via": "webhook", "target": receiver.url, "topics": ["cancelled"]})
    job = site.submit(job_name="north", epochs=500, samples=320, step_seconds=0.1)
    page = visit("/", permissions=["notifications"])
    page.add_init_script(LISTEN)
    page.goto(f"{site.url}/jobs/{job}/")
    page.get_by_role("button", name="Watch", exact=True).click()
    page.get_by_text("This browser will tell how it ends").wait_for()
    page.get_by_role("button", name="Stop watching").wait_for()
    page.goto(f"{site.url}/settings/notifications/")  # on any page
    page.get_by_text("This browser shows a notification when a watched job ends").wait_for()
    site.wait_for_step(job, 1)
    site.verb(job, "cancel")
    until(page, lambda: len(page.evaluate("told")) == 1)
    assert page.evaluate("told")[0][0] == "north was cancelled"
    assert receiver.arrived.acquire(timeout=20 * PATIENCE)
    headers, body = receiver.got[0]
    sent = json.loads(body)
    assert (sent["topic"], sent["job"]["id"], sent["job"]["status"]) == ("cancelled", job, "cancelled")
    signed = webhook.sign(hook["secret"], headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == signed
    for secret in (hook["secret"], "room=7"):
        assert secret not in site.log


def test_what_ended_between_two_pages_is_told_by_the_second(site, visit):
    job = site.submit(job_name="south", epochs=500, samples=320, step_seconds=0.1)
    page = visit("/", permissions=["notifications"])
    page.add_init_script(LISTEN)
    page.goto(f"{site.url}/jobs/{job}/")
    page.get_by_role("button", name="Watch", exact=True).click()
    kept = "sessionStorage.getItem('heimdall-watched')"
    until(page, lambda: f"[{job}," in (page.evaluate(kept) or ""))
    page.goto("about:blank")
    site.verb(job, "cancel")
    site.wait_for_status(job, "cancelled")
    page.goto(f"{site.url}/datasets/")
    until(page, lambda: len(page.evaluate("told")) == 1)
    assert page.evaluate("told")[0][0] == "south was cancelled"


def test_the_admins_first_page_follows_without_a_reload(site, visit):
    page = visit("/admin/")
    page.evaluate("window.neverReloaded = true")
    job = site.submit(job_name="east", epochs=500, samples=320, step_seconds=0.1)
    row = page.locator("#live tr", has_text=f"east #{job}")
    row.locator("progress").wait_for()
    site.pause(job, "step")
    page.locator("#live .counts a", has_text="paused").get_by_text("1").wait_for()
    assert page.evaluate("window.neverReloaded") is True
