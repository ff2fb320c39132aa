"""axe-core finds nothing serious on the pages that people see most, in both themes. `make axe` asks all pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import NAME, PASSWORD
from tests.gallery.axe import findings
from tests.gallery.stage import THEMES
from tests.support.running import Site, running

pytestmark = [pytest.mark.browser, pytest.mark.processes]


@pytest.fixture(scope="module")
def site(chromium, tmp_path_factory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("axe"), worker=False) as site:
        site.add_superuser(NAME, PASSWORD)
        yield site


def test_axe_finds_nothing_serious(chromium, site, visit):
    job = site.submit(job_name="north")
    page = visit("/")
    found = {}
    for path in ("/", f"/jobs/{job}/", "/jobs/new/"):
        page.goto(site.url + path)
        found |= {(path, theme): _in_theme(page, theme) for theme in THEMES}
    page.locator("text=Log out").click()
    page.wait_for_url("**/login/**")
    found |= {("/login/", theme): _in_theme(page, theme) for theme in THEMES}
    assert {place: problems for place, problems in found.items() if problems} == {}


def test_axe_is_really_asked(chromium):
    page = chromium.new_page()
    page.set_content(
        '<html lang="en"><title>x</title><main><h1>x</h1><img src="data:,"><button></button></main>'
    )
    assert {line.partition(":")[0] for line in findings(page)} == {"critical"}
    page.close()


def _in_theme(page, theme: str) -> list[str]:
    page.emulate_media(color_scheme=theme)
    return findings(page)
