"""Reports given to a completed localization's page: a map, files, and a training for the receivers."""

import json

import pytest

from tests.browser.test_a_person_watches_and_steers_a_job_without_a_reload import until
from tests.support.radio_reports import ITALY, lines, table

pytestmark = [pytest.mark.browser, pytest.mark.processes]
SENT = (44.9, 8.3, 205.0)
SEVEN = list(ITALY.values())


@pytest.fixture(scope="module")
def job(site) -> int:
    config = {
        "samples": 400, "epochs": 1, "batch_size": 64, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
        "device": "cpu",
    }  # fmt: skip
    made = site.post("/jobs", {"job_name": "where", "recipe": "localization", "config": config})["id"]
    site.wait_for_status(made, "completed")
    return made


def test_reports_become_a_map_files_and_a_training(site, visit, job, tmp_path):
    file = tmp_path / "evening.csv"
    mirrored = [ITALY[name] for name in ("Torino", "Genova", "Milano-Baggio")]
    file.write_bytes(table(lines("<i>one", SENT, SEVEN), lines("two", (45.05, 7.2, 205.0), mirrored)))
    page = visit(f"/jobs/{job}/")
    page.get_by_role("link", name="Locate").click()
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Locate").click()
    page.locator("#map path.coast").wait_for(state="attached")
    assert page.locator("#map path.receiver").count() == 7
    assert (
        page.locator("#map path.by-network, #map path.by-classical").count() == 6
    )  # two positions, four ellipses
    assert page.locator("#map path.other").count() == 1
    assert page.locator("#located tbody b").first.inner_text() == "<i>one"
    scale = page.locator(".leaflet-control-scale-line")
    before = scale.inner_text()
    page.get_by_role("button", name="Zoom in").click()
    until(page, lambda: scale.inner_text() != before)
    pane = page.locator("#map .leaflet-map-pane")
    stood = pane.get_attribute("style")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 120, box["y"] + 150, steps=5)
    page.mouse.up()
    until(page, lambda: pane.get_attribute("style") != stood)
    assert_no_name_covers_another(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="GeoJSON").click()
    assert json.loads(download.value.path().read_text())["type"] == "FeatureCollection"
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith(site.url)] == []
    page.get_by_role("button", name="Train for these receivers").click()
    page.get_by_role("button", name="Queue dataset and training").click()
    page.wait_for_url(f"{site.url}/jobs/{job + 2}/")
    assert page.get_by_text("It waits for the data.").is_visible()
    for number in (job + 2, job + 1):
        site.verb(number, "cancel")


def assert_no_name_covers_another(page) -> None:
    """Coazze and Aquila di Giaveno stand two kilometres apart."""
    shown = page.locator("#map .leaflet-tooltip:not(.covered)")
    assert shown.count() >= 5
    boxes = [one.bounding_box() for one in shown.all()]
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] + 1 or other["x"] + other["width"] <= one["x"] + 1
            above = one["y"] + one["height"] <= other["y"] + 1 or other["y"] + other["height"] <= one["y"] + 1
            assert beside or above


def test_on_a_phone_in_the_dark_nothing_is_wider_than_the_screen(visit, job):
    page = visit(f"/jobs/{job}/locate/", viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.fill("#text", table(lines("one", SENT, SEVEN)).decode())
    page.locator("button[value=page]").click()
    page.locator("#map path.coast").wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
