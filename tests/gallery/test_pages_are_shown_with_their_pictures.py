"""docs/pages.md has a place for each page, shows every picture that was taken, and no other; all are small."""

import re

from tests.gallery.screenshots import FOLDER, MARK, MOST_BYTES, PAGES, with_pictures
from tests.gallery.stage import SHOTS

TEXT = PAGES.read_text()


def test_every_page_has_its_place():
    assert sorted(mark[0] for mark in MARK.findall(TEXT)) == sorted(shot.name for shot in SHOTS)


def test_what_is_shown_is_what_was_taken():
    assert with_pictures(TEXT) == TEXT
    assert {file.name for file in FOLDER.glob("*")} == set(re.findall(r"\(images/pages/([\w.-]+)\)", TEXT))


def test_together_they_are_small():
    assert sum(file.stat().st_size for file in FOLDER.glob("*")) < MOST_BYTES
