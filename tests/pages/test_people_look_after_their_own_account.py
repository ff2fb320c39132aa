"""A person changes the password and makes the tokens that programs use, without an administrator."""

import re

import pytest
from django.test import Client

from tests.pages.conftest import html, words
from tests.support.tokens import token_of
from training.models import ApiToken
from training.presentation import throttles

pytestmark = pytest.mark.django_db
PAGE, TOKENS = "/settings/account/", "/settings/account/tokens/"
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


def test_a_token_is_shown_once_listed_without_its_value_and_revoked(browse, alice, bob):
    client, others = browse(alice), token_of(bob)
    assert "You have none." in words(html(client.get(PAGE)))
    answer = client.post(TOKENS, {"name": "night sweep", "scope": "read", "days": "30"})
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    value = re.search(r'id="key">(\w+)<', html(answer))[1]
    assert knows(value) == 200
    page = html(client.get(PAGE))
    assert value not in page
    assert all(said in words(page) for said in ("night sweep", "read only"))
    assert ApiToken.objects.get(user=alice).last_used_at is not None

    revoke = f"{TOKENS}{ApiToken.objects.get(user=alice).pk}/revoke/"
    assert "Revoke the token night sweep?" in words(html(client.get(revoke)))
    assert browse(bob).post(revoke).status_code == 404
    assert knows(value) == 200
    assert client.post(revoke).status_code == 302
    assert [knows(value), knows(others)] == [401, 200]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": " ", "scope": "admin"}, "This field is required."),
        ({"name": "a\u202eb", "scope": "admin"}, "control character"),
        ({"name": "taken", "scope": "admin"}, "There is a token called taken"),
        ({"name": "x", "scope": "root"}, "not one of the available choices"),
        ({"name": "x", "scope": "admin", "days": "99999"}, "not one of the available choices"),
    ],
)
def test_a_token_that_is_refused_says_why_beside_its_field(browse, alice, given, says):
    client = browse(alice)
    assert client.post(TOKENS, {"name": "taken", "scope": "admin", "days": ""}).status_code == 201
    answer = client.post(TOKENS, given)
    assert answer.status_code == 400
    assert says in words(html(answer))
    assert ApiToken.objects.filter(user=alice).count() == 1
