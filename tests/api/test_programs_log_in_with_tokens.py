"""A token is shown once and kept as a hash; it is named, may expire, may only read, and is refused once revoked."""

import io
import json
import logging
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from heimdall.errors import InvalidInput
from training.models import ApiToken
from training.services import tokens

pytestmark = pytest.mark.django_db
URL = "/v1/training/jobs"


def status(header: str) -> int:
    return Client().get(URL, headers={"Authorization": header}).status_code


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("token", *words, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


def test_bearer_and_token_say_the_same_and_nothing_else_is_taken(alice):
    _, value = tokens.make_token(alice, name="ci")
    good = [f"Bearer {value}", f"Token {value}", f"bearer  {value} ", f"TOKEN {value}"]
    assert [status(header) for header in good] == [200] * 4
    bad = [
        f"Basic {value}",
        f"Bearer {value[:-1]}",
        f"Bearer {value}0",
        f"Bearer{value}",
        "Bearer",
        "Token ",
        value,
    ]
    bad += [
        f"Bearer {value.upper()}",
        f"Bearer {tokens.digest_of(value)}",
        "Bearer \x00",
        f"Bearer {value} x",
    ]
    assert [status(header) for header in bad] == [401] * len(bad)
    assert Client().get(URL).headers["WWW-Authenticate"] == "Bearer"


def test_the_value_is_neither_kept_nor_logged(alice, caplog):
    with caplog.at_level(logging.DEBUG):
        made, value = tokens.make_token(alice, name="ci")
        assert status(f"Bearer {value}") == 200
        tokens.revoke_token(ApiToken.objects.get(pk=made.pk))
        assert status(f"Bearer {value}") == 401
    assert value not in caplog.text
    assert value.removeprefix(tokens.PREFIX) not in caplog.text
    tokens.make_token(alice, name="ci")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM training_apitoken")
        assert tokens.PREFIX not in str(cursor.fetchall())


def test_a_token_is_refused_from_its_expiry_on_and_from_its_persons_end_on(alice):
    made, value = tokens.make_token(alice, name="ci", days=1)
    assert timezone.now() < made.expires_at < timezone.now() + timedelta(days=1, minutes=5)
    assert status(f"Bearer {value}") == 200
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=60))
    assert status(f"Bearer {value}") == 401
    ApiToken.objects.update(expires_at=None)
    assert status(f"Bearer {value}") == 200
    alice.is_active = False
    alice.save()
    assert status(f"Bearer {value}") == 401


def test_when_it_was_used_is_noted_once_a_minute(alice, django_assert_num_queries):
    made, value = tokens.make_token(alice, name="ci")
    assert made.last_used_at is None
    tokens.person_with(value)
    first = ApiToken.objects.get().last_used_at
    assert first is not None
    with django_assert_num_queries(1):
        tokens.person_with(value)
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    tokens.person_with(value)
    assert ApiToken.objects.get().last_used_at >= first


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "ci", "scope": "root"}, "scope"),
        ({"name": "ci", "days": 0}, "days"),
        ({"name": "ci", "days": 1_000_000_000}, "days"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(alice, given, field):
    with pytest.raises(InvalidInput) as refused:
        tokens.make_token(alice, **given)
    assert list(refused.value.fields) == [field]
    assert not ApiToken.objects.exists()


def test_names_are_ones_own_and_there_is_a_bound(alice, bob, monkeypatch):
    tokens.make_token(alice, name="ci")
    tokens.make_token(bob, name="ci")
    with pytest.raises(InvalidInput, match="There is a token called ci"):
        tokens.make_token(alice, name="ci")
    monkeypatch.setattr(tokens, "MOST", 1)
    with pytest.raises(InvalidInput, match="revoke one first"):
        tokens.make_token(alice, name="more")


def test_a_command_makes_lists_and_revokes_them(alice, bob):
    value = run("create", "night sweep", "--scope", "read", "--days", "7", "--as", "alice")
    assert status(f"Bearer {value}") == 200
    made = json.loads(run("create", "ci", "--as", "alice", "--json"))
    assert status(f"Bearer {made['token']}") == 200
    assert (made["name"], made["scope"], made["expires_at"]) == ("ci", "admin", None)

    shown = run("list", "--as", "alice")
    assert all(word in shown for word in ("night sweep", "read", "ci", "admin", "never"))
    assert value not in run("list", "--as", "alice", "--json")
    assert run("list", "--as", "bob") == "No tokens."
    with pytest.raises(SystemExit) as ended:
        run("revoke", "ci", "--as", "bob")
    assert ended.value.code == 5
    assert run("revoke", "night sweep", "ci", "--as", "alice") == "Revoked night sweep.\nRevoked ci."
    assert [status(f"Bearer {one}") for one in (value, made["token"])] == [401, 401]
    with pytest.raises(CommandError, match="no scope; there are: read, act, submit, admin"):
        run("create", "x", "--scope", "root", "--as", "alice")
