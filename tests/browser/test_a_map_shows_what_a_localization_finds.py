"""The map of a dataset and of a training, drawn live, zoomed and read, with nothing from the internet."""

import re

import pytest

from tests.browser.test_a_person_watches_and_steers_a_job_without_a_reload import until

pytestmark = [pytest.mark.browser, pytest.mark.processes]


@pytest.fixture(scope="module")
def jobs(site) -> tuple[int, int]:
    """A dataset's job that is done, and a training that goes on for long."""
    config = {"samples": 600, "samples_per_shard": 300, "seed": 2}
    data = site.post("/jobs", {"job_name": "plain", "recipe": "rf_dataset", "config": config})["id"]
    site.wait_for_status(data, "completed")
    config = {
        "dataset": "plain", "samples": 600, "epochs": 500, "batch_size": 64, "width": 8, "heads": 2, "layers": 1,
        "refinements": 1, "validation_split": 0.2, "early_stop_patience": 0, "checkpoint_every_epochs": 0,
        "device": "cpu",
    }  # fmt: skip
    job = site.post("/jobs", {"job_name": "where", "recipe": "localization", "config": config})["id"]
    site.wait_for(job, lambda seen: seen["current_epoch"] >= 1)
    return data, job


def scale(page) -> str:
    return page.locator(".plane .scale text").text_content()


def test_a_dataset_is_seen_on_a_map_and_in_histograms(site, visit, jobs):
    page = visit("/datasets/plain/")
    page.locator(".plane .samples circle").first.wait_for()
    assert page.locator(".plane .samples circle").count() == 300
    assert page.locator(".plane .receivers path").count() == 7
    assert page.locator(".plots svg").count() == 5
    assert "first 300 of 600 samples" in page.locator("#map").inner_text()
    title = page.locator(".samples circle title").first.text_content()
    assert re.fullmatch(r"\d receivers hear it; at best it is located to [\d.]+ k?m", title)
    before = scale(page)
    page.get_by_role("button", name="Zoom in").click()
    until(page, lambda: scale(page) != before)
    page.locator(".plane").focus()
    page.keyboard.press("0")
    until(page, lambda: scale(page) == before)


def test_a_training_is_drawn_epoch_after_epoch_without_a_reload(site, visit, jobs):
    page = visit(f"/jobs/{jobs[1]}/")
    page.evaluate("window.neverReloaded = true")
    page.locator(".located ellipse").first.wait_for()
    assert page.locator(".located .truth").count() == page.locator(".located .estimate").count() > 80
    epoch = page.locator("#errors header span")
    before = epoch.text_content()
    until(page, lambda: epoch.text_content() != before)
    assert page.locator("#errors path.curve").count() == 3
    assert page.locator("#errors tbody tr").count() == 3
    assert page.locator("#calibration circle.dot").count() == 2
    assert page.locator("#calibration path.curve.other").count() == 1
    assert "As large as the network itself states" in page.locator("#calibration").inner_text()
    assert "of the true positions" in page.locator("#calibration").inner_text()
    assert re.match(r"error [\d.]+ k?m, bound ", page.locator(".located title").first.text_content())
    page.get_by_label("Errors drawn").select_option("1")
    assert "in the scale of the map" in page.locator("#map").inner_text()
    assert page.evaluate("window.neverReloaded") is True
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    outside = [name for name in loaded if not name.startswith(site.url)]
    assert outside == []


def test_on_a_phone_in_the_dark_nothing_is_wider_than_the_screen(site, visit, jobs):
    page = visit(f"/jobs/{jobs[1]}/", viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.locator(".located ellipse").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{site.url}/datasets/plain/")
    page.locator(".plane .samples circle").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_javascript_the_pages_say_so_and_show_the_numbers(site, visit, jobs):
    page = visit("/datasets/plain/", java_script_enabled=False)
    assert "need JavaScript" in page.locator("article").inner_text()
    assert "600 samples in 2 files" in page.locator("#head").inner_text()
