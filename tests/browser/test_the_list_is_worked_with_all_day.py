"""Keys, ticks, filters and saved views of the list; two browsers that see the same, and one without script."""

import re

import pytest

from tests.browser.test_a_person_watches_and_steers_a_job_without_a_reload import press, until
from tests.support.running import PATIENCE

pytestmark = [pytest.mark.browser, pytest.mark.processes]
# When the row shows the state, in the page's own clock.
WATCH = """([job, state]) => new Promise((resolve) => {
  const look = () => document.querySelector(`#job-${job} .state-${state}`) && resolve(Date.now());
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
  look();
})"""


@pytest.fixture(scope="module")
def jobs(site) -> dict[str, int]:
    """One that trains for as long as the tests may need, and two that wait behind it; newest first in the list."""
    long = {"epochs": 500, "samples": 320, "step_seconds": 0.1, "checkpoint_every_epochs": 0}
    found = {"training": site.submit(job_name="the long one", **long)}
    site.wait_for_step(found["training"], 2)
    found["second"] = site.submit(job_name="the second", **long)
    found["first"] = site.submit(job_name="the first", **long)
    return found


def focused(page) -> str:
    return page.evaluate("document.activeElement.textContent")


def test_keys_walk_search_tick_and_steer(site, visit, jobs):
    page = visit("/")
    for key, name in (("j", "the first"), ("j", "the second"), ("k", "the first"), ("k", "the first")):
        page.keyboard.press(key)
        assert focused(page) == name
    page.keyboard.press("?")
    assert "Select the job" in page.locator("dialog#keys[open]").inner_text()
    page.keyboard.press("j")  # nothing while a dialog is open
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("jkxp?g")
    assert page.locator("#search").input_value() == "jkxp?g"
    assert page.locator("dialog[open]").count() == 0
    page.fill("#search", "")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("p")
    page.locator("dialog[open] h1", has_text=f"Pause job {jobs['first']}").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{site.url}/jobs/{jobs['first']}/")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url(f"{site.url}/activity/")
    page.locator(".activity li").first.wait_for()


def test_what_the_server_has_no_time_for_is_told_in_its_words_and_times_to_come_are_ahead(visit, jobs):
    page = visit(f"/jobs/{jobs['first']}/", ignore=("429",))
    too_much = "Too many requests. Try again in 3 s."

    def refuse(route) -> None:
        if route.request.method == "POST":
            route.fulfill(status=429, content_type="text/plain; charset=utf-8", body=too_much)
        else:
            route.continue_()

    page.route("**/pause/", refuse)
    page.click('#head button[data-verb="pause"]')
    page.locator("dialog[open] button:not([type=button])").click()
    page.locator("#messages", has_text=too_much).wait_for()
    ago = "import('/static/heimdall/format.js').then((format) => format.ago(Date.now() + 125_400))"
    assert page.evaluate(ago) == "in 2 min 05 s"


def test_ticked_jobs_are_paused_and_resumed_together(site, visit, jobs):
    page = visit("/")
    page.evaluate("window.neverReloaded = true")
    assert page.locator("#bulk").is_hidden()
    for _ in range(2):
        page.keyboard.press("j")
        page.keyboard.press("x")
    assert page.locator("#num-selected").inner_text() == "2 selected"
    page.locator(f"#job-{jobs['training']} input[type=checkbox]").click()
    assert page.locator("#tick-all").is_checked()
    page.locator(f"#job-{jobs['training']} input[type=checkbox]").click()
    page.keyboard.press("p")
    dialog = page.locator("dialog#dialog[open]")
    assert "Pause 2 jobs?" in dialog.inner_text()
    dialog.locator("button:not([type=button])").click()
    for name in ("first", "second"):
        page.locator(f"#job-{jobs[name]} .state-paused").wait_for()
    assert "Pause: 2 jobs done." in page.locator("#messages").inner_text()
    until(page, page.locator("#bulk").is_hidden)
    page.locator("#tick-all").click()
    page.locator('#bulk button[value="resume"]').click()
    assert "1 of the 3 cannot be asked to resume now" in dialog.inner_text()
    dialog.locator("button:not([type=button])").click()
    for name in ("first", "second"):
        page.locator(f"#job-{jobs[name]} .state-queued").wait_for()
    assert "1 job not, #" in page.locator("#messages").inner_text()
    assert page.evaluate("window.neverReloaded") is True


def test_two_browsers_see_the_same_change_within_a_second(site, visit, jobs):
    one, other = visit("/"), visit("/?ordering=job_name")
    for page in (one, other):
        page.locator("#link-state", has_text="live").wait_for()
    for page in (one, other):
        page.evaluate(f"void (window.seen = ({WATCH})({[jobs['first'], 'paused']}))")
    asked_at = one.evaluate("Date.now()")
    site.pause(jobs["first"])
    seen = [page.evaluate("window.seen") - asked_at for page in (one, other)]
    print(f"seen after {seen} ms")
    assert max(seen) < 1000 * PATIENCE
    site.verb(jobs["first"], "resume")


