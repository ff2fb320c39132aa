"""The Content-Security-Policy in a real browser: nothing of ours breaks on it, and what is injected does not run.

`visit` fails a test for any error in the console, and a refused script, style or socket is one.
"""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.processes]
INJECT = """(text) => {
  const box = document.createElement("div");
  box.innerHTML = '<img src="data:," onerror="window.owned = 1"><a href="javascript:window.owned=1">x</a>';
  document.body.append(box);
  const script = document.createElement("script");
  script.textContent = "window.owned = 1";
  document.body.append(script);
  box.querySelector("a").click();
  if (text) setTimeout(text, 0);
}"""
REFUSED = ("Content Security Policy", "Content-Security-Policy", "ERR_")


@pytest.fixture(scope="module")
def job(site) -> int:
    job = site.submit(job_name="<b>bold</b>", epochs=500, samples=320, step_seconds=0.1)
    site.wait_for_step(job, 1)
    return job


def test_pages_and_sockets_work_under_the_policy(visit, site, job):
    page = visit("/")
    for path, sign in (("/", "#link-state"), (f"/jobs/{job}/", "#link-state"), ("/jobs/new/", "form .card")):
        page.goto(site.url + path)
        page.locator(sign).first.wait_for()
        if sign == "#link-state":
            page.locator(sign, has_text="live").wait_for()
    page.goto(site.url + "/v1/docs/")
    page.locator(".opblock-tag").first.wait_for()
    page.locator(".opblock-summary").first.click()
    page.locator(".opblock-body").first.wait_for()


def test_the_admin_works_under_the_policy(visit, site, job):
    page = visit("/admin/")
    page.goto(site.url + "/admin/training/trainingjob/")
    page.locator(".heimdall-verbs a").first.wait_for()
    page.goto(f"{site.url}/admin/training/trainingjob/{job}/change/")
    page.locator("input[name=job_name]").wait_for()
    for path in ("add/?recipe=tiny", "?status__exact=running", f"{job}/do/cancel/"):
        page.goto(f"{site.url}/admin/training/trainingjob/{path}")
        page.locator("#content form, #main form").first.wait_for()
    for path in ("auth/user/", "auth/user/add/", "training/event/", "training/checkpoint/", "django_q/ormq/"):
        page.goto(f"{site.url}/admin/{path}")
        page.locator("#content").first.wait_for()


def test_what_is_injected_does_not_run(visit, site, job):
    page = visit(f"/jobs/{job}/", ignore=REFUSED)
    for path in (f"/jobs/{job}/", "/v1/docs/", "/jobs/new/"):
        page.goto(site.url + path)
        page.evaluate(INJECT, "window.owned = 1")
        page.wait_for_timeout(200)
        assert page.evaluate("window.owned") is None, path
    # In the admin text may become a function, for unfold's sake; an injected script does not run there either.
    page.goto(site.url + "/admin/")
    page.evaluate(INJECT, "")
    page.wait_for_timeout(200)
    assert page.evaluate("window.owned") is None
