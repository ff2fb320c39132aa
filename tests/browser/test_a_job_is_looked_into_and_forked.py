"""Curves zoom and smooth, settings are copied, a checkpoint is forked with another rate, jobs are compared."""

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.processes]


@pytest.fixture(scope="module")
def finished(site) -> int:
    job = site.submit(job_name="parent", epochs=2, samples=640, lr_scheduler="constant", learning_rate=0.01)
    site.wait_for_status(job, "completed")
    return job


def test_a_range_of_the_curve_is_fetched_again_and_left(visit, finished):
    page = visit(f"/jobs/{finished}/")
    page.locator("#chart canvas").first.wait_for()
    last = page.locator('input[name="to"]').input_value()
    page.locator("#chart .u-over").first.hover()  # which waits until it lies still
    box = page.locator("#chart .u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40, steps=4)
    with page.expect_response(lambda answer: "/curve?" in answer.url and "from=" in answer.url) as asked:
        page.mouse.up()
    shown = asked.value.json()
    assert 1 < shown["from"] < shown["to"] < int(last)
    page.get_by_role("button", name="Whole curve").click()
    page.get_by_role("button", name="Whole curve").wait_for(state="hidden")
    for x in ("epoch", "time", "elapsed"):
        page.select_option('select[name="x"]', x)
    page.fill('input[name="smoothing"]', "0.8")
    assert page.locator("#curve-tools output").inner_text() == "0.80"
    # A metric is put into another panel, which is kept for this person, and taken back.
    page.select_option('#panel-adder select[name="metric"]', "learning_rate")
    page.select_option('#panel-adder select[name="into"]', "loss,val_loss")
    with page.expect_response(lambda answer: "/settings/layouts/" in answer.url) as kept:
        page.get_by_role("button", name="Add", exact=True).click()
    assert kept.value.ok
    mixed = '[data-panel="loss,val_loss,learning_rate"]'
    page.locator(f"{mixed} .legend", has_text="learning_rate").wait_for()
    page.reload()
    page.locator(f"{mixed} canvas").wait_for()
    page.get_by_role("button", name="The usual panels").click()
    page.locator('[data-panel="loss,val_loss"] canvas').wait_for()


def test_values_that_are_logged_now_and_then_are_joined_and_one_that_is_missing_is_a_gap(visit, finished):
    page = visit(f"/jobs/{finished}/")
    page.locator("#chart canvas").first.wait_for()
    joined = page.evaluate(r"""async () => {
      const names = performance.getEntriesByType("resource").map(one => one.name);
      const { isJoined } = await import(names.find(name => /[/]linedata[.][^/]*js$/.test(name)));
      return [[null, 3, null, null, 2], [5, 4, null, 3, 2], [5]].map(means => isJoined({ means }));
    }""")
    assert joined == [True, False, True]


def test_settings_are_copied_without_a_permission(visit, finished):
    page = visit(f"/jobs/{finished}/")
    page.get_by_text("As JSON, curl and command").click()
    page.get_by_role("button", name="Copy as command").click()
    page.locator("#messages", has_text="Copied.").or_(page.locator("dialog textarea")).first.wait_for()


def test_a_fork_starts_from_the_checkpoint_with_the_rate_that_was_asked(site, visit, finished):
    page = visit(f"/jobs/{finished}/fork/")
    page.get_by_label("Epochs", exact=True).fill("3")
    page.get_by_label("Learning rate", exact=True).fill("0.002")
    page.click("text=Queue the job")
    page.locator("h1", has_text="parent (fork)").wait_for()
    fork = int(page.url.rstrip("/").rpartition("/")[2])
    site.wait_for_status(fork, "completed")
    curve = page.evaluate(
        f"fetch('/v1/training/jobs/{fork}/curve?metric=learning_rate').then((a) => a.json())"
    )
    parent = site.job(finished)
    assert curve["first_step"] == parent["current_step"] + 1
    assert set(curve["series"][0]["means"]) == {0.002}
    assert site.job(fork)["current_epoch"] == 3
    page.get_by_text("0.002 asked, 0.002 effective").wait_for()

    page.get_by_role("link", name="compare").click()
    page.locator("#chart canvas").first.wait_for()
    assert "parent (fork)" in page.locator("#chart .legend").first.inner_text()
    assert page.get_by_text("2 differ").is_visible()
