import re
from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.processes]
HOSTILE = '<img src=x onerror="window.owned=1">'


@pytest.fixture(scope="module")
def long_job(site) -> int:
    """A job that trains for as long as the tests may need."""
    job = site.submit(
        job_name="a long one", epochs=500, samples=320, step_seconds=0.1, checkpoint_every_epochs=0
    )
    site.wait_for_step(job, 1)
    return job


def press(page, verb: str, **choice: str) -> None:
    """Press a verb's button and confirm in the dialog."""
    page.click(f'button[data-verb="{verb}"]:visible')
    dialog = page.locator("dialog[open]")
    dialog.wait_for()
    for name, value in choice.items():
        dialog.locator(f'input[name="{name}"][value="{value}"]').check()
    dialog.locator("button:not([type=button])").click()
    dialog.wait_for(state="hidden")


def until(page, holds: Callable[[], bool]) -> None:
    """Wait on the page's side: its own policy forbids Playwright's wait_for_function."""
    for _ in range(400):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("the page did not change in 20 s")


def step_shown(page) -> int:
    return int(page.locator('[data-f="current_step"]').inner_text())


def test_a_job_appears_progresses_pauses_and_resumes_in_the_list_and_on_its_page(site, visit):
    page = visit("/")
    page.evaluate("window.neverReloaded = true")
    page.locator("#link-state", has_text="live").wait_for()
    page.get_by_text("No jobs yet").wait_for()

    job = site.submit(job_name=HOSTILE, epochs=2, samples=1920, step_seconds=0.08)
    steps = 2 * 54
    row = page.locator(f"#job-{job}")
    row.locator(".state-running").wait_for()
    assert HOSTILE in row.inner_text()
    until(page, lambda: float(row.locator("progress").get_attribute("value")) > 8)

    press(page, "pause", at="step")
    row.locator(".state-paused").wait_for()
    seen = site.job(job)
    assert (seen["status"], seen["stop"]) == ("paused", None)
    assert 0 < seen["current_step"] < steps
    assert page.evaluate("window.neverReloaded") is True

    row.locator(".name a").click()
    page.wait_for_url(f"{site.url}/jobs/{job}/")
    page.evaluate("window.neverReloaded = true")
    page.locator("#link-state", has_text="live").wait_for()
    page.locator("#chart canvas").first.wait_for()
    assert page.locator('button[data-verb="cancel"]').count() == 0
    assert page.locator('button[data-verb="delete"]').is_disabled()
    page.get_by_text("resume starts here").wait_for()
    press(page, "resume")
    page.locator("#head .state-running").wait_for()
    press(page, "pause")  # at the end of the epoch
    page.locator("#head .headline", has_text=re.compile(r"pausing\s*at the end of epoch \d")).wait_for()
    page.locator("#head .state-pausing").wait_for()
    press(page, "resume")  # the request is withdrawn
    site.wait_for_status(job, "completed")
    page.locator("#head .state-completed").wait_for()
    page.get_by_text("100.0 %").wait_for()
    page.locator("#checkpoints").get_by_text("final").wait_for()
    curve = f"fetch('/v1/training/jobs/{job}/curve').then((answer) => answer.json())"
    assert page.evaluate(curve)["series"][0]["steps"] == list(range(1, steps + 1))
    until(page, lambda: page.locator("#chart .legend").first.inner_text().split()[:2] == ["step", str(steps)])
    assert page.evaluate("window.neverReloaded") is True
    assert page.evaluate("window.owned") is None


def test_a_dialog_can_be_left_and_changes_nothing(site, visit, long_job):
    page = visit(f"/jobs/{long_job}/")
    page.locator("#head .state-running").wait_for()
    page.click('button[data-verb="cancel"]')
    page.locator("dialog[open]").wait_for()
    page.keyboard.press("Escape")
    page.locator("#dialog").wait_for(state="hidden")
    page.click('button[data-verb="cancel"]')
    page.locator("dialog[open] [data-close]").click()
    page.locator("#dialog").wait_for(state="hidden")
    assert site.job(long_job)["stop"] is None
    before = step_shown(page)
    until(page, lambda: step_shown(page) > before + 3)


def test_after_the_server_was_killed_the_page_finds_back_to_the_truth(site, visit, long_job):
    page = visit(f"/jobs/{long_job}/", ignore=("WebSocket", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET"))
    page.evaluate("window.neverReloaded = true")
    page.locator("#link-state", has_text="live").wait_for()
    before = step_shown(page)
    site.web.kill()
    site.web.wait()
    page.locator("#link-state", has_text="reconnecting").wait_for()
    site.start_web()
    page.locator("#link-state", has_text="live").wait_for()
    until(page, lambda: step_shown(page) > before)
    assert abs(step_shown(page) - site.job(long_job)["current_step"]) <= 20
    assert page.evaluate("window.neverReloaded") is True


def test_without_javascript_everything_works_but_is_not_live(site, visit, long_job):
    page = visit(f"/jobs/{long_job}/", java_script_enabled=False)
    page.click('button[data-verb="pause"]')
    page.get_by_label("At the next step").check()
    page.click("form[data-ask] button")
    page.wait_for_url(f"{site.url}/jobs/{long_job}/")
    assert "will pause at the next step" in page.locator("#messages").inner_text()
    site.wait_for_status(long_job, "paused")
    page.reload()
    page.locator("#head .state-paused").wait_for()
    page.locator("#head details.menu summary").click()
    page.click('button[data-verb="discard"]')
    page.click("form[data-ask] button")
    page.locator("#head .state-cancelled").wait_for()


def test_a_job_is_submitted_from_the_form_on_a_phone_in_the_dark(site, visit):
    small = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
    page = visit("/jobs/new/?recipe=tiny", ignore=("400 (Bad Request)",), **small)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.fill("#id_job_name", "from a phone")
    page.get_by_label("Epochs", exact=True).fill("0")
    page.locator("fieldset", has_text="Hardware").locator("summary").click()
    page.get_by_label("Device", exact=True).select_option("cpu")
    page.click("text=Queue the job")
    assert "greater than or equal to 1" in page.locator("ul.errors").inner_text()
    page.get_by_label("Epochs", exact=True).fill("1")
    page.click("text=Queue the job")
    page.locator("h1", has_text="from a phone").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(site.url)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