def test_the_small_curve_grows_while_the_job_trains(site, visit, jobs):
    page = visit("/")
    curve = page.locator(f"#job-{jobs['training']} [data-spark] path")
    before = curve.get_attribute("d")
    until(page, lambda: curve.get_attribute("d") != before)
    words = page.locator(f"#job-{jobs['training']} [data-spark]").get_attribute("aria-label")
    assert re.fullmatch(r"Loss from [\d.e-]+ to [\d.e-]+ in [\d,]+ steps", words)


def test_a_filtered_list_is_saved_under_a_name_and_kept_live(site, visit, jobs):
    page = visit("/")
    page.locator("#filters summary").click()
    page.get_by_label("Owner").select_option("me")
    page.get_by_label("Order").select_option("job_name")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(f"{site.url}/?**ordering=job_name**")
    page.get_by_text("No job matches").wait_for()  # Anna has none: the token is the administrator's
    page.locator("#views summary").click()
    page.get_by_label("Save this list as").fill("mine by name")
    page.get_by_role("button", name="Save").click()
    page.locator("h1", has_text="mine by name").wait_for()
    page.goto(f"{site.url}/?status=queued")
    page.evaluate("window.neverReloaded = true")
    row = page.locator(f"#job-{jobs['second']}")
    row.wait_for()
    site.pause(jobs["second"])
    row.wait_for(state="detached")
    site.verb(jobs["second"], "resume")
    row.wait_for()
    assert page.evaluate("window.neverReloaded") is True
    page.locator("#views summary").click()
    page.locator(".saved a", has_text="mine by name").click()
    page.wait_for_url(f"{site.url}/?owner=me&ordering=job_name")


def test_after_the_server_was_away_the_list_shows_what_happened_meanwhile(site, visit, jobs):
    page = visit("/", ignore=("WebSocket", "ERR_CONNECTION_REFUSED", "Failed to fetch"))
    page.evaluate("window.neverReloaded = true")
    page.locator("#link-state", has_text="live").wait_for()
    site.web.kill()
    site.web.wait()
    page.locator("#link-state", has_text="reconnecting").wait_for()
    words = ("job", "pause", str(jobs["first"]), "--as", "anna")
    assert site.start(*words).wait(timeout=60 * PATIENCE) == 0
    assert page.locator(f"#job-{jobs['first']} .state-queued").count() == 1
    site.start_web()
    page.locator("#link-state", has_text="live").wait_for()
    page.locator(f"#job-{jobs['first']} .state-paused").wait_for()
    assert page.evaluate("window.neverReloaded") is True
    site.verb(jobs["first"], "resume")


def test_without_javascript_jobs_are_ticked_paused_sorted_and_filtered(site, visit, jobs):
    page = visit("/", java_script_enabled=False)
    page.locator(f"#job-{jobs['second']} input[type=checkbox]").check()
    page.locator('#bulk button[value="pause"]').click()
    page.locator("form[data-ask] button").click()
    page.locator(f"#job-{jobs['second']} .state-paused").wait_for()
    assert "Pause: 1 job done." in page.locator("#messages").inner_text()
    page.locator("th a", has_text="Job").click()
    assert page.locator("#rows [data-open]").all_inner_texts() == ["the first", "the long one", "the second"]
    page.locator("#filters summary").click()
    page.get_by_label("Submitted").select_option("1d")
    page.get_by_role("button", name="Show").click()
    page.locator(".chips", has_text="last 24 hours").wait_for()
    page.locator(f"#job-{jobs['second']} button", has_text="Resume").click()
    page.locator("form[data-ask] button").click()
    page.locator("#messages", has_text="goes on from step 0").wait_for()


def test_on_a_phone_the_pages_fold_and_nothing_is_wider_than_the_screen(site, visit, jobs):
    page = visit("/", viewport={"width": 390, "height": 800}, color_scheme="dark", reduced_motion="reduce")
    assert page.locator("nav#pages").is_hidden()
    page.click("#menu")
    page.locator("nav#pages a", has_text="Activity").click()
    page.wait_for_url(f"{site.url}/activity/")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{site.url}/?owner=me&since=7d&status=running")
    page.locator("#filters summary").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(site.url)
    row = page.locator(f"#job-{jobs['training']}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert row.locator(".badge .icon").evaluate("(icon) => getComputedStyle(icon).animationName") == "none"
    press(page, "pause")
    page.locator("#messages", has_text="is paused").wait_for()
