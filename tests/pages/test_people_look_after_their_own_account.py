"""A person changes the password and makes the token that programs use, without an administrator."""

import re

import pytest
from django.test import Client
from rest_framework.authtoken.models import Token

from tests.pages.conftest import html, words
from training.presentation import throttles

pytestmark = pytest.mark.django_db
PAGE, TOKEN = "/settings/account/", "/settings/account/token/"
OLD, NEW = "long enough for a test", "another one, as long"


@pytest.fixture
def alice(alice):
    alice.set_password(OLD)
    alice.save()
    return alice


def asked(old: str, new: str, again: str | None = None) -> dict[str, str]:
    return {"old_password": old, "new_password1": new, "new_password2": new if again is None else again}


def knows(key: str) -> int:
    return Client(headers={"authorization": f"Token {key}"}).get("/v1/training/jobs").status_code


def test_a_new_password_keeps_this_browser_and_logs_out_the_others(browse, alice):
    here, elsewhere = browse(alice), browse(alice)
    assert here.post(PAGE, asked(OLD, NEW)).status_code == 302
    assert "The password is changed." in words(html(here.get(PAGE)))
    assert elsewhere.get("/").status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (asked("wrong", NEW), "incorrectly"),
        (asked(OLD, NEW, "no"), "match"),
        (asked(OLD, "12345678"), "too common"),
    ],
)
def test_a_password_that_is_refused_changes_nothing_and_says_why(browse, alice, given, says):
    answer = browse(alice).post(PAGE, given)
    assert answer.status_code == 400
    assert says in words(html(answer))
    alice.refresh_from_db()
    assert alice.check_password(OLD)


def test_who_has_only_the_session_cannot_try_passwords(browse, alice, settings):
    rates = {"DEFAULT_THROTTLE_RATES": {"login": "2/min", "verbs": "9/min"}}
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | rates
    for window in (throttles.logins, throttles.verbs):
        window.forget()
    client = browse(alice)
    assert [client.post(PAGE, asked("wrong", NEW)).status_code for _ in range(3)] == [400, 400, 429]
    throttles.logins.forget()


def test_a_token_is_shown_once_and_the_one_before_is_refused(browse, alice, bob):
    client, others = browse(alice), Token.objects.create(user=bob)
    assert "You have none." in words(html(client.get(PAGE)))
    keys = []
    for _ in range(2):
        answer = client.post(f"{TOKEN}new/")
        assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
        keys.append(re.search(r'id="key">(\w+)<', html(answer))[1])
    assert [knows(key) for key in keys] == [401, 200]
    assert keys[1] not in html(client.get(PAGE))
    assert "Make a new token?" in words(html(client.get(f"{TOKEN}new/")))
    assert client.post(f"{TOKEN}delete/").status_code == 302
    assert [knows(keys[1]), knows(others.key)] == [401, 200]
    assert client.get(f"{TOKEN}nonsense/").status_code == 404
