"""Logged-in browsers without JavaScript, and a reader of buttons."""

import re
from html import unescape

import pytest
from django.test import Client


@pytest.fixture
def browse():
    """browse(user): a client that is logged in, and checks CSRF as a browser's server would."""

    def open_for(user, **options) -> Client:
        client = Client(**options)
        client.force_login(user)
        return client

    return open_for


def html(response) -> str:
    """The text of a page that was found, or of its form with what was refused. A page that is not there must not pass
    for one that lacks something."""
    assert response.status_code in (200, 201, 400), (response.status_code, response.content[:200])
    return response.content.decode()


def buttons(text: str) -> dict[str, bool]:
    """The verbs that a page offers as buttons: True where the button can be pressed."""
    found = re.findall(r"<button\b[^>]*\bdata-verb=\"(\w+)\"([^>]*)>", text)
    return {verb: "disabled" not in rest for verb, rest in found}


def words(text: str) -> str:
    """What a reader sees of a page, roughly: no tags, one space between words."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())
